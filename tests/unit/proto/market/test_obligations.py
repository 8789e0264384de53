"""The most this node may owe a peer, over all its jobs: kept whatever the order in which jobs decide, end and are booked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms_proto import ids
from dms_proto.accounts.book import Accounts, Book, Entry, charge, payment
from dms_proto.capability import Price
from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.machine import Decision, Effect, Stimulus, TimeCame
from dms_proto.market import auction
from dms_proto.market.auction_effects import Announce
from dms_proto.market.auction_events import AwardMade, BidPassedOver
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_money import stakes
from dms_proto.market.auction_state import Auction, AuctionPhase, SlotPhase
from dms_proto.market.auction_stimuli import Announced, BidHeard, CommitAcked, StatusHeard, Submitted
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.obligations import Obligations
from dms_proto.messages import AllocationStatus, Bid, Commit, CommitAck, Phase, Release
from dms_proto.sim.requester import OFFER, Requester, terms
from dms_proto.units import HOUR
from dms_proto.work import Ending, EndReason, Usage

ME, A, B = PeerId("me"), PeerId("a"), PeerId("b")
CEILING = 100


def books(**changes: Any) -> Accounts:
    return Accounts(ME, default_debt_limit=CEILING, **changes)


def owing(amount: int, peer: PeerId = A) -> Accounts:
    (booked,) = charge(peer, "r-0", f"a-0-{peer}", amount)
    return books().post(booked.entry)


class Asker(Requester):
    """One request, driven as an Orchestrator drives it."""

    def __init__(self, obligations: Obligations, **changed: Any) -> None:
        super().__init__(**changed)
        self.obligations = obligations
        self._decide = self.decide_informed

    def decide_informed(self, state: Auction, stimulus: Stimulus, now: int) -> Decision:
        return auction.decide(self.obligations.informed(self.terms.request_id, state, stimulus), stimulus, now)


def asker(accounts: Accounts, **changed: Any) -> Asker:
    obligations = Obligations()
    obligations.note(accounts)
    asking = Asker(obligations, **({"bids_wanted": 1} | changed))
    asking.submit("a", "b")
    return asking


# ------------------------------------------------------------------------------------------------------------ one request


def test_a_bid_past_the_ceiling_is_passed_over_with_the_reason_and_let_go() -> None:
    asking = asker(owing(CEILING - 50))

    asking.bid("a", price=51)

    (passed,) = asking.noted(BidPassedOver)
    assert (passed.provider, passed.clause.dimension, passed.clause.passing) == (A, "debt", False)
    assert asking.sent(Release, A)
    assert not asking.sent(Commit)
    asking.bid("b", price=51)
    assert asking.winner == B


def test_a_bid_within_the_ceiling_is_taken() -> None:
    asking = asker(owing(CEILING - 50))
    asking.bid("a", price=50)
    assert asking.winner == A


def test_what_was_paid_in_advance_may_be_spent() -> None:
    asking = asker(books().with_debt_limit(A, 0).post(payment(A, -60, "p-1")))
    asking.bid("a", price=60)
    assert asking.winner == A


def test_what_is_free_needs_no_room() -> None:
    asking = asker(owing(CEILING + 50))
    asking.bid("a", price=0)
    assert asking.winner == A


def test_no_more_slots_are_taken_than_may_be_owed_for() -> None:
    asking = asker(books(), count=4)
    asking.bid("a", price=40, slots=4)
    (made,) = asking.noted(AwardMade)
    assert [len(slots) for _, slots in made.taken] == [2]


def test_a_request_that_nobody_else_can_serve_ends_as_over_budget_with_the_way_out() -> None:
    obligations = Obligations()
    obligations.note(owing(CEILING))
    asking = Asker(obligations, queue_ms=0, patience_ms=0)
    asking.submit("a")
    while asking.reason is None:
        asking.bid("a", max(asking.state.round, 0), price=1)
        for round_ in asking.called():
            asking.asks("a")
            assert round_ == asking.state.round
    assert asking.reason is EndReason.BUDGET_SPENT
    assert asking.state.ending is not None
    assert "1 bidder could be owed too much" in asking.state.ending.detail
    assert asking.state.ending.detail.endswith("pay it, or raise the debt limit for it")


@pytest.mark.parametrize(("at_work", "passing"), [(60, True), (0, False)])
def test_what_others_have_at_work_counts_and_may_turn_out_cheaper(at_work: int, passing: bool) -> None:
    obligations = Obligations()
    obligations.note(owing(CEILING - at_work))
    obligations.stake(RequestId("r-other"), {A: at_work} if at_work else {})
    asking = Asker(obligations, bids_wanted=1)
    asking.submit("a")

    asking.bid("a", price=1)

    (passed,) = asking.noted(BidPassedOver)
    assert passed.clause.passing is passing
    assert asking.state.why.startswith("waits until what is at work elsewhere leaves room to owe 1 bidder") is passing


def test_a_peer_with_a_new_name_is_owed_what_is_at_work_under_the_old_one() -> None:
    obligations = Obligations()
    obligations.note(owing(10, B).inherit(B, A))
    obligations.stake(RequestId("r-other"), {B: CEILING - 20})
    asking = Asker(obligations, bids_wanted=1)
    asking.submit("a")
    asking.bid("a", price=11)
    assert asking.noted(BidPassedOver)


def test_what_is_written_and_not_in_the_live_book_yet_counts_once() -> None:
    obligations = Obligations()
    obligations.note(books())
    (booked,) = charge(A, "r-0", "a-0", CEILING - 20)
    asking = Asker(obligations, bids_wanted=1)
    asking.submit("a")

    obligations.written(booked.entry)
    asking.bid("a", price=21)
    assert asking.noted(BidPassedOver)

    obligations.note(books().post(booked.entry))
    obligations.written(booked.entry)
    asking.bid("a", 1, price=20)
    assert asking.winner == A


# ----------------------------------------------------------------------------------------------------------- many requests


peers = st.sampled_from([A, B])
prices = st.sampled_from([0, 1, 30, 50, 99, 100])
MOSTLY = st.sampled_from([True, True, True, True, False])


class Market(RuleBasedStateMachine):
    """Three requests of one node, two providers, one ceiling. Entries reach the live book late; turns may not be written."""

    def __init__(self) -> None:
        super().__init__()
        self.log = books()
        self.live = books()
        self.late: list[Entry] = []
        self.obligations = Obligations()
        self.obligations.note(self.live)
        self.numbers: dict[tuple[RequestId, PeerId], int] = {}
        self.requests: dict[RequestId, Auction] = {}
        self.now = 0
        for number in range(3):
            asked = terms(count=3, bids_wanted=1, max_price=CEILING, queue_ms=HOUR, patience_ms=HOUR, job_failures=9)
            asked = msgspec.structs.replace(asked, request_id=ids.request_id(bytes([number] * 16)))
            self.requests[asked.request_id] = Auction()
            self.tell(asked.request_id, Submitted(asked))

    def tell(self, request: RequestId, stimulus: Stimulus, *, written: bool = True) -> None:
        """A shift in which one Orchestrator has a turn."""
        self.shift([(request, stimulus)], written=written)

    def shift(self, told: list[tuple[RequestId, Stimulus]], *, written: bool = True) -> None:
        """Each has its turn, on what the others have decided; then all of it is written, or nothing."""
        before = dict(self.requests)
        effects: list[tuple[RequestId, Effect]] = []
        for request, stimulus in told:
            state = self.requests[request]
            decision = auction.decide(self.obligations.informed(request, state, stimulus), stimulus, self.now)
            for event in decision.events:
                state = evolve(state, event)
            self.requests[request] = state
            self.obligations.hold(request, stakes(state))
            effects += [(request, effect) for effect in decision.effects]
        if not written:
            self.requests, effects = before, []
        for _, effect in effects:
            if isinstance(effect, Book):
                self.log = self.log.post(effect.entry)
                self.late.append(effect.entry)
                self.obligations.written(effect.entry)
        for request, _ in told:
            self.obligations.stake(request, stakes(self.requests[request]))
        for request, effect in effects:
            if isinstance(effect, Announce):
                self.tell(request, Announced(effect.request.round, (A, B), gossiped=False, known=2))

    def open_requests(self) -> list[RequestId]:
        return [request for request, state in self.requests.items() if state.phase is AuctionPhase.OPEN]

    def bid(self, request: RequestId, peer: PeerId, price: int, slots: int) -> tuple[RequestId, Stimulus]:
        """A bid that comes in."""
        number = self.numbers[request, peer] = self.numbers.get((request, peer), -1) + 1
        bid_id = ids.bid_id(request, peer, number)
        bid = Bid(request, 0, number, bid_id, OFFER, slots, Price(start=price), price, self.now + 10_000, 10_000)
        return request, BidHeard(peer, bid, BidderFacts())

    @precondition(lambda self: self.open_requests())
    @rule(data=st.data(), peer=peers, price=prices, slots=st.integers(1, 2), written=MOSTLY, acknowledged=MOSTLY)
    def bids_come(
        self, data: st.DataObject, peer: PeerId, price: int, slots: int, written: bool, acknowledged: bool
    ) -> None:
        """For one request or for several, which decide on it before anything of it is written."""
        whose = data.draw(st.lists(st.sampled_from(self.open_requests()), min_size=1, max_size=3, unique=True))
        self.shift([self.bid(request, peer, price, slots) for request in whose], written=written)
        if acknowledged:
            self.acknowledge()

    def slots(self, phase: SlotPhase) -> list[tuple[RequestId, int]]:
        return [
            (request, slot.index)
            for request, state in self.requests.items()
            for slot in state.slots
            if slot.phase is phase
        ]

    def acknowledge(self) -> None:
        """Every commit that waits."""
        for request, index in self.slots(SlotPhase.COMMITTING):
            slot = self.requests[request].slots[index]
            if slot.phase is SlotPhase.COMMITTING:
                bid_id = BidId(slot.bid_id)
                held = tuple(ids.allocation_id(bid_id, at) for at in self.requests[request].bids[bid_id].slots)
                self.tell(request, CommitAcked(slot.provider, CommitAck(request, bid_id, held, terms=slot.terms)))

    @precondition(lambda self: self.slots(SlotPhase.HELD))
    @rule(
        data=st.data(),
        reason=st.sampled_from([EndReason.COMPLETED, EndReason.EXIT_NONZERO, EndReason.PROVIDER_FAULT]),
        over=st.integers(0, 9),
        written=MOSTLY,
    )
    def work_ends(self, data: st.DataObject, reason: EndReason, over: int, written: bool) -> None:
        request, index = data.draw(st.sampled_from(self.slots(SlotPhase.HELD)))
        slot = self.requests[request].slots[index]
        usage = Usage(wall_ms=1_000)
        status = AllocationStatus(
            request, slot.allocation_id, 4, Phase.ENDED, usage, Ending(reason, 0, usage=usage), price=slot.agreed + over
        )
        self.tell(request, StatusHeard(slot.provider, status, complete=True), written=written)

    @precondition(lambda self: self.late)
    @rule()
    def an_entry_reaches_the_live_book(self) -> None:
        self.live = self.live.post(self.late.pop(0))
        self.obligations.note(self.live)

    @rule(peer=st.sampled_from([A, B]))
    def the_owner_pays(self, peer: PeerId) -> None:
        paid = payment(peer, -10, f"p-{self.now}-{len(self.log.posted)}")
        self.log, self.live = self.log.post(paid), self.live.post(paid)
        self.obligations.note(self.live)

    @rule()
    def the_node_restarts(self) -> None:
        """What is known of stakes is lost, and told again from the log before anything decides."""
        self.live, self.late, self.obligations = self.log, [], Obligations()
        self.obligations.note(self.live)
        for request, state in self.requests.items():
            self.obligations.stake(request, stakes(state))

    @rule(span=st.sampled_from([100, 1_000]))
    def time_passes(self, span: int) -> None:
        self.now += span
        for request, state in self.requests.items():
            due = auction.next_deadline(state)
            if due is not None and due <= self.now:
                self.tell(request, TimeCame())

    @invariant()
    def no_more_is_owed_and_at_stake_than_the_owner_lets(self) -> None:
        for peer in (A, B):
            at_work = sum(stakes(state).get(peer, 0) for state in self.requests.values())
            assert at_work - self.log.of(peer).owed <= CEILING, f"{peer}: {at_work} at work, {self.log.of(peer)}"


TestMarket = Market.TestCase
TestMarket.settings = settings(max_examples=100, stateful_step_count=40)
