"""Diagrams and tables of the machines, for the concept pages."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from dms_proto.machine import Table

from .text import summary, table
from .transitions import PHASELESS, TABLES, stored

_CHANGES_NOTHING = "*nothing:* "


def diagram(name: str) -> str:
    """A state diagram, from the transitions that were seen."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for start, cause, end in sorted(stored()[name]):
        grouped[start, end].append(cause)
    lines = [f"    {_state(start)} --> {_state(end)}: {', '.join(causes)}" for (start, end), causes in grouped.items()]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```"


def transitions(name: str) -> str:
    """The same as text."""
    return table(("from", "cause", "to"), [(f"`{a}`", f"`{b}`", f"`{c}`") for a, b, c in sorted(stored()[name])])


def rows(name: str) -> str:
    """A machine's table: what each stimulus leads to, phase by phase. Phases that agree share a line."""
    machine: Table[Any] = {**TABLES, **PHASELESS}[name]
    meanings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    kinds = {}
    for (phase, kind), row in machine.items():
        kinds[kind.__name__] = kind
        ignored = row.handler.__qualname__.startswith("ignore.")
        meanings[kind.__name__][(_CHANGES_NOTHING if ignored else "") + row.because].append(str(phase))
    phases = len({phase for phase, _ in machine})
    lines = []
    for kind_name, by_meaning in meanings.items():
        for number, (meaning, where) in enumerate(by_meaning.items()):
            first = f"`{kind_name}` {summary(kinds[kind_name])}" if number == 0 else ""
            lines.append(
                (first, "any" if len(where) == phases else ", ".join(f"`{phase}`" for phase in where), meaning)
            )
    return table(("stimulus", "in phase", "what happens"), lines)


def _state(name: str) -> str:
    return "[*]" if name in ("new", "unknown") else name
