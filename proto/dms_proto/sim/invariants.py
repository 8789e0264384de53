"""What must be true of a network at every step and at its end. Each check is a function named after what it demands.

At every step of an honest node: the capacity law · no promise beyond capacity · a slot has at most one allocation · one terminal state, and
nothing after it · a commit within validity is not refused for capacity · a silent winner costs one acknowledgement timeout and the next bid is
taken at once · the same stimulus twice changes nothing more · no deadline stays in the past. When a node dies and at the end: the log alone
gives the live state · an accepted result has its quorum, and is accepted once. At the end: everything is over, nothing is held, nothing runs, and the
books of both sides agree on the money. They balance at every step. What must hold of work that gives way is in `freezes`,
of requests that wait for their turn in `turns`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dms_proto.accounts.book import Accounts, Book
from dms_proto.allocation.events import CLOSING, AllocationEnded, EndingRepeated
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.stimuli import NodeRestarted
from dms_proto.ids import AllocationId, BidId, PeerId
from dms_proto.machine import Decision, Event, Send, Stimulus, TimeCame, Transient
from dms_proto.market import auction_events, auction_stimuli, offer_state
from dms_proto.market.auction_attempts import STOPPED
from dms_proto.market.auction_copies import is_welcome, quorum_faults
from dms_proto.market.auction_reading import is_held_back, pending, seeking, unfilled, usable
from dms_proto.market.auction_state import Auction, AuctionPhase, SearchPhase, terms_of
from dms_proto.market.comparison import fit_test
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_lending import lent_millicores, uncommitted_millicores
from dms_proto.market.offer_state import OfferBook
from dms_proto.market.second_price import check_award, seal_of
from dms_proto.membership import machine as membership_machine
from dms_proto.messages import CommitRefusal, CommitRefused, Pricing
from dms_proto.sim import freezes
from dms_proto.sim.demands import Violation, demand
from dms_proto.sim.turns import check_turns
from dms_proto.work import OWED, OWNERS, EndReason, Usage

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode
    from dms_proto.sim.simulation import Simulation


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final[dict[type[Event], Callable[[bytes], Event]]] = {}


class Watch:
    """Looks at every step of every honest node, and that no node, liars included, turns on the spot."""

    def __init__(self, world: Simulation, twice_every: int) -> None:
        self.world = world
        self.twice_every = twice_every
        self.settled: dict[AllocationId, tuple[int, EndReason, PeerId]] = {}
        """What each requester says it owes, by allocation."""
        self.overruled: set[AllocationId] = set()
        """Allocations whose result was not the accepted one."""

    def step(self, node: SimNode, stream: str, stimulus: Stimulus, before: Any, decision: Decision) -> None:
        """Checks one step: from `before` to `node.states[stream]`."""
        after = node.states[stream]
        self._deadline_is_ahead(node, stream, stimulus, after)
        if node.spec.lie is not None:
            return
        match stream[0]:
            case "b":
                self._book_step(node, stimulus, before, after, decision)
            case "r":
                self._auction_step(node, stimulus, before, after, decision)
            case "a":
                self._allocation_step(node, before, after, decision)
        if any(isinstance(effect, Book) for effect in decision.effects):
            self._books_balance(node)
        if self.world.steps % self.twice_every == 0 and not isinstance(stimulus, _NOT_TWICE):
            self._twice_changes_nothing(node, stream, stimulus, after)

    # --------------------------------------------------------------------------------------------------------------- steps

    def _book_step(
        self, node: SimNode, stimulus: Stimulus, before: OfferBook, after: OfferBook, decision: Decision
    ) -> None:
        if after.ledger is not before.ledger:
            try:
                after.ledger.check()
            except (AssertionError, ValueError) as error:
                raise Violation("capacity law", f"{node!r}: {error}") from error
            self._offline_gives_way(node, after)
            per_slot: dict[tuple[BidId, int], AllocationId] = {}
            for allocation_id, reservation in after.ledger.reservations.items():
                earlier = per_slot.setdefault((reservation.bid_id, reservation.slot), allocation_id)
                demand(earlier == allocation_id, "one allocation per reservation", f"{node!r}: {reservation}")
        for bid in (event.reservations for event in decision.events if isinstance(event, offer_state.BidCommitted)):
            self._price_is_proven(node, bid, before, stimulus)
        if isinstance(stimulus, offer_state.CommitHeard):
            self._binding(node, stimulus, before, decision)

    def _offline_gives_way(self, node: SimNode, book: OfferBook) -> None:
        """Work to which CPU is lent has no more of it than others leave: the rest of it stands still."""
        running = lent_millicores(r for r in book.ledger.reservations.values() if r.allocation_id not in book.frozen)
        left = uncommitted_millicores(book.ledger)
        demand(running <= left, "offline gives way", f"{node!r}: {running} of {left} millicores are lent to what runs")

    def _price_is_proven(
        self, node: SimNode, taken: tuple[Reservation, ...], before: OfferBook, stimulus: Stimulus
    ) -> None:
        """What was sealed is taken at no less than was bid, at no more than was offered, and as the list gives it."""
        assert isinstance(stimulus, offer_state.CommitHeard)
        for reservation in taken:
            lock, sealed = before.ledger.locks[reservation.bid_id], before.sealed.get(reservation.bid_id)
            most = lock.most if sealed is not None else lock.price
            demand(
                lock.price <= reservation.price <= most, "a price within bid and maximum", f"{node!r}: {reservation}"
            )
            if sealed is not None:
                flaw = check_award(sealed.bid, node.peer, most, sealed.seals, stimulus.commit.award)
                demand(flaw is None, "a second price is proven", f"{node!r}: {flaw} {stimulus.commit}")

    def _opened_after_sealed(self, node: SimNode, event: auction_events.BidReceived, before: Auction) -> None:
        """Where bids are sealed, only what its bidder sealed, and was told to open, takes part."""
        if before.terms is None or before.terms.pricing is not Pricing.SECOND_PRICE:
            return
        held = before.seals.get(event.bid.bid_id)
        is_its = (
            held is not None and held.provider == event.provider and seal_of(event.bid, event.provider) in held.listed
        )
        demand(is_its, "bids are sealed before they are opened", f"{node!r}: {event}")

    def _binding(self, node: SimNode, heard: offer_state.CommitHeard, before: OfferBook, decision: Decision) -> None:
        commit = heard.commit
        for effect in decision.effects:
            if not isinstance(effect, Send) or not isinstance(effect.message, CommitRefused):
                continue
            refused_for_capacity = effect.message.refusal in (CommitRefusal.UNKNOWN_BID, CommitRefusal.EXPIRED)
            bid = next(
                (e.bid for _, e in node.log if isinstance(e, offer_state.BidMade) and e.bid.bid_id == commit.bid_id),
                None,
            )
            released = any(isinstance(e, offer_state.LockReleased) and e.bid_id == commit.bid_id for _, e in node.log)
            if refused_for_capacity and bid is not None and not released and commit.bid_id not in before.committed:
                demand(
                    node.now > bid.valid_until,
                    "a bid is binding",
                    f"{node!r} refused a commit of {commit.bid_id}, valid until {bid.valid_until}, at {node.now}",
                )

    def _auction_step(
        self, node: SimNode, stimulus: Stimulus, before: Auction, after: Auction, decision: Decision
    ) -> None:
        if before.phase is AuctionPhase.ENDED:
            demand(not decision.events, "nothing after the end", f"{node!r}: {stimulus} led to {decision.events}")
        ends = [event for event in decision.events if isinstance(event, auction_events.RequestEnded)]
        demand(len(ends) <= 1, "one terminal state", f"{node!r}: {ends}")
        if ends:
            demand(ends[0].reason in OWNERS, "every end has an owner", f"{ends[0]}")
            demand(ends[0].price == sum(s.price for s in after.slots), "money is conserved", f"{ends[0]}")
            terms = after.terms
            is_judged = terms is None or not terms.verify.is_on or len(after.verdicts) == terms.count
            demand(is_judged, "every piece has a verdict", f"{node!r}: {after.verdicts}")
        taken: set[int] = set()
        for bid in pending(after).values():
            demand(taken.isdisjoint(bid.slots), "one commit per slot", f"{node!r}: {after.bids}")
            taken.update(bid.slots)
        for event in decision.events:
            if isinstance(event, auction_events.RequestAnnounced):
                check_turns(node, event, after)
            if isinstance(event, auction_events.BidReceived):
                self._opened_after_sealed(node, event, before)
            if isinstance(event, auction_events.AwardMade):
                wanted = [index for _, indexes in event.taken for index in indexes]
                demand(len(set(wanted)) == len(wanted), "one commit per slot", f"{node!r}: {event.taken}")
                is_whole = not terms_of(after).together or not unfilled(after)
                demand(is_whole, "all or none", f"{node!r}: {event.taken} leaves {unfilled(after)}")
            if isinstance(event, auction_events.AttemptEnded) and event.provider:
                terms = after.terms
                assert terms is not None
                demand(0 <= event.price <= terms.max_price, "no more than the maximum price", f"{event}")
                is_for_work = event.ending.reason in OWED | STOPPED.keys()
                demand(is_for_work or not event.price, "only work is paid", f"{event}")
                self.settled[event.allocation_id] = (event.price, event.ending.reason, event.provider)
                freezes.check_eviction(node, event, before, after)
            if isinstance(event, auction_events.ResultJudged):
                self._verdict(node, event, before, after)
        self._silent_winner_costs_one_timeout(node, after)
        self._next_bid_is_taken_at_once(node, after)

    def _verdict(self, node: SimNode, judged: auction_events.ResultJudged, before: Auction, after: Auction) -> None:
        demand(judged.piece not in before.verdicts, "a result is accepted once", f"{node!r}: {judged}")
        faults = quorum_faults(after, judged)
        demand(not faults, "an accepted result has its quorum", f"{node!r}: {judged}: {faults}")
        self.overruled |= {answer.allocation_id for answer in judged.wrong}

    def _silent_winner_costs_one_timeout(self, node: SimNode, after: Auction) -> None:
        late = [bid for bid in pending(after).values() if bid.ack_until < node.now]
        demand(
            not late or node.life > 1 or node.frozen_until > 0,
            "a silent winner costs one timeout",
            f"{node!r} at {node.now} still waits for {late}",
        )

    def _next_bid_is_taken_at_once(self, node: SimNode, after: Auction) -> None:
        """With a bid in hand for a slot that seeks, no time is lost outside a bidding window. What a liar bids may not do."""
        if after.phase is not AuctionPhase.OPEN or after.search in _LISTENING or terms_of(after).together:
            return
        bids = usable(after, node.now)
        excluded = {entry.bid_id for entry in after.decision.ranking.excluded} if after.decision is not None else set()
        idle = [
            bid_id
            for bid_id, bid in bids.items()
            if bid_id not in excluded
            and not is_held_back(after, bid.facts)
            and any(is_welcome(after, slot, bid) for slot in seeking(after))
        ]
        idle = [bid_id for bid_id in idle if fit_test(terms_of(after).needs)(bids[bid_id].bid.offer)]
        demand(not idle, "the next bid is taken at once", f"{node!r}: {idle} are at hand and {after.search}")

    def _allocation_step(self, node: SimNode, before: Allocation, after: Allocation, decision: Decision) -> None:
        ends = [event for event in decision.events if isinstance(event, AllocationEnded)]
        was_over = before.phase in (LifePhase.ENDED, LifePhase.CLOSED)
        demand(len(ends) + was_over <= 1, "one terminal state", f"{node!r}: {before.phase} and {ends}")
        if was_over:
            later = [event for event in decision.events if not isinstance(event, _AFTER_END)]
            demand(not later, "nothing after the end", f"{node!r}: {later}")
        if before.phase is LifePhase.CLOSED:
            demand(not decision.events, "nothing after the end", f"{node!r}: {decision.events}")
        if ends:
            reservation = after.reservation
            assert reservation is not None
            demand(ends[0].ending.reason in OWNERS, "every end has an owner", f"{ends[0]}")
            demand(0 <= ends[0].price <= reservation.price, "no more than the agreed price", f"{ends[0]}")
            freezes.check_bill(node, after, ends[0].price)
            demand(
                reservation.allocation_id not in node.machine.runs,
                "no orphan",
                f"{node!r}: {reservation.allocation_id} ended as {ends[0].ending.reason} and still runs",
            )
        demand(not node.machine.began_twice, "a task runs once", f"{node!r}: {node.machine.began_twice}")

    def _books_balance(self, node: SimNode) -> None:
        try:
            node.accounts.check()
        except AssertionError as error:
            raise Violation("money is conserved", f"{node!r}: {error}") from error

    # ---------------------------------------------------------------------------------------------------------- every step

    def _deadline_is_ahead(self, node: SimNode, stream: str, stimulus: Stimulus, after: Any) -> None:
        if not isinstance(stimulus, TimeCame):
            return
        deadline = _part(stream).next_deadline(after)
        demand(
            deadline is None or deadline > node.now,
            "no deadline stays in the past",
            f"{node!r} {stream}: after the time {node.now} came, it is due at {deadline}",
        )

    def _twice_changes_nothing(self, node: SimNode, stream: str, stimulus: Stimulus, after: Any) -> None:
        part = _part(stream)
        again = part.decide(after, stimulus, node.now)
        state = after
        for event in again.events:
            state = part.evolve(state, event)
        if state != after:
            raise Violation("twice changes nothing", f"{node!r} {stream}: {stimulus} again led to {again.events}")

    # ------------------------------------------------------------------------------------------------------------- replay

    def before_crash(self, node: SimNode) -> None:
        """The log alone gives the live state."""
        if node.spec.lie is not None:
            return
        through_bytes = [(stream, _written_and_read(event)) for stream, event in node.log]
        live, node.log = node.states, through_bytes
        folded = node.fold()
        for stream, state in live.items():
            if stream[0] in "ra" and state in (Auction(), Allocation()):
                continue  # met something before it was opened, and ignored it
            demand(
                durable(state) == durable(folded.get(stream)),
                "the log gives the live state",
                f"{node!r} {stream}: live {durable(state)}\nfolded {durable(folded.get(stream))}",
            )

    # ----------------------------------------------------------------------------------------------------------------- end

    def at_the_end(self) -> None:
        """Everything is over and in order."""
        hanging = self.world.unfinished()
        if len(self.world.submitted) < len(self.world.plan.jobs):
            hanging.append("jobs that were not submitted")
        demand(not hanging, "everything ends", "; ".join(hanging[:8]))
        for node in self.world.nodes:
            self.before_crash(node)
            if node.spec.lie is None:
                demand(node.book.ledger.available == node.book.ledger.registered, "all capacity is free", repr(node))
        self._money_agrees()
        self._books_agree()

    def _money_agrees(self) -> None:
        for allocation_id, (price, reason, provider) in self.settled.items():
            node = self.world.by_peer.get(provider)
            if allocation_id in self.overruled or node is None or node.spec.lie is not None or reason not in _ACCEPTED:
                continue
            ended = node.states.get(allocation_id)
            if ended is None or ended.ending is None or ended.ending.reason is not reason:
                continue
            demand(
                ended.price == price,
                "money is conserved",
                f"{allocation_id}: {node!r} is owed {ended.price}, the requester says {price}",
            )

    def _books_agree(self) -> None:
        """What a requester books as owed is what its provider books as accepted; what they differ about has an account of its own."""
        honest = [node.accounts for node in self.world.nodes if node.spec.lie is None]
        for requester, provider in product(honest, repeat=2):
            differs = difference(requester, provider)
            demand(not differs, "money is conserved", differs)


_LISTENING: Final = (SearchPhase.WINDOW, SearchPhase.CALLED, SearchPhase.OPENING)
_NOT_TWICE: Final = (TimeCame, auction_stimuli.Announced, NodeRestarted)
_AFTER_END: Final = (EndingRepeated, *CLOSING)
_ACCEPTED: Final = frozenset(
    {EndReason.COMPLETED, EndReason.CHECKPOINTED, EndReason.EXIT_NONZERO, EndReason.OUT_OF_MEMORY, EndReason.WALL_TIME}
)


def difference(requester: Accounts, provider: Accounts) -> str:
    """How the books of two honest nodes differ about what one did for the other, beyond claims that are not answered yet; empty: they agree."""
    theirs, owed = provider.of(requester.me), requester.of(provider.me).expense
    accepted = -theirs.income - theirs.claimed - theirs.disputed
    if accepted <= owed <= accepted + theirs.claimed:
        return ""
    return f"{requester.me} owes {owed}; {provider.me} has {accepted} accepted and {theirs.claimed} unanswered"


def _part(stream: str) -> Any:
    from dms_proto.sim.node import PARTS  # noqa: PLC0415 - the node imports the world's checks

    return PARTS[stream[0]]


def durable(state: Any) -> Any:
    """What is left of a state after a restart: transient facts taken out."""
    if isinstance(state, Auction):
        slots = tuple(msgspec.structs.replace(slot, usage=Usage()) for slot in state.slots)
        return msgspec.structs.replace(state, slots=slots)
    if isinstance(state, Allocation) and state.ending is None:
        return msgspec.structs.replace(state, usage=Usage())
    if isinstance(state, OfferBook):
        return msgspec.structs.replace(state, credit={})
    if not isinstance(state, membership_machine.Membership):
        return state
    state = membership_machine.after_restart(state)
    peers = {
        key: msgspec.structs.replace(
            peer,
            hello=None if peer.hello is None else msgspec.structs.replace(peer.hello, now=0, peers=()),
            told_at=0,
            relayed=False,
            dials=0,
            dial_at=0,
            probe_nonce=0,
            probed_at=0,
            unanswered=0,
            rtt_ms=-1,
            seen_at=0,
        )
        for key, peer in state.peers.items()
        if peer.addresses or peer.hello is not None  # others were only named by a peer, and are being dialled
    }
    return msgspec.structs.replace(state, hello=None, peers=peers, look_at=0)


def _written_and_read(event: Event) -> Event:
    """An event as the store gives it back."""
    assert not isinstance(event, Transient)
    kind = type(event)
    decode = _DECODERS.get(kind)
    if decode is None:
        decode = _DECODERS[kind] = msgspec.msgpack.Decoder(kind).decode
    return decode(_ENCODE(event))
