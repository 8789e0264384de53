"""Whose result is accepted, whose was wrong, or who should be asked next.

Votes weigh: a proven provider's two, a newcomer's one (under `Policy.REPLICATE` each one). An answer is accepted when the votes for it reach
the quorum and are more than half of all. Until then one more provider is asked: one that has not voted, of a source from which nobody has,
proven ones first. Who would only repeat a neighbour's word is not asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from dms_proto.ids import Digest, PeerId
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.verification.policy import MAX_COPIES, Policy, Verification, is_proven
from dms_proto.work import Ending, Output

PROVEN_WEIGHT: Final = 2


class Result(msgspec.Struct, frozen=True):
    """What one run of the work gave: how it ended, what files it left, and what it printed on standard output (its digest)."""

    ending: Ending
    outputs: tuple[Output, ...] = ()
    printed: Digest = Digest("")


class Voter(msgspec.Struct, frozen=True):
    """A provider as far as voting goes.

    Attributes:
        provider: who.
        source: where it is; see `reputation.sources`.
        streak: checked results in a row that were right, as known when it was asked.
    """

    provider: PeerId
    source: str = UNKNOWN
    streak: int = 0


class Vote(msgspec.Struct, frozen=True):
    """One provider's result."""

    voter: Voter
    result: Result


class Verdict(msgspec.Struct, frozen=True):
    """What follows from the votes so far.

    Attributes:
        accepted: the first vote for the accepted result; None while it is open.
        right: who agrees with it.
        wrong: who does not.
        undecided: given up: no result will be accepted, and nobody is called wrong.
    """

    accepted: Vote | None = None
    right: tuple[PeerId, ...] = ()
    wrong: tuple[PeerId, ...] = ()
    undecided: bool = False


def equal(left: Result, right: Result) -> bool:
    """The comparator `policy.HASH`: the same reason, exit code, outputs and standard output, by digest.

    What the run used is not part of its answer, nor what it said on standard error.
    """
    return _answer(left) == _answer(right)


def _answer(result: Result) -> tuple[object, ...]:
    files = sorted((output.path, output.digest) for output in result.outputs)
    return result.ending.reason, result.ending.exit_code, result.printed, files


def judge(camps: Sequence[Sequence[Vote]], verification: Verification, witnesses: Collection[PeerId] = ()) -> Verdict:
    """Counts the votes, by camps of those that are for the same answer.

    Args:
        camps: the votes.
        verification: how they weigh.
        witnesses: who has voted before, when the same work was judged already: that counts, and nothing follows for them. Without a new vote for
            it nothing is accepted.
    """
    weights = [weight_of((vote.voter for vote in camp), verification) for camp in camps]
    strongest = max(range(len(camps)), key=weights.__getitem__, default=None)
    if strongest is None:
        return Verdict()
    fresh = [[vote for vote in camp if vote.voter.provider not in witnesses] for camp in camps]
    camp, weight = fresh[strongest], weights[strongest]
    if camp and weight >= verification.quorum and 4 * weight >= 3 * sum(weights):
        wrong = tuple(vote.voter.provider for other in fresh if other is not camp for vote in other)
        return Verdict(camp[0], tuple(vote.voter.provider for vote in camp), wrong)
    return Verdict(undecided=sum(map(len, fresh)) >= MAX_COPIES)


def support(camps: Sequence[Sequence[Vote]], verification: Verification) -> int:
    """The weight of the votes for the answer that has most."""
    return max((weight_of((vote.voter for vote in camp), verification) for camp in camps), default=0)


def weight_of(voters: Iterable[Voter], verification: Verification) -> int:
    """What these voters weigh together, should they agree."""
    return sum(_weight(voter, verification.policy) for voter in voters)


def camps_of(votes: Iterable[Vote]) -> list[list[Vote]]:
    """The votes by answer, as their hashes tell."""
    camps: list[list[Vote]] = []
    for vote in votes:
        for camp in camps:
            if equal(camp[0].result, vote.result):
                camp.append(vote)
                break
        else:
            camps.append([vote])
    return camps


def _weight(voter: Voter, policy: Policy) -> int:
    return PROVEN_WEIGHT if policy is Policy.ADAPTIVE and is_proven(voter.streak) else 1


def next_voter(ranked: Iterable[Voter], asked: Sequence[Voter]) -> Voter | None:
    """Whom to ask for one more copy; None when there is nobody whose word would add anything.

    Args:
        ranked: who could do it, best first.
        asked: who has voted or been asked to.
    """
    providers = {voter.provider for voter in asked}
    sources = {voter.source for voter in asked}
    fresh = [voter for voter in ranked if voter.provider not in providers and voter.source not in sources]
    return min(fresh, key=lambda voter: not is_proven(voter.streak), default=None)
