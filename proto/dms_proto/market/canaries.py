"""Known work: results of this node's own jobs that others have confirmed, and one of them given out once more as if it were new.

What is known follows from the verdicts in the log alone. A canary is a request like any other, so nothing on the wire tells it from new work.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.ids import RequestId, request_id, short
from dms_proto.market.auction_camps import given_by, result_of
from dms_proto.market.auction_state import KNOWN, Answer, Auction, Canary, ResultJudged, Terms, terms_of
from dms_proto.verification.chance import drawn
from dms_proto.verification.policy import Policy, is_canary_due

KEPT: Final = 500
"""Pieces of work that are remembered; the oldest go."""
Work = tuple[RequestId, int]
"""A request, and a piece of it."""


class KnownWork:
    """What is known, and who has seen it. A fold of the verdicts in a node's log; not shared between threads."""

    def __init__(self) -> None:
        self._asked: dict[Work, tuple[Answer, ...]] = {}

    def note(self, request: RequestId, judged: ResultJudged) -> None:
        """One more verdict. What two agree on gives the same wherever it runs; what a canary overturned, or left open, is not known after all.

        A piece of several is never known work: its program is told how many there are, and asked for alone it could be told from new work by that.
        """
        if judged.canary is None:
            if judged.pieces == 1 and len(judged.right) > 1:
                self._keep((request, judged.piece), judged.answers)
        elif judged.overturned or (judged.accepted is None and judged.answers):
            self._asked.pop(judged.canary, None)
        elif judged.canary in self._asked:
            self._keep(judged.canary, self._asked[judged.canary] + judged.answers)

    def _keep(self, work: Work, asked: tuple[Answer, ...]) -> None:
        self._asked[work] = asked
        if len(self._asked) > KEPT:
            del self._asked[next(iter(self._asked))]

    def drawn(self, terms: Terms, piece: int) -> Work | None:
        """The known work to be given out beside a piece of new work; None: none is due, or nothing is known."""
        due = terms.verify.policy is Policy.ADAPTIVE and terms.canary is None and is_canary_due(terms.seed, piece)
        others = [work for work in self._asked if work[0] != terms.request_id]
        if not due or not others:
            return None
        return others[int.from_bytes(drawn(terms.seed, "canary", piece, "which")) % len(others)]

    def forget(self, work: Work) -> None:
        """It cannot be used any more."""
        self._asked.pop(work, None)

    def asked(self, work: Work) -> tuple[Answer, ...]:
        """Who has seen it."""
        return self._asked.get(work, ())


def canary_terms(beside: Terms, piece: int, known: Auction, work: Work, asked: tuple[Answer, ...]) -> Terms | None:
    """What is asked of the market to have known work done once more.

    Args:
        beside: the request it goes with.
        piece: of that request.
        known: the request whose work it was, over.
        work: which work.
        asked: who has seen it.
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
        canary=Canary(work[0], work[1], terms.count, result_of(slot), judged.right, asked, given),
    )
