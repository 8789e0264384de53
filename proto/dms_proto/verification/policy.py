"""How the results of a job are checked, and when one more check is due.

=============  =========================================================================================
`NONE`         every result is taken as it comes: own machines, or answers that one can see are right
`REPLICATE`    every piece runs on `copies` nodes, and most of them must agree
`ADAPTIVE`     a provider is checked always until it has been right `PROVEN` times in a row, then ever
               more rarely; one wrong answer, and it starts anew
=============  =========================================================================================

Adaptive replication is BOINC's ("Job replication", its wiki), with two differences. Only results that were *checked* make a provider proven: there
an unchecked one counts as well, which pays for lying as soon as one is trusted. And the checks never become rarer than 1 in `RAREST`: a
provider that lies once in a while, after a long good life, must be caught while that still matters.

Beside it, *canaries*: earlier work of the requester's own whose accepted answer is known, given out once more as if it were new, to a provider whom
`quorum.next_voter` would have asked at the time. One costs one run, where a check costs one too but holds only for a piece that was awarded anyway: a
provider that has little work is looked at as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.rules import MAX_COUNT
from dms_proto.verification.chance import is_drawn

PROVEN: Final = 10
"""Checked results in a row, all right, after which a provider is not checked every time."""
RAREST: Final = 20
"""A check every so many results at the least."""
CANARY_ONE_IN: Final = 6
"""A canary beside every so many pieces of work, on average."""
PROVEN_QUORUM: Final = 4
"""Two proven providers, one and two newcomers, or four newcomers: newcomers alone are too cheap to be believed in pairs."""
HASH: Final = "hash"
"""The comparator that takes results for equal when exit code and all outputs are, byte for byte."""
MAX_COPIES: Final = 10
"""Copies of one piece of work after which it is given up as undecided: with that many answers, the work itself is not repeatable."""


MOST_CHECKED: Final = MAX_COUNT // MAX_COPIES
"""Pieces of work of one request that can be checked: each copy is a slot."""


class Policy(StrEnum):
    """How results are checked."""

    NONE = "none"
    REPLICATE = "replicate"
    ADAPTIVE = "adaptive"


class Apart(StrEnum):
    """What two copies of a piece of work must not have in common."""

    SOURCES = "sources"
    """The part of the network they are in, which one owner can fill with identities; see `reputation.sources`."""
    NODES = "nodes"
    """The node only: for a market whose members are known to be of different owners, or all one's own."""


class Verification(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job wants its results checked.

    Attributes:
        policy: see the module.
        copies: for REPLICATE: how many nodes run each piece, from 2 to `MAX_COPIES`.
        comparator: what says whether two results are the same: `HASH`, or a name, and after a colon a parameter of its own.
        apart: where two copies may run.
    """

    policy: Policy = Policy.NONE
    copies: int = 2
    comparator: str = HASH
    apart: Apart = Apart.SOURCES

    @property
    def is_on(self) -> bool:
        """Whether results are checked at all."""
        return self.policy is not Policy.NONE

    @property
    def quorum(self) -> int:
        """The weight of agreeing votes that accepts a result: see `quorum.judge`."""
        return self.copies // 2 + 1 if self.policy is Policy.REPLICATE else PROVEN_QUORUM

    def first_copies(self, streak: int, seed: bytes, *names: object) -> int:
        """On how many nodes a piece runs at first, when a provider with this `streak` of right results got it. 1: its answer is taken as it is.

        Args:
            streak: the provider's checked results in a row that were right.
            seed: the request's secret; see `chance`.
            *names: the piece of work.
        """
        if self.policy is Policy.NONE:
            return 1
        if self.policy is Policy.REPLICATE:
            return self.copies
        return 2 if is_check_due(streak, seed, *names) else 1


def faults(verify: Verification, count: int) -> Iterator[tuple[str, str]]:
    """What stands in the way of checking the results of `count` pieces of work like this: the field, and the rule it breaks.

    Which comparators there are only the node knows on which they are installed.
    """
    if not verify.is_on:
        if verify.comparator != HASH:
            yield "comparator", f"{verify.comparator!r} has nothing to compare under the policy none"
        return
    if not 2 <= verify.copies <= MAX_COPIES:
        yield "copies", f"{verify.copies} is not from 2 to {MAX_COPIES}"
    if count > MOST_CHECKED:
        yield (
            "policy",
            f"at most {MOST_CHECKED} allocations can be checked, not {count}: each may take {MAX_COPIES} copies",
        )


def is_proven(streak: int) -> bool:
    """Whether a provider has been right often enough in a row."""
    return streak >= PROVEN


def is_check_due(streak: int, seed: bytes, *names: object) -> bool:
    """Whether a provider's answer is checked this time: always at first, then with a chance of 1 in `streak`, and of 1 in `RAREST` at the least."""
    return not is_proven(streak) or is_drawn(seed, min(streak, RAREST), *names)


def is_canary_due(seed: bytes, *names: object) -> bool:
    """Whether a canary is sent out beside this piece of work."""
    return is_drawn(seed, CANARY_ONE_IN, "canary", *names)
