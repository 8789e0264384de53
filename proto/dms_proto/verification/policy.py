"""How the results of a job are checked, and when one more check is due.

=============  =========================================================================================
`NONE`         every result is taken as it comes: own machines, or answers that one can see are right
`REPLICATE`    every piece runs on `copies` nodes, and most of them must agree
`ADAPTIVE`     a provider is checked always until it has been right about forty times in a row (`WARY`),
               then ever more rarely; one wrong answer, and it starts anew
=============  =========================================================================================

Adaptive replication is BOINC's ("Job replication", its wiki), with three differences. Only results that were *checked* count: there an unchecked one
does as well, which pays for lying as soon as one is trusted. Checks become rarer by the square of the streak, but later. And they never become
rarer than 1 in `RAREST`: a provider that lies once in a while, after a long good life, must be caught while that still matters.

Beside it, *canaries*: earlier work of the requester's own whose accepted answer is known, given out once more as if it were new, to a provider whom
`quorum.next_voter` would have asked at the time. One costs one run and checks two: who does it now, and who was taken at its word then. Nobody can
know of it at the time, not even two of one owner, who would see by their commits that both have a copy of what is checked at once.

A piece of a job of several cannot be a canary: its program is told how many there are. There the job itself looks again, at what was taken as it
came: see `market.auction_lots`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.rules import MAX_COUNT
from dms_proto.verification.chance import drawn, is_drawn

PROVEN: Final = 10
"""Checked results in a row, all right, after which a provider's vote weighs double."""
WARY: Final = 28
"""By how many checked results in a row checks become rarer: one in the square of how often the streak holds it. So they are due always up to 39, then
one in 2, after twice as many one in 4, after three times as many one in 9, … Whoever was right n times in a row lies once in n times at most, or so,
and one more check finds that once in n times: what a check is worth falls with the square."""
RAREST: Final = 20
"""A check every so many results at the least, on average."""
CANARY_ONE_IN: Final = 8
"""A canary beside every so many pieces of work, on average."""
LOOK_ONE_IN: Final = 5
"""Of a provider's answers in one job of several pieces, one in so many is checked in any case, at once or later."""
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
            yield (
                "comparator",
                f"{verify.comparator!r} has nothing to compare under the policy none; set verify.policy (--verify) to replicate or adaptive",
            )
        return
    if not 2 <= verify.copies <= MAX_COPIES:
        yield "copies", f"{verify.copies} is not from 2 to {MAX_COPIES}"
    if count > MOST_CHECKED:
        yield (
            "policy",
            f"at most {MOST_CHECKED} allocations can be checked, not {count}: each may take {MAX_COPIES} copies",
        )


def is_proven(streak: int) -> bool:
    """Whether a provider has been right so often in a row that its vote weighs double."""
    return streak >= PROVEN


def is_trusted(streak: int) -> bool:
    """Whether a provider has been right so often in a row that its answer may be taken as it comes."""
    return check_one_in(streak) > 1


def check_one_in(streak: int) -> int:
    """Of how many results of a provider one is checked, on average: 1 at first, `RAREST` in the end."""
    return min(max(1, streak * streak // WARY**2), RAREST)


def is_check_due(streak: int, seed: bytes, *names: object) -> bool:
    """Whether a provider's answer is checked this time."""
    return is_drawn(seed, check_one_in(streak), *names)


def is_canary_due(seed: bytes, *names: object) -> bool:
    """Whether a canary is sent out beside this piece of work."""
    return is_drawn(seed, CANARY_ONE_IN, "canary", *names)


def looks_due(answers: int, seed: bytes, provider: PeerId) -> int:
    """Of so many answers of a provider in one job, how many are to have been checked: every `LOOK_ONE_IN`-th, from one that only chance knows."""
    before = drawn(seed, "looks", provider)[0] % LOOK_ONE_IN
    return (before + answers) // LOOK_ONE_IN
