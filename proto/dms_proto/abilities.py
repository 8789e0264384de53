"""What a job can have beside its program, by the executor that runs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Ability(StrEnum):
    """One such thing, named as the field of the job document that asks for it."""

    PORTS = "ports"
    EXEC = "exec"
    EGRESS = "egress"
    NAMES = "names"


ABILITIES: Final[Mapping[str, frozenset[Ability]]] = {
    "sandbox": frozenset(Ability),
    "oci": frozenset(Ability),
    "python": frozenset((Ability.EXEC, Ability.EGRESS)),
    "wasm": frozenset(),
}
"""A worker that runs Python is called, at the one door that it has; a WebAssembly module has no network, and nothing runs beside it."""
IN_WORDS: Final[Mapping[Ability, str]] = {
    Ability.PORTS: "have ports",
    Ability.EXEC: "let commands be run beside them",
    Ability.EGRESS: "connect to elsewhere",
    Ability.NAMES: "have names",
}


def has(executor: str, ability: Ability) -> bool:
    """Whether jobs of that executor can have it."""
    return ability in ABILITIES.get(executor, ())


def lack(executor: str, ability: Ability) -> str:
    """Why a job cannot have it there, and where it could; "" where it can."""
    if has(executor, ability):
        return ""
    return f"only jobs of {able(ability)} {IN_WORDS[ability]}; the executor is {executor!r}"


def able(ability: Ability) -> str:
    """The executors whose jobs can have it, as a sentence names them."""
    *others, last = (name for name in ABILITIES if has(name, ability))
    return f"{', '.join(others)} and {last}" if others else last


def of(executor: str) -> str:
    """What its jobs can have, as a list names it."""
    return ", ".join(ability for ability in Ability if has(executor, ability)) or "nothing"
