"""Canaries: known work is given out once more as if it were new, where that is due beside a piece of new work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from dms_actors.behaviour import Address
from dms_actors.draft import Journal
from dms_actors.events import from_row
from dms_actors.letters import Submit
from dms_proto.errors import MachineError
from dms_proto.ids import RequestId
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_terms import Given, Terms
from dms_proto.market.canaries import KnownWork, canary_terms
from dms_proto.verification.policy import HASH

log = logging.getLogger(__name__)


class Canaries:
    """One per node actor; lives on its thread.

    Args:
        journal: where the requests are, whose work is known.
        is_here: whether what an answer left is still kept.
        open_request: starts the actor of a new request.
        verdicts: on the results of this node's requests so far, oldest first.
    """

    def __init__(
        self,
        journal: Journal,
        is_here: Callable[[Given], bool],
        open_request: Callable[[RequestId], Address],
        verdicts: Iterable[tuple[RequestId, ResultJudged]] = (),
    ) -> None:
        self._journal = journal
        self._is_here = is_here
        self._open_request = open_request
        self._known = KnownWork()
        for request_id, judged in verdicts:
            self._known.note(request_id, judged)

    def judged(self, terms: Terms, judged: ResultJudged) -> None:
        """One more verdict: what it says is known from now on, and a canary may be due beside its piece of work."""
        self._known.note(terms.request_id, judged)
        self._check_beside(terms, judged.piece)

    def _check_beside(self, terms: Terms, piece: int) -> None:
        """Nothing at a repeat: its request is there already."""
        work = self._known.drawn(terms, piece)
        if work is None:
            return
        try:
            known = Auction()
            for row in self._journal.read_stream(work[0]):
                known = evolve(known, from_row(row))
            canary = canary_terms(terms, piece, known, work, self._known.witnesses(work))
            is_new = canary is not None and not self._journal.read_stream(canary.request_id)
        except MachineError as error:
            log.warning("no canary is sent: %s cannot be read: %s", work[0], error)
            return
        if canary is not None and not self._is_comparable(canary):
            self._known.forget(work)
        elif canary is not None and is_new:
            self._open_request(canary.request_id).tell(Submit(canary, "canary"))

    def _is_comparable(self, terms: Terms) -> bool:
        """Whether an answer can be compared with the known one: by hash always, otherwise while that is kept."""
        assert terms.canary is not None, "a canary knows its answer"
        return terms.verify.comparator == HASH or self._is_here(terms.canary.given)
