"""What actors keep as proofs: signed frames, in the stream of their request (`dms_proto.market.proofs`).

::

    heard ──▶ Turn ──────── in the transaction of the fact it led to
    sent  ──▶ Journal ───── with what is written next
    requests heard, bids of either side ──▶ `FairMemory`, until a bid is taken: most never are; nothing of before a restart

A message of a node to itself has no frame, and what one node agrees with itself needs no proof.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dms_actors.draft import Journal
from dms_actors.events import to_row
from dms_actors.shell import Turn
from dms_proto.errors import MachineError
from dms_proto.fair_memory import FairMemory
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId
from dms_proto.machine import Event
from dms_proto.market.auction_events import (
    AllocationFinished,
    AllocationResized,
    AttemptEnded,
    AwardMade,
    BidReceived,
    ResultJudged,
    SealReceived,
    SealsListed,
)
from dms_proto.market.auction_state import MAX_BIDS, Auction
from dms_proto.market.auction_stimuli import CommitAcked
from dms_proto.market.offer_state import BidCommitted, BidMade, BidOpened, CommitHeard, RequestDeclined, RequestHeard
from dms_proto.market.proofs import FrameKept
from dms_proto.messages import AnyMessage, Bid, Closing, Commit, CommitAck, Receipt, Resize, SealedBid

log = logging.getLogger(__name__)

MAX_UNTAKEN: Final = 1_024
"""Frames of requests, and of bids on them, that a provider remembers until one is taken; as many as there can be bids open."""


class Heard(NamedTuple):
    """A frame as it came, and when (Unix ms). A message that came in none has no bytes, a frame of our own no time."""

    frame: bytes = b""
    at: int = 0


NO_FRAME: Final = Heard()


def record_heard(turn: Turn, request_id: RequestId, heard: Heard, cause_id: str) -> None:
    """Writes a frame down with what it led to."""
    if heard.frame:
        turn.record(request_id, FrameKept(heard.frame, heard.at), cause_id)


def record_sent(journal: Journal, request_id: RequestId, frame: bytes, cause_id: str) -> None:
    """Writes down what was just sent. When the log takes nothing now it is missing there: nothing this node does rests on it."""
    if not frame:
        return
    try:
        journal.append_soon((to_row(request_id, FrameKept(frame), cause_id),))
    except MachineError as error:
        log.warning("a frame of %s is not kept as a proof: %s", request_id, error)


class ProviderProofs:
    """A provider's part, up to the acknowledgement. One per node actor, on its thread."""

    def __init__(self, journal: Journal, source_of: Callable[[PeerId], str] = lambda _peer: "") -> None:
        """`source_of` tells where a peer is: those of one source share what is remembered for them."""
        self._journal = journal
        self._source_of = source_of
        self._asked: FairMemory[tuple[PeerId, RequestId, int], Heard] = FairMemory(MAX_UNTAKEN)
        self._bids: FairMemory[BidId, tuple[int, Heard]] = FairMemory(MAX_UNTAKEN)
        """With the round that a bid answers."""
        self._seals: FairMemory[BidId, Heard] = FairMemory(MAX_UNTAKEN)
        self._closings: FairMemory[BidId, Heard] = FairMemory(MAX_UNTAKEN)
        """By the bid of ours that was opened for it."""
        self._acks_due: set[BidId] = set()

    def asked(self, turn: Turn, stimulus: RequestHeard, events: Sequence[Event], heard: Heard) -> None:
        """A request that was bid on, or that stands and may be bid on later."""
        if not heard.frame:
            return
        if any(isinstance(e, BidMade) or (isinstance(e, RequestDeclined) and e.stands_until) for e in events):
            peer, request = stimulus.requester, stimulus.request
            key = (peer, request.request_id, request.round)
            turn.once_written(lambda: self._asked.keep(key, peer, self._source_of(peer), heard))

    def closed(self, turn: Turn, peer: PeerId, events: Sequence[Event], heard: Heard) -> None:
        """A list of sealed bids with one of ours on it."""
        opened = [event.bid_id for event in events if isinstance(event, BidOpened) and heard.frame]

        def keep() -> None:
            for bid_id in opened:
                self._closings.keep(bid_id, peer, self._source_of(peer), heard)

        turn.once_written(keep)

    def committed(
        self, turn: Turn, stimulus: CommitHeard, events: Sequence[Event], heard: Heard, cause_id: str
    ) -> None:
        """A bid that was taken makes proofs of all that led to it."""
        if not any(isinstance(event, BidCommitted) for event in events):
            return
        commit = stimulus.commit
        round_, bid = self._bids.get(commit.bid_id) or (-1, NO_FRAME)
        asked_by = (stimulus.requester, commit.request_id, round_)
        asked, sealed = self._asked.get(asked_by) or NO_FRAME, self._seals.get(commit.bid_id) or NO_FRAME
        for proof in (asked, sealed, self._closings.get(commit.bid_id) or NO_FRAME, bid, heard):
            record_heard(turn, commit.request_id, proof, cause_id)

        def forget() -> None:
            self._acks_due.add(commit.bid_id)
            for kept in (self._bids, self._seals, self._closings):
                kept.take(commit.bid_id)
            self._asked.take(asked_by)

        turn.once_written(forget)

    def sent(self, peer: PeerId, message: AnyMessage, frame: bytes, cause_id: str) -> None:
        """A bid may yet be taken; of acknowledgements the first is kept, repeats say the same."""
        match message:
            case Bid(round=round_, bid_id=bid_id) if frame:
                self._bids.keep(bid_id, peer, self._source_of(peer), (round_, Heard(frame)))
            case SealedBid(bid_id=bid_id) if frame:
                self._seals.keep(bid_id, peer, self._source_of(peer), Heard(frame))
            case CommitAck(request_id=request_id, bid_id=bid_id) if bid_id in self._acks_due:
                self._acks_due.remove(bid_id)
                record_sent(self._journal, request_id, frame, cause_id)


class RequesterProofs:
    """A requester's part. One per orchestrator, on its thread."""

    def __init__(self, journal: Journal, request_id: RequestId) -> None:
        self._journal = journal
        self._request_id = request_id
        self._bids: FairMemory[BidId, Heard] = FairMemory(MAX_BIDS)
        self._seals: FairMemory[BidId, Heard] = FairMemory(MAX_BIDS)
        self._acked: set[BidId] = set()
        self._changes: set[tuple[AllocationId, int]] = set()
        self._receipts_due: set[tuple[PeerId, AllocationId]] = set()

    def happened(self, turn: Turn, event: Event, heard: Heard, cause_id: str) -> None:
        """Keeps the frame that led to an event, and those of the bids that are taken by it."""
        match event:
            case BidReceived(provider=provider, bid=bid):
                self._bids.keep(bid.bid_id, provider, "", heard)  # of a turn that is refused: nobody will ask for it
            case SealReceived(provider=provider, sealed=sealed):
                self._seals.keep(sealed.bid_id, provider, "", heard)
            case SealsListed(bid_ids=bid_ids):
                self._prove(turn, self._seals, bid_ids, cause_id)
            case AwardMade(taken=taken, decision=decision, paid=award):
                won = tuple(bid_id for bid_id, _ in taken)
                opened = tuple(candidate.bid_id for candidate in decision.candidates)
                # What was opened shows who could have set the price.
                self._prove(turn, self._bids, won if award is None else opened, cause_id)
            case AllocationFinished() | AllocationResized():
                record_heard(turn, self._request_id, heard, cause_id)
            case AttemptEnded(provider=provider, allocation_id=allocation) if provider:
                turn.once_written(lambda: self._receipts_due.add((provider, allocation)))
            case ResultJudged(answers=answers):  # of before a restart as well
                due = {(answer.provider, answer.allocation_id) for answer in answers}
                turn.once_written(lambda: self._receipts_due.update(due))

    def _prove(self, turn: Turn, kept: FairMemory[BidId, Heard], bid_ids: tuple[BidId, ...], cause_id: str) -> None:
        for bid_id in bid_ids:
            record_heard(turn, self._request_id, kept.get(bid_id) or NO_FRAME, cause_id)
        turn.once_written(lambda: [kept.take(bid_id) for bid_id in bid_ids])

    def acknowledged(self, turn: Turn, before: Auction, acked: CommitAcked, heard: Heard, cause_id: str) -> None:
        """The first acknowledgement of a commit of ours; whatever it says, its provider has signed it."""
        bid_id = acked.ack.bid_id
        is_ours = any((slot.bid_id, slot.provider) == (bid_id, acked.provider) for slot in before.slots)
        if is_ours and bid_id not in self._acked:
            self._acked.add(bid_id)
            turn.once_undone(lambda: self._acked.discard(bid_id))
            record_heard(turn, self._request_id, heard, cause_id)

    def sent(self, peer: PeerId, message: AnyMessage, frame: bytes, cause_id: str) -> None:
        """A list of seals, a commit; and a receipt once, since a provider that repeats its ending gets it again as often as it likes."""
        match message:
            case Resize(allocation_id=allocation, number=number):
                if (allocation, number) not in self._changes:
                    self._changes.add((allocation, number))
                    record_sent(self._journal, self._request_id, frame, cause_id)
            case Closing() | Commit():
                record_sent(self._journal, self._request_id, frame, cause_id)
            case Receipt(allocation_id=allocation) if (peer, allocation) in self._receipts_due:
                self._receipts_due.remove((peer, allocation))
                record_sent(self._journal, self._request_id, frame, cause_id)
