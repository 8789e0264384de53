"""Completeness: which signed frames the events of a file ask for. What a node did with itself asks for none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.audit.proofs import Proof, event_of
from dms_actors.events import EVENT_KINDS
from dms_proto.allocation.events import AllocationEnded, AllocationOpened, ReceiptDisputed, ReceiptReceived
from dms_proto.ids import AllocationId, BidId, PeerId
from dms_proto.machine import Event
from dms_proto.market.auction_events import (
    AllocationFinished,
    AttemptEnded,
    AwardMade,
    BidReceived,
    CommitConfirmed,
    RequestOpened,
    ResultJudged,
)
from dms_proto.market.auction_terms import Terms
from dms_proto.market.offer_state import BidCommitted
from dms_proto.messages import AllocationStatus, Bid, BidRequest, Commit, CommitAck, Message, Receipt
from dms_proto.work import ANSWERS, EndReason

Wanted = tuple[type[Message], str]
"""A kind of message, and the bid or allocation it is about (a request: nothing)."""


def check(exporter: PeerId, entries: Sequence[Entry], proofs: Sequence[Proof]) -> Iterator[Fault]:
    """What should be there and is not."""
    there = {about(proof.message) for proof in proofs}
    for line, wanted in _Wants(exporter).of(entries):
        if wanted not in there:
            kind, of = wanted
            yield Fault(FaultCode.MISSING, line, f"the signed {kind.__name__}{f' of {of}' if of else ''} is missing")


def about(message: Message) -> Wanted:
    """What a frame proves."""
    match message:
        case Bid(bid_id=bid_id) | Commit(bid_id=bid_id) | CommitAck(bid_id=bid_id):
            return type(message), bid_id
        case AllocationStatus(allocation_id=allocation) | Receipt(allocation_id=allocation):
            return type(message), allocation
        case _:
            return type(message), ""


class _Wants:
    """Walks the events once, remembering who is who."""

    def __init__(self, exporter: PeerId) -> None:
        self._exporter = exporter
        self._own: set[str] = set()
        """Bids and allocations this node has with itself."""
        self._finished: dict[AllocationId, AllocationFinished] = {}
        self._terms: Terms | None = None

    def of(self, entries: Sequence[Entry]) -> Iterator[tuple[int, Wanted]]:
        """Every frame that the events ask for, with the line that does."""
        for entry in entries:
            kind = EVENT_KINDS.get(entry.row.kind)
            event = event_of(entry, kind) if kind is not None else None
            if event is not None:
                wants = chain(self._by_requester(event), self._by_provider(entry.row.stream, event))
                yield from ((entry.line, wanted) for wanted in wants)

    def _by_requester(self, event: Event) -> Iterator[Wanted]:
        match event:
            case RequestOpened(terms=terms):
                self._terms = terms
            case BidReceived(provider=provider, bid=bid):
                self._note(bid.bid_id, provider)
            case AwardMade(taken=taken):
                own = [(bid_id, slots) for bid_id, slots in taken if bid_id in self._own]
                self._own |= {self._of(bid_id, slot) for bid_id, slots in own for slot in slots}
            case CommitConfirmed(bid_id=bid_id):
                yield from self._unless_own(bid_id, Bid, Commit, CommitAck)
            case AllocationFinished(status=status):
                self._finished[status.allocation_id] = event
                yield from self._unless_own(status.allocation_id, AllocationStatus)
            case AttemptEnded(allocation_id=allocation, ending=ending):
                finished = self._finished.get(allocation)
                said = finished.status.ending if finished is not None else None
                # Otherwise its results were not to be had, or its receipt comes with the verdict.
                if said is not None and said.reason is ending.reason and not self._is_judged(ending.reason):
                    yield from self._unless_own(allocation, Receipt)
            case ResultJudged():
                for answer in event.answers:
                    yield from self._unless_own(answer.allocation_id, Receipt)

    def _of(self, bid_id: BidId, slot: int) -> AllocationId:
        assert self._terms is not None, "a request begins with RequestOpened"
        return self._terms.allocation_of(bid_id, slot)

    def _is_judged(self, reason: EndReason) -> bool:
        return self._terms is not None and self._terms.verify.is_on and reason in ANSWERS

    def _by_provider(self, stream: str, event: Event) -> Iterator[Wanted]:
        match event:
            case BidCommitted(bid_id=bid_id, requester=requester):
                self._note(bid_id, requester)
                yield from self._unless_own(bid_id, Bid, Commit, CommitAck)
                if bid_id not in self._own:
                    yield BidRequest, ""
            case AllocationOpened(reservation=reservation):
                self._note(reservation.allocation_id, reservation.requester)
            case AllocationEnded():
                yield from self._unless_own(stream, AllocationStatus)
            case ReceiptReceived() | ReceiptDisputed():
                yield from self._unless_own(stream, Receipt)

    def _note(self, id_: str, other: PeerId) -> None:
        if other == self._exporter:
            self._own.add(id_)

    def _unless_own(self, id_: str, *kinds: type[Message]) -> Iterator[Wanted]:
        if id_ not in self._own:
            yield from ((kind, id_) for kind in kinds)
