"""Access: who may ask a node for work, and what those are told who may not.

==============  ==========================================================================
policy          who is served
==============  ==========================================================================
PUBLIC          everybody
AUTHORISED      who shows a grant of one of the node's anchors that covers the request
OWN             who shows such a grant with `own`, and the peers its owner lists
==============  ==========================================================================

The node itself and the peers its owner lists need no grant anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.grants.rights import CEILINGS, LOGS, Rights, Use, show_limit
from dms_proto.ids import PeerId
from dms_proto.market.verdicts import bad
from dms_proto.messages import Clause

DIMENSION: Final = "grant"
"""What a clause about a missing right is about."""
_TO_DO: Final = {LOGS: "read logs"}
"""What a right is to, where that is not its name."""
NAMED: Final = 3
"""Anchors named in a clause; more are counted."""


class Access(StrEnum):
    """Who is served."""

    PUBLIC = "public"
    AUTHORISED = "authorised"
    OWN = "own"


_ORDER: Final = tuple(Access)
_FOR: Final = {Access.AUTHORISED: "", Access.OWN: " for own machines"}
"""Which grant it would take."""


def stricter(one: Access, other: Access) -> Access:
    """The one that serves fewer."""
    return max(one, other, key=_ORDER.index)


class Credential(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the sender of a message has shown of its rights.

    Attributes:
        rights: proven, in force, and for this sender; or None.
        flaw: why there are none.
        anchors: whose grants the node accepts: where rights could come from.
    """

    rights: Rights | None = None
    flaw: str = "no grant was shown"
    anchors: tuple[PeerId, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the sender is proven to be a machine of the node's owner."""
        return self.rights is not None and self.rights.own


NOTHING_SHOWN: Final = Credential()


def refusals(access: Access, uses: Sequence[Use], credential: Credential) -> Iterator[Clause]:
    """Every right that is missing for `uses` under `access`, and from whom it could come."""
    if access is Access.PUBLIC:
        return
    rights = credential.rights
    if rights is None:
        kinds = [str(use["kind"]) for use in uses]
        to_do = ", ".join(_TO_DO.get(kind, kind) for kind in kinds)
        yield _clause(f"the right to {to_do}", credential.flaw, credential, _FOR[access])
        return
    if access is Access.OWN and not rights.own:
        yield _clause("a machine of the same owner", "a grant without that right", credential, _FOR[access])
    for name, wanted in _unmet(rights, uses).items():
        observed = f"granted: {show_limit(name, rights.at_most.get(name, rights.one_of.get(name, ())))}"
        more = f"more {CEILINGS[name].words}" if name in CEILINGS else show_limit(name, wanted)
        yield _clause(show_limit(name, wanted), observed, credential, f" with {more}")


def _unmet(rights: Rights, uses: Sequence[Use]) -> dict[str, int | tuple[str, ...]]:
    """What of `uses` is not allowed, by name of the fact: the amount, or all that should be in the list."""
    missing: dict[str, int | tuple[str, ...]] = {}
    for use in uses:
        for name in rights.unmet(use):
            match use[name], missing.get(name, ()):
                case int() as amount, _:
                    missing[name] = amount
                case str() as value, tuple() as before:
                    missing[name] = (*before, value)
    return missing


def in_words(missing: Clause) -> str:
    """A clause in one line, for messages that have room for no more."""
    return f"wanted {missing.wanted}, there {missing.observed}; would take {missing.nearest}"


def _clause(wanted: str, observed: str, credential: Credential, which: str) -> Clause:
    clause = bad(DIMENSION, wanted, observed, f"a grant{which} from {_one_of(credential.anchors)}").clause
    assert clause is not None
    return clause


def _one_of(anchors: tuple[PeerId, ...]) -> str:
    named = ", ".join(anchors[:NAMED])
    others = f" and {len(anchors) - NAMED} more" if len(anchors) > NAMED else ""
    return f"one of {named}{others}" if len(anchors) > 1 else named or "its owner"
