"""Known work: what this node's own jobs gave, and a piece of it given out once more as if it were new.

The newest first, and each once: whoever was wrong then is to be found while it has done little else. Work whose result was taken as it came is known
as well: two answers then show what neither shows alone, so such a canary checks two providers by one run. What is known follows from the verdicts in
the log alone. A canary is a request like any other, so nothing on the wire tells it from new work.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.ids import RequestId, request_id, short
from dms_proto.market.auction_camps import given_by, result_of
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_state import Auction, terms_of
from dms_proto.market.auction_terms import KNOWN, Answer, Canary, Terms
from dms_proto.verification.chance import drawn
from dms_proto.verification.policy import PROVEN, Policy, is_canary_due
from dms_proto.verification.quorum import Vote, Voter

KEPT: Final = 500
"""Pieces of work that are remembered; the oldest go."""
Work = tuple[RequestId, int]
"""A request, and a piece of it."""


class Witnesses(msgspec.Struct, frozen=True):
    """Who has to do with a piece of known work: everybody who has seen it, and who gave its result or agreed with it."""

    asked: tuple[Answer, ...] = ()
    right: tuple[Answer, ...] = ()


class KnownWork:
    """What is known, and by whom. A fold of the verdicts in a node's log; not shared between threads."""

    def __init__(self) -> None:
        self._known: dict[Work, Witnesses] = {}
        self._again: set[Work] = set()
        """What was given out again, of what is known: those that were not are asked first. After a restart, as far as verdicts tell."""

    def note(self, request: RequestId, judged: ResultJudged) -> None:
        """One more verdict. What a canary overturned, or left open, is not known after all.

        A piece of several is never known work: its program is told how many there are, and asked for alone it could be told from new work by that.
        """
        if judged.canary is None:
            if judged.pieces == 1 and judged.accepted is not None:
                self._keep((request, judged.piece), Witnesses(judged.answers, judged.right or judged.unjudged))
            return
        before = self._known.get(judged.canary)
        if before is None:
            return
        self._again.add(judged.canary)
        if judged.overturned or (judged.accepted is None and judged.answers):
            self.forget(judged.canary)
        else:
            self._keep(judged.canary, Witnesses(before.asked + judged.answers, before.right + judged.right))

    def _keep(self, work: Work, witnesses: Witnesses) -> None:
        self._known[work] = witnesses
        if len(self._known) > KEPT:
            self.forget(next(iter(self._known)))

    def forget(self, work: Work) -> None:
        """It cannot be used any more."""
        self._known.pop(work, None)
        self._again.discard(work)

    def drawn(self, terms: Terms, piece: int) -> Work | None:
        """The known work to be given out beside a piece of new work; None: none is due, or nothing is known. What was drawn counts as given out."""
        due = terms.verify.policy is Policy.ADAPTIVE and terms.canary is None and is_canary_due(terms.seed, piece)
        others = [work for work in self._known if work[0] != terms.request_id] if due else []
        if not others:
            return None
        newest = next((work for work in reversed(others) if work not in self._again), None)
        chosen = newest or others[int.from_bytes(drawn(terms.seed, "canary", piece, "which")) % len(others)]
        self._again.add(chosen)
        return chosen

    def witnesses(self, work: Work) -> Witnesses:
        """Who has to do with it."""
        return self._known.get(work, Witnesses())


def known_votes(known: Canary) -> tuple[Vote, ...]:
    """What the known answer weighs when another is given.

    Two proven votes if somebody had agreed with it, as much as it took at least; one if it was taken as it came, of somebody who was trusted.
    """
    return tuple(Vote(Voter(answer.provider, answer.source, PROVEN), known.result) for answer in known.right[:2])


def canary_terms(beside: Terms, piece: int, known: Auction, work: Work, witnesses: Witnesses) -> Terms | None:
    """What is asked of the market to have known work done once more.

    Args:
        beside: the request it goes with.
        piece: of that request.
        known: the request whose work it was, over.
        work: which work.
        witnesses: who has to do with it.
    """
    judged = known.verdicts.get(work[1])
    if judged is None or judged.accepted is None:
        return None
    slot, terms = known.slots[judged.accepted], terms_of(known)
    if slot.ending is None or slot.status is None or terms.task.secrets:
        return None
    given = msgspec.structs.replace(given_by(slot), index=KNOWN)
    return msgspec.structs.replace(
        terms,
        request_id=request_id(drawn(beside.seed, "canary", piece, "request")),
        name=f"check of {terms.name or short(work[0])}"[:128],
        count=1,
        budget=0,
        deadline_at=0,
        node_faults=1,
        verify=msgspec.structs.replace(terms.verify, policy=Policy.ADAPTIVE),
        seed=drawn(beside.seed, "canary", piece, "seed"),
        canary=Canary(work[0], work[1], terms.count, result_of(slot), witnesses.right, witnesses.asked, given),
    )
