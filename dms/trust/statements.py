"""The vocabulary of our grants: rights as Datalog statements of a Biscuit block, and back.

===================================================================  ==========================================
statement                                                            right
===================================================================  ==========================================
``check if cpu($x), $x <= 4000``                                     a ceiling, for each of `CEILINGS`
``check if kind($x), ["invoke", "request"].contains($x)``            a list, for each of `LISTS`
``check if time($x), $x <= 2030-01-01T00:00:00Z``                    the end
``own(true)``, in the first block only                               the holder is a machine of the same owner
``delegator("12D3…")``, in every other block, once                   who has made this grant of the one before, and may revoke it
===================================================================  ==========================================

They are ordinary Biscuit checks: any Biscuit library that is told the facts of a use decides as `Rights` does (a property test compares the two).
A block with any other statement is not understood, and the grant is refused: what was meant as a limit must not be overlooked. Biscuit prints strings
without escaping them; that a statement is read as another one can only narrow the grant further, since every block but the first is read as limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from dms_proto.grants.rights import CEILINGS, LISTS, TIME, Rights
from dms_proto.ids import PeerId
from dms_proto.units import SECOND

_VALUE: Final = "[A-Za-z0-9_-]+"
_BOUND: Final = re.compile(
    rf"check if (?:({'|'.join(CEILINGS)})\(\$x\), \$x <= (\d{{1,16}})"
    rf'|({"|".join(LISTS)})\(\$x\), \[((?:"{_VALUE}"(?:, )?)*)\]\.contains\(\$x\)'
    r"|time\(\$x\), \$x <= (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ));"
)
"""One statement that bounds: a ceiling and its amount, a list and its values, or the end."""
_VALUES: Final = re.compile(_VALUE)
_DELEGATOR: Final = re.compile(rf'delegator\("({_VALUE})"\);')
_OWN: Final = "own(true)"
_OWN_LINE: Final = f"{_OWN};"
NOBODY: Final = PeerId("")
LATEST: Final = 253_402_300_799_000
"""The last second that can be written, in Unix ms: the year 9999."""
CACHED: Final = 1_024
"""Blocks whose reading is remembered, of at most 4 KiB each: grants that one was narrowed to share all of its blocks but the last."""


class Said(NamedTuple):
    """What a block says. `delegator`: who made it, by its own word; empty: nobody says so."""

    rights: Rights
    delegator: PeerId = NOBODY


def statements(rights: Rights, delegator: PeerId = NOBODY) -> str:
    """The rights as the source of a block, and who has passed the grant on with it.

    Raises:
        ValueError: a list is empty, or an end lies beyond the year 9999: what cannot be written is not granted.
    """
    named = [f'delegator("{delegator}")'] if delegator else []
    return "".join(f"{line};\n" for line in (*named, *_lines(rights)))


@lru_cache(maxsize=CACHED)
def read_statements(source: str, *, is_first: bool) -> Said | None:
    """What a block says, or None when it says anything that is not in the vocabulary."""
    own, delegator = False, PeerId("")
    at_most: dict[str, int] = {}
    one_of: dict[str, tuple[str, ...]] = {}
    for line in source.splitlines():
        if line == _OWN_LINE and is_first:
            own = True
            continue
        named = _DELEGATOR.fullmatch(line)
        if named is not None and not is_first and not delegator:
            delegator = PeerId(named[1])
            continue
        bound = _BOUND.fullmatch(line)
        if bound is None:
            return None
        ceiling, amount, listed, values, end = bound.groups()
        if listed is not None:
            allowed = set(_VALUES.findall(values))
            one_of[listed] = tuple(sorted(allowed.intersection(one_of.get(listed, allowed))))
        else:
            name, most = (ceiling, int(amount)) if ceiling is not None else (TIME, _ms_of(end))
            at_most[name] = min(most, at_most.get(name, most))
    return Said(Rights(at_most, one_of, own), delegator)


def _lines(rights: Rights) -> Iterator[str]:
    if rights.own:
        yield _OWN
    for name, most in rights.at_most.items():
        yield f"check if {name}($x), $x <= {_moment(most) if name == TIME else most}"
    for name, allowed in rights.one_of.items():
        if not allowed:
            raise ValueError(f"no {LISTS[name].words} are left to allow")
        listed = ", ".join(f'"{value}"' for value in allowed)
        yield f"check if {name}($x), [{listed}].contains($x)"


def _ms_of(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp()) * SECOND


def _moment(at: int) -> str:
    if at > LATEST:
        raise ValueError("a grant ends in the year 9999 at the latest")
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
