"""Lying nodes: what they say instead of what their machines decided, and what they do of their own accord."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from dms_proto import ids
from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import PeerId
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    BidRequest,
    Cancel,
    Closing,
    Commit,
    CommitAck,
    CommitRefusal,
    CommitRefused,
    Hello,
    Invocation,
    Message,
    Phase,
    Pricing,
    Probe,
    Receipt,
    Release,
    SealedBid,
)
from dms_proto.sim.comparing import SPOILT
from dms_proto.sim.plan import Lie
from dms_proto.units import GIB
from dms_proto.work import Ending, EndReason, Output, Task, Usage

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode

MISCHIEF_MS: Final = 700
"""Pause between what a liar does of its own accord."""

Said = Iterable[Message]


class Liar:
    """Stands between a node and the network. Remembers what it heard, to misuse it."""

    def __init__(self, lie: Lie, rng: Random, everybody: Callable[[], list[PeerId]]) -> None:
        self.lie = lie
        self._rng = rng
        self._everybody = everybody
        self._allocations: list[tuple[str, str]] = []
        self._bids: list[tuple[str, str]] = []
        self._count = 0

    def says(self, node: SimNode, message: Message) -> Said:
        """What goes out instead of `message`."""
        twist = _TWISTS.get(self.lie)
        return twist(self, node, message) if twist is not None else (message,)

    def hears(self, message: Message) -> None:
        """Remembers ids that belong to others."""
        if isinstance(message, Bid):
            self._bids.append((message.request_id, message.bid_id))
        elif isinstance(message, (Invocation, CommitAck)):
            allocation = message.allocation_id if isinstance(message, Invocation) else message.allocation_ids[0]
            self._allocations.append((message.request_id, allocation))

    # ----------------------------------------------------------------------------------------------------------- twisting

    def _breaks(self, _node: SimNode, message: Message) -> Said:
        if isinstance(message, CommitAck):
            return (CommitRefused(message.request_id, message.bid_id, CommitRefusal.UNKNOWN_BID),)
        return (message,)

    def _stays_silent(self, _node: SimNode, message: Message) -> Said:
        return () if isinstance(message, (CommitAck, AllocationStatus)) else (message,)

    def _silent_after_ack(self, _node: SimNode, message: Message) -> Said:
        return (message,) if isinstance(message, (Hello, Probe, Bid, CommitAck)) else ()

    def _forges(self, node: SimNode, message: Message) -> Said:
        if not isinstance(message, Bid):
            return (message,)
        other = self._rng.choice(self._everybody())
        forged = ids.bid_id(message.request_id, other, 0 if other != node.peer else message.number + 7)
        return (msgspec.structs.replace(message, bid_id=forged), message)

    def _offers_wrongly(self, node: SimNode, message: Message) -> Said:
        if isinstance(message, Bid):
            return (self._dream(message),)
        if isinstance(message, CommitAck):
            return (CommitRefused(message.request_id, message.bid_id, CommitRefusal.TOO_MANY_SLOTS),)
        if type(message).__name__ == "Decline":
            request_id, round_ = message.request_id, message.round  # type: ignore[attr-defined]
            bid_id = ids.bid_id(request_id, node.peer, 0)
            price = Price(start=self._rng.choice((0, 1)))
            return (Bid(request_id, round_, 0, bid_id, Capability(), 10_000, price, 1, 0, 60_000),)
        return (message,)

    def _dream(self, bid: Bid) -> Bid:
        better = msgspec.structs.replace(bid.offer, resources=Resources(1_000_000, 1024 * GIB), cpu_score=9_000)
        return msgspec.structs.replace(bid, offer=better, slots=10_000, tariff=Price(), price=0, valid_ms=2**40)

    def _confuses(self, _node: SimNode, message: Message) -> Said:
        if not isinstance(message, AllocationStatus):
            return (message,)
        change = msgspec.structs.replace
        ended = message.ending or Ending(EndReason.COMPLETED, 0)
        variants: list[Message] = [
            message,
            change(message, phase=Phase.ENDED, ending=ended, number=0),
            change(message, phase=Phase.PREPARING, ending=None, number=99),
            change(message, phase=Phase.ENDED, ending=Ending(EndReason.PROVIDER_FAULT), price=5),
            change(message, phase=Phase.ENDED, ending=Ending(EndReason.NO_PEERS, detail="?")),
        ]
        if self._allocations:
            request_id, allocation = self._rng.choice(self._allocations)
            variants.append(
                change(message, request_id=ids.RequestId(request_id), allocation_id=ids.AllocationId(allocation))
            )
        self._rng.shuffle(variants)
        return variants[: self._rng.randint(1, len(variants))]

    def _overcharges(self, _node: SimNode, message: Message) -> Said:
        if isinstance(message, AllocationStatus):
            return (msgspec.structs.replace(message, price=message.price * 1_000 + 999_999),)
        return (message,)

    def _answers_wrongly(self, _node: SimNode, message: Message) -> Said:
        if not isinstance(message, AllocationStatus) or message.ending is None:
            return (message,)
        agreed = sum(message.request_id.encode()) % 2
        code = 7 if agreed else 8 + sum(message.allocation_id.encode()) % 100
        if message.outputs and code % 3:
            size = SPOILT if code % 2 else 10 * code
            return (msgspec.structs.replace(message, outputs=(Output("out", ids.digest_of(b"%d" % code), size),)),)
        ending = Ending(EndReason.EXIT_NONZERO, code, usage=message.ending.usage)
        return (msgspec.structs.replace(message, ending=ending, outputs=()),)

    def _opens_wrongly(self, node: SimNode, message: Message) -> Said:
        """Another bid than it sealed, none, one in another's name, one before it is asked; or as it should."""
        change = msgspec.structs.replace
        if isinstance(message, SealedBid) and self._rng.random() < 0.2:
            sealed = node.book.sealed.get(message.bid_id)
            return (message, sealed.bid) if sealed is not None else (message,)
        if not isinstance(message, Bid) or not message.salt:
            return (message,)
        other = self._rng.choice(self._everybody())
        wrong: tuple[Said, ...] = (
            (),
            (change(message, price=message.price + 1),),
            (change(message, salt=b"another"),),
            (change(message, bid_id=ids.bid_id(message.request_id, other, 0)),),
            (message, change(message, price=0, tariff=Price())),
            (message,),
        )
        return self._rng.choice(wrong)

    def _sets_prices(self, _node: SimNode, message: Message) -> Said:
        """Asks for sealed bids, closes other lists than it was told to, takes bids at prices and with rivals of its own making."""
        change = msgspec.structs.replace
        if isinstance(message, BidRequest):
            return (change(message, pricing=Pricing.SECOND_PRICE),)
        if isinstance(message, Closing):
            return self._rng.choice(((message,), (change(message, seals=(ids.digest_of(b"?"),)),), (message, message)))
        if not isinstance(message, Commit) or message.award is None:
            return (message,)
        award, rival = message.award, message.award.rival
        cheaper = change(rival, price=max(0, rival.price - 1)) if rival is not None else None
        made_up = (None, change(award, price=award.price // 2), change(award, rival=cheaper), change(award, rival=None))
        return (change(message, award=self._rng.choice(made_up)),)

    # ----------------------------------------------------------------------------------------------------------- mischief

    def mischief(self, node: SimNode) -> tuple[PeerId, Message] | None:
        """The next thing it does of its own accord."""
        others = [peer for peer in self._everybody() if peer != node.peer]
        if not others:
            return None
        to = self._rng.choice(others)
        if self.lie is Lie.LOCK_HOG:
            return to, self._request(count=3, cores=500)
        if self.lie is Lie.GARBAGE_REQUESTS:
            return to, self._rng.choice(_GARBAGE)(self)
        return None

    def _request(self, count: int = 1, cores: int = 1_000, round_: int = 0) -> BidRequest:
        self._count += 1
        needs = Capability(resources=Resources(cores, GIB), relayed=True, max_wall_ms=60_000)
        return BidRequest(self._new_id(), round_, needs, count, 3, 2**32, 10**9, 250, stands_ms=60_000)

    def _new_id(self) -> ids.RequestId:
        return ids.request_id(self._rng.randbytes(16))

    def _foreign_bid(self) -> tuple[ids.RequestId, ids.BidId]:
        if self._bids:
            request_id, bid_id = self._rng.choice(self._bids)
            return ids.RequestId(request_id), ids.BidId(bid_id)
        request = self._new_id()
        return request, ids.bid_id(request, PeerId("nobody"), 0)

    def _foreign_allocation(self) -> tuple[ids.RequestId, ids.AllocationId]:
        request, bid = self._foreign_bid()
        if self._allocations and self._rng.random() < 0.5:
            request_id, allocation = self._rng.choice(self._allocations)
            return ids.RequestId(request_id), ids.AllocationId(allocation)
        return request, ids.allocation_id(bid, 0)

    def _absurd(self) -> Message:
        big = 2**53
        needs = Capability(resources=Resources(big, big, big), max_wall_ms=big)
        return BidRequest(self._new_id(), 2**40, needs, 10_000, 10_000, 2**32, big, big, stands_ms=big)

    def _priceless(self) -> Message:
        needs = Capability(resources=Resources(1, 1), relayed=True, max_wall_ms=2**53)
        return BidRequest(self._new_id(), 0, needs, 1, 1, 2**32, 2**53, 0)

    def _commits(self) -> Message:
        request, bid = self._foreign_bid()
        slots = tuple(self._rng.sample(range(5), self._rng.randint(1, 3)))
        tasks = (Task("sandbox", ("sim", "ok", "1000", "?")),) * len(slots) if self._rng.random() < 0.5 else ()
        return Commit(request, bid, slots, tasks)

    def _releases(self) -> Message:
        return Release(*self._foreign_bid())

    def _cancels(self) -> Message:
        return Cancel(*self._foreign_allocation())

    def _confirms(self) -> Message:
        return Receipt(*self._foreign_allocation(), EndReason.COMPLETED, Usage(), 0)

    def _invokes(self) -> Message:
        return Invocation(*self._foreign_allocation(), Task("sandbox", ("sim", "ok", "1000", "?")))


_GARBAGE: Final[tuple[Callable[[Liar], Message], ...]] = (
    Liar._absurd,
    Liar._priceless,
    Liar._request,
    Liar._commits,
    Liar._commits,
    Liar._releases,
    Liar._cancels,
    Liar._confirms,
    Liar._invokes,
)

_TWISTS: Final[dict[Lie, Callable[[Liar, SimNode, Message], Said]]] = {
    Lie.BREAKS_PROMISES: Liar._breaks,
    Lie.SILENT_WINNER: Liar._stays_silent,
    Lie.SILENT_AFTER_ACK: Liar._silent_after_ack,
    Lie.FORGES_BIDS: Liar._forges,
    Lie.WRONG_OFFERS: Liar._offers_wrongly,
    Lie.STATUS_CHAOS: Liar._confuses,
    Lie.OVERCHARGES: Liar._overcharges,
    Lie.WRONG_RESULTS: Liar._answers_wrongly,
    Lie.OPENS_WRONGLY: Liar._opens_wrongly,
    Lie.SETS_PRICES: Liar._sets_prices,
}
