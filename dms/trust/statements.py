"""The vocabulary of our grants: rights as Datalog statements of a Biscuit block, and back.

===================================================================  ==========================================
statement                                                            right
===================================================================  ==========================================
``check if cpu($x), $x <= 4000``                                     a ceiling, for each of `CEILINGS`
``check if kind($x), ["invoke", "request"].contains($x)``            a list, for each of `LISTS`
``check if time($x), $x <= 2030-01-01T00:00:00Z``                    the end
``own(true)``, in the first block only                               the holder is a machine of the same owner
``delegator("12D3…")``, in every other block, once                   who has made this grant of the one before, and may revoke it
``renew(2031-01-01T00:00:00Z, 2592000)``, in the first block, once    its issuer makes it anew, for so many seconds each time, until then
``renews("g-…")``, in the first block, once                          it stands for this one: whoever revokes that has revoked it
===================================================================  ==========================================

They are ordinary Biscuit checks: any Biscuit library that is told the facts of a use decides as `Rights` does (a property test compares the two).
A block with any other statement is not understood, and the grant is refused: what was meant as a limit must not be overlooked. Biscuit prints strings
without escaping them; that a statement is read as another one can only narrow the grant further, since every block but the first is read as limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import CEILINGS, LISTS, TIME, Rights
from dms_proto.ids import GrantId, PeerId
from dms_proto.units import SECOND

_VALUE: Final = "[A-Za-z0-9_-]+"
_MOMENT: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_BOUND: Final = re.compile(
    rf"check if (?:({'|'.join(CEILINGS)})\(\$x\), \$x <= (\d{{1,16}})"
    rf'|({"|".join(LISTS)})\(\$x\), \[((?:"{_VALUE}"(?:, )?)*)\]\.contains\(\$x\)'
    rf"|time\(\$x\), \$x <= ({_MOMENT}));"
)
"""One statement that bounds: a ceiling and its amount, a list and its values, or the end."""
_VALUES: Final = re.compile(_VALUE)
_OWN: Final = "own(true)"
_FACTS: Final = {
    "own": re.compile(r"own\((true)\);"),
    "delegator": re.compile(rf'delegator\("({_VALUE})"\);'),
    "renew": re.compile(rf"renew\(({_MOMENT}), ([1-9]\d{{0,9}})\);"),
    "renews": re.compile(rf'renews\("({_VALUE})"\);'),
}
"""The statements that bound nothing. A block makes each once at the most."""
_ELSEWHERE: Final = {True: {"delegator"}, False: {"own", "renew", "renews"}}
"""Which of them do not stand in the first block (True), and in every other: what is appended is anybody's word, so it can promise nothing."""
NOBODY: Final = PeerId("")
LATEST: Final = 253_402_300_799_000
"""The last second that can be written, in Unix ms: the year 9999."""
CACHED: Final = 1_024
"""Blocks whose reading is remembered, of at most 4 KiB each: grants that one was narrowed to share all of its blocks but the last."""


class Said(NamedTuple):
    """What a block says.

    Attributes:
        rights: its bounds.
        delegator: who made it, by its own word; empty: nobody says so.
        renewal: by which it is made anew; None: it is not.
        renews: the grant that it stands for; empty: it is the first of its kind.
    """

    rights: Rights
    delegator: PeerId = NOBODY
    renewal: Renewal | None = None
    renews: GrantId = GrantId("")


def statements(said: Said) -> str:
    """The source of a block that says this.

    Raises:
        ValueError: a list is empty, or an end lies beyond the year 9999: what cannot be written is not granted.
    """
    return "".join(f"{line};\n" for line in (*_facts(said), *_bounds(said.rights)))


@lru_cache(maxsize=CACHED)
def read_statements(source: str, *, is_first: bool) -> Said | None:
    """What a block says, or None when it says anything that is not in the vocabulary.

    Raises:
        ValueError: a moment in it is none, or lies before 1970.
    """
    facts: dict[str, tuple[str, ...]] = {}
    at_most: dict[str, int] = {}
    one_of: dict[str, tuple[str, ...]] = {}
    for line in source.splitlines():
        name, values = _fact(line)
        if name:
            if name in facts or name in _ELSEWHERE[is_first]:
                return None
            facts[name] = values
            continue
        bound = _BOUND.fullmatch(line)
        if bound is None:
            return None
        ceiling, amount, listed, listing, end = bound.groups()
        if listed is not None:
            allowed = set(_VALUES.findall(listing))
            one_of[listed] = tuple(sorted(allowed.intersection(one_of.get(listed, allowed))))
        else:
            name, most = (ceiling, int(amount)) if ceiling is not None else (TIME, _ms_of(end))
            at_most[name] = min(most, at_most.get(name, most))
    return _said(Rights(at_most, one_of, "own" in facts), facts)


def _fact(line: str) -> tuple[str, tuple[str, ...]]:
    """The name of the fact in a line, and its values; an empty name: it is none."""
    found = ((name, pattern.fullmatch(line)) for name, pattern in _FACTS.items())
    return next(((name, match.groups()) for name, match in found if match is not None), ("", ()))


def _said(rights: Rights, facts: Mapping[str, tuple[str, ...]]) -> Said:
    (delegator,), (renews,) = facts.get("delegator", ("",)), facts.get("renews", ("",))
    until, seconds = facts.get("renew", ("", ""))
    renewal = Renewal(_ms_of(until), int(seconds) * SECOND) if until else None
    return Said(rights, PeerId(delegator), renewal, GrantId(renews))


def _facts(said: Said) -> Iterator[str]:
    if said.rights.own:
        yield _OWN
    if said.delegator:
        yield f'delegator("{said.delegator}")'
    if said.renewal is not None:
        yield f"renew({_moment(said.renewal.until)}, {said.renewal.span_ms // SECOND})"
    if said.renews:
        yield f'renews("{said.renews}")'


def _bounds(rights: Rights) -> Iterator[str]:
    for name, most in rights.at_most.items():
        yield f"check if {name}($x), $x <= {_moment(most) if name == TIME else most}"
    for name, allowed in rights.one_of.items():
        if not allowed:
            raise ValueError(f"no {LISTS[name].words} are left to allow")
        listed = ", ".join(f'"{value}"' for value in allowed)
        yield f"check if {name}($x), [{listed}].contains($x)"


def _ms_of(moment: str) -> int:
    at = round(datetime.fromisoformat(moment).timestamp()) * SECOND
    if at < 0:
        raise ValueError(f"{moment} lies before 1970")
    return at


def _moment(at: int) -> str:
    if at > LATEST:
        raise ValueError("a grant ends in the year 9999 at the latest")
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
