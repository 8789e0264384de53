"""One auction against providers that do anything, in any order, with crashes in between. It always ends, and never does anything wrong."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms_proto.ids import AllocationId, PeerId, digest_of
from dms_proto.market import auction
from dms_proto.market.auction_attempts import STOPPED
from dms_proto.market.auction_camps import question
from dms_proto.market.auction_copies import is_welcome, quorum_faults
from dms_proto.market.auction_effects import Announce, Compare
from dms_proto.market.auction_events import AttemptEnded, RequestEnded, ResultJudged
from dms_proto.market.auction_money import awaits_verdict
from dms_proto.market.auction_reading import pending, seeking, usable
from dms_proto.market.auction_state import MAX_BIDS_EACH, AuctionPhase, SearchPhase, SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked, InvocationAnswered, PeerLost, PeerThere, Restarted
from dms_proto.market.candidates import BidderFacts
from dms_proto.messages import InvocationAck, Phase, Receipt
from dms_proto.sim.comparing import BROKEN, NEAR, SPOILT, compared
from dms_proto.sim.requester import BUSY, DEAR, NEVER, REQUEST, Requester
from dms_proto.units import HOUR, SECOND
from dms_proto.verification.policy import HASH, WARY, Apart, Policy, Verification, is_check_due
from dms_proto.work import ANSWERS, OWNERS, EndReason, Output

peers = st.sampled_from(["me", "a", "b", "c"])
TRUSTED = 10 * WARY
"""A streak of whoever is checked as rarely as can be."""
CHECKED = next(seed for seed in (b"%d" % number for number in range(1_000)) if is_check_due(TRUSTED, seed, 0))
"""A secret by which the first piece of work is checked, whoever has it."""
outputs = st.sampled_from(
    [(), *((Output("out", digest_of(b"%d" % size), size),) for size in (3, 4, 6, 100, SPOILT, SPOILT + 1))]
)


class AnyMarket(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.requester = Requester(queue_ms=5 * SECOND)

    @property
    def allocations(self) -> list[AllocationId]:
        return [slot.allocation_id for slot in self.requester.state.slots if slot.allocation_id] or [
            AllocationId("a-0")
        ]

    @precondition(lambda self: self.requester.state.phase is AuctionPhase.NEW)
    @rule(
        count=st.integers(1, 3),
        deadline=st.sampled_from([0, 3_000]),
        bids=st.integers(1, 3),
        policy=st.sampled_from(Policy),
        comparator=st.sampled_from([HASH, NEAR, BROKEN]),
        seed=st.sampled_from([b"secret", CHECKED]),
    )
    def submitted(self, count: int, deadline: int, bids: int, policy: Policy, comparator: str, seed: bytes) -> None:
        deadline_at = self.requester.now + deadline if deadline else 0
        self.requester.terms = Requester(
            count=count,
            deadline_at=deadline_at,
            bids_wanted=bids,
            queue_ms=5 * SECOND,
            verify=Verification(policy, comparator=comparator, apart=Apart.NODES),
            seed=seed,
        ).terms
        self.requester.submit()

    @precondition(lambda self: self.requester.state.search is SearchPhase.CALLED)
    @rule(asked=st.sets(peers), gossip=st.booleans(), known=st.integers(0, 50))
    def announced(self, asked: set[str], gossip: bool, known: int) -> None:
        self.requester.asks(*sorted(asked), gossip=gossip, known=max(known, len(asked)))

    @precondition(lambda self: self.requester.state.phase is not AuctionPhase.NEW)
    @rule(
        peer=peers,
        number=st.integers(0, 4),
        slots=st.integers(1, 4),
        price=st.sampled_from([0, 100, 1_000, 2_000]),
        valid=st.sampled_from([0, 300, 10_000, 2**53]),
        streak=st.sampled_from([0, TRUSTED]),
    )
    def bid(self, peer: str, number: int, slots: int, price: int, valid: int, streak: int) -> None:
        facts = BidderFacts(streak=streak)
        self.requester.bid(peer, number, slots=slots, price=price, valid_ms=valid, facts=facts)

    @precondition(lambda self: self.requester.state.phase is not AuctionPhase.NEW)
    @rule(peer=peers, clauses=st.sampled_from([BUSY, NEVER, DEAR]), round_=st.integers(0, 5))
    def declined(self, peer: str, clauses: tuple, round_: int) -> None:  # type: ignore[type-arg]
        self.requester.declines(peer, clauses, round_)

    @precondition(lambda self: self.requester.state.bids)
    @rule(data=st.data(), peer=peers, ack=st.booleans())
    def commit_answered(self, data: st.DataObject, peer: str, ack: bool) -> None:
        bid_id = data.draw(st.sampled_from(sorted(self.requester.state.bids)))
        provider = self.requester.state.bids[bid_id].provider if data.draw(st.booleans()) else peer
        if ack:
            self.requester.acks(provider, bid_id)
        else:
            self.requester.refuses(provider, bid_id)

    @precondition(lambda self: self.requester.state.slots)
    @rule(data=st.data(), phase=st.sampled_from([Phase.COMMITTED, Phase.PREPARING, Phase.RUNNING, Phase.STOPPING]))
    def status(self, data: st.DataObject, phase: Phase) -> None:
        slot = data.draw(st.sampled_from(self.requester.state.slots))
        self.requester.reports(slot.provider or "a", slot.allocation_id or AllocationId("a-0"), phase)

    @precondition(lambda self: self.requester.state.slots)
    @rule(
        data=st.data(),
        reason=st.sampled_from(EndReason),
        price=st.integers(0, 5_000),
        complete=st.booleans(),
        outputs=outputs,
    )
    def ending(
        self, data: st.DataObject, reason: EndReason, price: int, complete: bool, outputs: tuple[Output, ...]
    ) -> None:
        slot = data.draw(st.sampled_from(self.requester.state.slots))
        allocation = slot.allocation_id or AllocationId("a-0")
        self.requester.ends(slot.provider or "a", allocation, reason, price=price, complete=complete, outputs=outputs)

    @rule(data=st.data(), failed=st.sampled_from(["", "gone"]))
    def collected(self, data: st.DataObject, failed: str) -> None:
        if self.requester.state.phase is not AuctionPhase.NEW:
            self.requester.collects(data.draw(st.sampled_from(self.allocations)), failed)

    @precondition(lambda self: self.requester.state.comparing)
    @rule(data=st.data(), is_late=st.booleans())
    def compared(self, data: st.DataObject, is_late: bool) -> None:
        state = self.requester.state
        said = compared(question(state, data.draw(st.sampled_from(list(state.comparing.values())))))
        self.requester.tell(said)
        if is_late:
            self.requester.tell(said)

    @rule(data=st.data(), peer=peers)
    def invocation_refused(self, data: st.DataObject, peer: str) -> None:
        answer = InvocationAck(REQUEST, data.draw(st.sampled_from(self.allocations)), "no")
        self.requester.tell(InvocationAnswered(PeerId(peer), answer))

    @rule(peer=peers, ours=st.booleans())
    def lost(self, peer: str, ours: bool) -> None:
        self.requester.tell(PeerLost(PeerId(peer), ours))

    @rule(peer=peers)
    def there(self, peer: str) -> None:
        self.requester.tell(PeerThere(PeerId(peer)))

    @rule(span=st.sampled_from([1, 100, 251, 500, 2_000, 20_000]))
    def time_passes(self, span: int) -> None:
        self.requester.wait(span)

    @precondition(lambda self: self.requester.state.phase is AuctionPhase.OPEN)
    @rule()
    def cancelled(self) -> None:
        self.requester.tell(CancelAsked())

    @precondition(lambda self: self.requester.state.phase is not AuctionPhase.NEW)
    @rule()
    def restarted(self) -> None:
        live = self.requester.state
        assert self.requester.restart() == live
        self.requester.tell(Restarted())
        self.requester.effects = auction.resume(self.requester.state)

    # ----------------------------------------------------------------------------------------------------------- always

    @invariant()
    def one_terminal_state_and_nothing_after_it(self) -> None:
        ends = [index for index, event in enumerate(self.requester.log) if isinstance(event, RequestEnded)]
        assert len(ends) == (self.requester.state.phase is AuctionPhase.ENDED)
        assert all(index == len(self.requester.log) - 1 for index in ends)

    @invariant()
    def a_slot_is_committed_to_one_bid(self) -> None:
        taken = [slot for bid in pending(self.requester.state).values() for slot in bid.slots]
        committing = [s.index for s in self.requester.state.slots if s.phase is SlotPhase.COMMITTING]
        assert sorted(taken) == committing

    @invariant()
    def no_silent_winner_is_waited_for_longer_than_its_timeout(self) -> None:
        assert all(bid.ack_until > self.requester.now - 1 for bid in pending(self.requester.state).values())

    @invariant()
    def no_bid_lies_idle(self) -> None:
        state = self.requester.state
        if state.phase is not AuctionPhase.OPEN or state.search in (SearchPhase.WINDOW, SearchPhase.CALLED):
            return
        for bid in usable(state, self.requester.now).values():
            assert not any(is_welcome(state, slot, bid) for slot in seeking(state))

    @invariant()
    def no_more_is_owed_than_was_offered(self) -> None:
        slots = self.requester.state.slots
        assert all(slot.price <= slot.attempts * self.requester.terms.max_price for slot in slots)
        ending = self.requester.state.ending
        if ending is not None:
            assert ending.price == sum(slot.price for slot in slots)
            assert ending.reason in OWNERS

    @invariant()
    def only_an_answer_and_what_was_stopped_are_paid(self) -> None:
        paid = {event.ending.reason for event in self.requester.log if isinstance(event, AttemptEnded) and event.price}
        assert paid <= ANSWERS | STOPPED.keys()

    @invariant()
    def nobody_fills_the_list_of_bids(self) -> None:
        bidders = Counter(bid.provider for bid in self.requester.state.bids.values())
        assert all(count <= MAX_BIDS_EACH for count in bidders.values())

    @invariant()
    def the_market_is_not_asked_to_check_what_a_proven_provider_has_not_answered_yet(self) -> None:
        state = self.requester.state
        if state.phase is not AuctionPhase.OPEN or self.requester.terms.verify.policy is not Policy.ADAPTIVE:
            return
        at_work = (SlotPhase.COMMITTING, SlotPhase.HELD)
        watched = {slot.piece for slot in state.slots if slot.phase in at_work and slot.streak}
        sought = [slot for slot in state.slots if slot.phase is SlotPhase.SEEKING and slot.piece not in watched]
        for announced in self.requester.wanted(Announce):
            assert 0 < announced.request.count <= len(sought)

    @invariant()
    def what_is_accepted_has_its_quorum_and_is_accepted_once(self) -> None:
        judged = [event for event in self.requester.log if isinstance(event, ResultJudged)]
        assert len({event.piece for event in judged}) == len(judged)
        for event in judged:
            assert not quorum_faults(self.requester.state, event)

    @invariant()
    def what_is_asked_of_a_comparator_is_asked_until_it_is_said_and_is_of_the_past_once_the_piece_is_judged(
        self,
    ) -> None:
        state = self.requester.state
        asked = {effect.piece for effect in auction.resume(state) if isinstance(effect, Compare)}
        assert asked == (set() if state.phase in (AuctionPhase.NEW, AuctionPhase.ENDED) else set(state.comparing))
        assert not asked & set(state.verdicts)

    @invariant()
    def a_receipt_is_given_once_it_is_clear_who_was_right(self) -> None:
        unpaid = {
            slot.allocation_id for slot in self.requester.state.slots if awaits_verdict(self.requester.state, slot)
        }
        assert not any(receipt.allocation_id in unpaid for receipt in self.requester.sent(Receipt))

    @invariant()
    def no_deadline_is_left_in_the_past(self) -> None:
        due = auction.next_deadline(self.requester.state)
        assert due is None or due > self.requester.now or self.requester.state.phase is not AuctionPhase.ENDED

    def teardown(self) -> None:
        """When everybody has gone away for good, it ends."""
        if self.requester.state.phase is AuctionPhase.NEW:
            return
        until = self.requester.now + HOUR
        while self.requester.state.phase is not AuctionPhase.ENDED:
            assert self.requester.now < until, self.requester.state
            for peer in ("me", "a", "b", "c"):
                self.requester.tell(PeerLost(PeerId(peer)))
            for allocation in self.allocations:
                self.requester.collects(allocation, "gone")
            for begun in tuple(self.requester.state.comparing.values()):
                self.requester.tell(compared(question(self.requester.state, begun)))
            if self.requester.state.search is SearchPhase.CALLED:
                self.requester.asks()
            self.requester.wait(500)


TestAnyMarket = AnyMarket.TestCase
TestAnyMarket.settings = settings(max_examples=120, stateful_step_count=40)
