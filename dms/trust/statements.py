"""The vocabulary of our grants: rights as Datalog statements of a Biscuit block, and back.

===================================================================  ==========================================
statement                                                            right
===================================================================  ==========================================
``check if cpu($x), $x <= 4000``                                     a ceiling, for each of `CEILINGS`
``check if kind($x), ["invoke", "request"].contains($x)``            a list, for each of `LISTS`
``check if time($x), $x <= 2030-01-01T00:00:00Z``                    the end
``own(true)``, in the first block only                               the holder is a machine of the same owner
===================================================================  ==========================================

They are ordinary Biscuit checks: any Biscuit library that is told the facts of a use decides as `Rights` does (a property test compares the two).
A block with any other statement is not understood, and the grant is refused: what was meant as a limit must not be overlooked. Biscuit prints strings
without escaping them; that a statement is read as another one can only narrow the grant further, since every block but the first is read as limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from dms_proto.grants.rights import CEILINGS, LISTS, TIME, Rights
from dms_proto.units import SECOND

_VALUE: Final = "[A-Za-z0-9_-]+"
_CEILING: Final = re.compile(rf"check if ({'|'.join(CEILINGS)})\(\$x\), \$x <= (\d{{1,16}});")
_LIST: Final = re.compile(rf'check if ({"|".join(LISTS)})\(\$x\), \[((?:"{_VALUE}"(?:, )?)*)\]\.contains\(\$x\);')
_END: Final = re.compile(r"check if time\(\$x\), \$x <= (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ);")
_OWN: Final = "own(true)"
LATEST: Final = 253_402_300_799_000
"""The last second that can be written, in Unix ms: the year 9999."""


def statements(rights: Rights) -> str:
    """The rights as the source of a block.

    Raises:
        ValueError: a list is empty, or an end lies beyond the year 9999: what cannot be written is not granted.
    """
    return "".join(f"{line};\n" for line in _lines(rights))


def read_statements(source: str, *, is_first: bool) -> Rights | None:
    """What a block says, or None when it says anything that is not in the vocabulary."""
    rights = Rights()
    for line in source.splitlines():
        if line == f"{_OWN};" and is_first:
            rights = msgspec.structs.replace(rights, own=True)
            continue
        bound = _read(line)
        if bound is None:
            return None
        rights = rights.narrowed(bound)
    return rights


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


def _read(line: str) -> Rights | None:
    """One statement that bounds."""
    if (found := _CEILING.fullmatch(line)) is not None:
        return Rights(at_most={found[1]: int(found[2])})
    if (found := _LIST.fullmatch(line)) is not None:
        return Rights(one_of={found[1]: tuple(sorted(re.findall(_VALUE, found[2])))})
    if (found := _END.fullmatch(line)) is not None:
        return Rights(at_most={TIME: round(datetime.fromisoformat(found[1]).timestamp()) * SECOND})
    return None


def _moment(at: int) -> str:
    if at > LATEST:
        raise ValueError("a grant ends in the year 9999 at the latest")
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
