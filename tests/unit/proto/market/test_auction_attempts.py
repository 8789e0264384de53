"""The requester's machine while work is under way: retries by class, lost providers, silence, cancelling, restarts, money."""

import pytest

from dms_proto.accounts.book import Account, Book
from dms_proto.capability import Price
from dms_proto.ids import Digest, PeerId, allocation_id, bid_id
from dms_proto.machine import TimeCame
from dms_proto.market import auction
from dms_proto.market.auction import CANCEL_GRACE_MS, LOST_GRACE_MAX_MS, LOST_GRACE_MIN_MS, OWN_OUTAGE_GRACE_MS
from dms_proto.market.auction_effects import Announce, Collect, HeardFrom, LetDown
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AttemptEnded,
    CommitFailed,
    ProviderReturned,
    ProviderSuspected,
)
from dms_proto.market.auction_pace import NEWCOMER_NUDGE_MS, NOT_STARTED_MS, NUDGE_MS, OVERDUE_MS, START_WITHIN_MS
from dms_proto.market.auction_state import AuctionPhase, SearchPhase, SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked, InvocationAnswered, PeerLost, PeerThere, Restarted
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.seen import seen_in
from dms_proto.messages import BidRequest, Cancel, Commit, Invocation, InvocationAck, Phase, Receipt
from dms_proto.reputation.evidence import Kind
from dms_proto.reputation.silence import Word, word_of
from dms_proto.sim.requester import BUSY, ME, REQUEST, Requester
from dms_proto.units import HOUR, MINUTE, SECOND
from dms_proto.verification.policy import Policy, Verification
from dms_proto.work import DETERMINISTIC, OWNERS, EndReason, Input, Output, Task, Usage

FILE = Output("out", Digest("sha256:" + "0" * 64), 3)
WALL_MS = 10 * MINUTE


NEWCOMER, PROVEN = BidderFacts(), BidderFacts(successes=1)


def held(*, facts: BidderFacts = NEWCOMER, **changed: object) -> Requester:
    """A request whose one slot is held by "a"; "b" would have been the next best."""
    requester = Requester(**({"bids_wanted": 1} | changed))
    requester.hold("a", facts=facts)
    return requester


def retried_at(requester: Requester, *peers: str) -> None:
    """The round that was called goes to `peers`, who all bid."""
    requester.asks(*peers)
    for peer in peers:
        requester.bid(peer, number=requester.state.numbers.get(PeerId(peer), -1) + 1)
    requester.wait(requester.terms.window_ms)


# ----------------------------------------------------------------------------------------------------------------- retries


def test_the_jobs_own_failure_is_tried_on_a_second_node_and_then_believed() -> None:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.EXIT_NONZERO)
    assert requester.reason is None

    retried_at(requester, "a", "b")
    assert requester.winner == "b"
    requester.ends("b", requester.acknowledged(), EndReason.EXIT_NONZERO)

    assert requester.reason is EndReason.EXIT_NONZERO
    assert requester.state.slots[0].attempts == 2


def test_the_end_of_an_attempt_says_where_its_provider_was() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a", facts=BidderFacts(source="8.8.8.0/24"))
    requester.ends("a", allocation, EndReason.COMPLETED)

    (ended,) = requester.noted(AttemptEnded)
    assert ended.source == "8.8.8.0/24"


@pytest.mark.parametrize(("after", "late"), [(START_WITHIN_MS, 0), (START_WITHIN_MS + 700, 700)])
def test_an_attempt_says_how_much_too_late_its_program_began(after: int, late: int) -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.reports("a", allocation, Phase.PREPARING)
    requester.wait(after)
    requester.reports("a", allocation, Phase.RUNNING)

    requester.ends("a", allocation)

    (ended,) = requester.noted(AttemptEnded)
    assert ended.late_ms == late
    assert [kind for _, _, kind in seen_in(ended)] == [Kind.KEPT, *([Kind.LATE] if late else [])]


def test_fetching_inputs_is_not_being_late() -> None:
    task = Task("sandbox", ("true",), inputs=(Input("in", Digest("sha256:" + "0" * 64), 64 * 5_000),))
    requester = held(task=task)
    allocation = requester.state.slots[0].allocation_id
    requester.reports("a", allocation, Phase.PREPARING)
    requester.wait(START_WITHIN_MS + 5_000)
    requester.reports("a", allocation, Phase.RUNNING)

    requester.ends("a", allocation)

    assert requester.noted(AttemptEnded)[0].late_ms == 0


@pytest.mark.parametrize(("node_faults", "attempts"), [(0, 1), (1, 2), (2, 3), (5, 3), (10, 3)])
def test_what_three_attempts_cannot_get_at_nobody_can_and_the_reason_is_told(node_faults: int, attempts: int) -> None:
    requester = held(queue_ms=0, node_faults=node_faults)
    peers = iter("bcdef")
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.INPUT_UNAVAILABLE)
    while requester.reason is None:
        assert requester.noted(AttemptEnded)[0].why == "it did not get what it reads"
        peer = next(peers)
        retried_at(requester, peer)
        requester.ends(peer, requester.acknowledged(), EndReason.INPUT_UNAVAILABLE)

    assert requester.reason is EndReason.INPUT_UNAVAILABLE
    assert requester.state.slots[0].attempts == attempts


def test_the_jobs_own_failure_ends_it_where_there_is_no_second_node() -> None:
    requester = held(queue_ms=0)
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.OUT_OF_MEMORY)

    retried_at(requester, "a")

    assert requester.reason is EndReason.OUT_OF_MEMORY


def test_a_later_node_fault_does_not_hide_the_jobs_own_failure() -> None:
    requester = held(queue_ms=0, patience_ms=0)
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.EXIT_NONZERO)
    retried_at(requester, "b")
    requester.ends("b", requester.acknowledged(), EndReason.PROVIDER_FAULT)
    while requester.reason is None:
        requester.wait(SECOND)
        if requester.called() or requester.state.search is SearchPhase.CALLED:
            requester.asks("a")

    assert requester.reason is EndReason.EXIT_NONZERO


@pytest.mark.parametrize("reason", sorted(DETERMINISTIC))
def test_a_failure_of_the_job_is_not_held_against_the_node(reason: EndReason) -> None:
    requester = held()

    requester.ends("a", requester.state.slots[0].allocation_id, reason)

    assert requester.state.faulty == {}


@pytest.mark.parametrize(
    "reason", [EndReason.PROVIDER_FAULT, EndReason.PROVIDER_STOPPED, EndReason.NOT_INVOKED, EndReason.CANCELLED]
)
def test_a_fault_of_the_node_is_tried_elsewhere_at_once(reason: EndReason) -> None:
    requester = held()

    requester.ends("a", requester.state.slots[0].allocation_id, reason)

    assert requester.called() == [1]
    (ended,) = requester.noted(AttemptEnded)
    assert not ended.final


def test_a_node_that_failed_is_left_out_of_the_next_round_and_then_taken_again() -> None:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)

    retried_at(requester, "a")
    assert requester.state.search is SearchPhase.WAITING
    requester.wait(SECOND)
    retried_at(requester, "a")

    assert requester.winner == "a"


def test_after_too_many_node_faults_the_slot_is_given_up() -> None:
    requester = held(node_faults=2)
    for peer in ("b", "c"):
        requester.ends(requester.winner, requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)
        retried_at(requester, peer)
        requester.acknowledged()

    requester.ends("c", requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)

    assert requester.reason is EndReason.RETRIES_EXHAUSTED
    assert requester.state.ending is not None
    assert "provider_fault" in requester.state.ending.detail
    assert [ended.ending.reason for ended in requester.noted(AttemptEnded)] == [EndReason.PROVIDER_FAULT], (
        "what is known of the provider rests on what it did, not on how often others had done the same"
    )


def test_a_refused_invocation_is_a_fault_of_the_node() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id

    requester.tell(InvocationAnswered(PeerId("a"), InvocationAck(REQUEST, allocation, "no such allocation here")))

    assert requester.sent(Cancel, PeerId("a")) == [
        Cancel(REQUEST, allocation)
    ]  # it may run: only the repeat was refused
    assert requester.called() == [1]
    assert requester.state.faulty == {"a": 0}


# --------------------------------------------------------------------------------------------------------- results, statuses


def test_results_are_collected_before_the_slot_is_done() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id

    requester.ends("a", allocation, outputs=(FILE,), complete=False)
    assert [effect.provider for effect in requester.wanted(Collect)] == ["a"]
    assert requester.sent(Receipt) == []
    requester.collects(allocation)

    assert requester.reason is EndReason.COMPLETED
    assert requester.state.slots[0].outputs == (FILE,)
    assert len(requester.sent(Receipt, PeerId("a"))) == 1


def test_results_that_cannot_be_had_are_the_nodes_fault() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation, outputs=(FILE,), complete=False)

    requester.collects(allocation, failed="gone")

    assert requester.called() == [1]
    (ended,) = requester.noted(AttemptEnded)
    assert ended.ending.reason is EndReason.PROVIDER_LOST
    assert ended.price == 0


@pytest.mark.parametrize("reason", [EndReason.COMPLETED, EndReason.EXIT_NONZERO])
def test_results_that_this_node_cannot_keep_are_its_own_fault_and_nothing_is_tried_elsewhere(reason: EndReason) -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation, reason, outputs=(FILE,), complete=False, price=7)

    requester.collects(allocation, failed="no space left on device", ours=True)

    (ended,) = requester.noted(AttemptEnded)
    assert (ended.ending.reason, ended.final, ended.outputs) == (EndReason.REQUESTER_FAULT, True, ())
    assert ended.ending.detail == "its results cannot be kept here: no space left on device"
    assert list(seen_in(ended)) == []
    assert [receipt.price for receipt in requester.sent(Receipt)] == [7]
    assert requester.reason is EndReason.REQUESTER_FAULT
    assert not requester.called()


def test_of_an_attempt_that_gave_nothing_what_cannot_be_kept_is_no_loss() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation, EndReason.PROVIDER_FAULT, outputs=(FILE,), complete=False)

    requester.collects(allocation, failed="no space left on device", ours=True)

    (ended,) = requester.noted(AttemptEnded)
    assert ended.ending.reason is EndReason.PROVIDER_FAULT
    assert requester.called() == [1]


def test_a_status_that_overtakes_the_acknowledgement_says_as_much() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")

    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)

    slot = requester.state.slots[0]
    assert (slot.phase, slot.allocation) == (SlotPhase.HELD, Phase.RUNNING)


def test_of_several_slots_the_others_are_invoked_when_a_status_overtakes_the_acknowledgement() -> None:
    requester = Requester(bids_wanted=1, count=2).submit("a")
    requester.bid("a", slots=2)

    requester.reports("a", requester.state.slots[1].allocation_id, Phase.RUNNING)

    assert len(requester.sent(Invocation)) == 2


def test_old_news_of_an_allocation_changes_nothing() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.reports("a", allocation, Phase.RUNNING)
    before = requester.state

    for phase in (Phase.COMMITTED, Phase.PREPARING, Phase.RUNNING):
        requester.reports("a", allocation, phase, number=99)

    assert requester.state is before


def test_an_ending_twice_is_heard_once() -> None:
    requester = held(count=2)
    requester.acks("a", requester.bid("a", number=1))
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation)
    before = requester.state

    requester.ends("a", allocation, EndReason.EXIT_NONZERO)

    assert requester.state == before
    assert [receipt.price for receipt in requester.sent(Receipt)] == [50]


def test_a_status_from_somebody_else_is_not_believed() -> None:
    requester = held()
    before = requester.state

    requester.ends("b", requester.state.slots[0].allocation_id)

    assert requester.state is before


def test_an_attempt_that_is_over_is_told_to_stop() -> None:
    requester = held()
    old = requester.state.slots[0].allocation_id
    requester.tell(PeerLost(PeerId("a")))
    requester.wait(LOST_GRACE_MIN_MS)

    requester.reports("a", old, Phase.RUNNING)

    assert [cancel.allocation_id for cancel in requester.sent(Cancel, PeerId("a"))] == [old]


# ------------------------------------------------------------------------------------------------------------------- money


def test_no_more_is_owed_than_was_agreed() -> None:
    requester = held()

    requester.ends("a", requester.state.slots[0].allocation_id, price=999)

    assert requester.state.ending is not None
    assert requester.state.ending.price == 100


def test_what_is_claimed_beyond_the_tariff_and_the_usage_is_not_owed_and_the_provider_is_told() -> None:
    requester = Requester().submit("a")
    requester.bid("a", price=600, tariff=Price(start=0, cpu_core_hour=3_600))
    allocation = requester.acknowledged()

    requester.ends("a", allocation, price=500)  # for a second on one core: the tariff gives 1

    (receipt,) = requester.sent(Receipt)
    (ended,) = requester.noted(AttemptEnded)
    (booked,) = requester.wanted(Book)
    assert (receipt.price, receipt.usage.wall_ms) == (1, 1_000)
    assert (ended.price, ended.claimed) == (1, 500)
    assert (booked.entry.moves(Account.EXPENSE), booked.entry.moves(Account.OPEN)) == (1, -1)
    assert "0.0005 credits were claimed; the tariff over 1 s" in booked.entry.detail


def test_a_claim_that_follows_from_the_tariff_is_owed_as_it_stands() -> None:
    requester = Requester().submit("a")
    requester.bid("a", price=607, tariff=Price(start=7, cpu_core_hour=3_600))

    requester.ends("a", requester.acknowledged(), price=8)

    (ended,) = requester.noted(AttemptEnded)
    (booked,) = requester.wanted(Book)
    assert (ended.price, ended.claimed) == (8, 0)
    assert (booked.entry.peer, booked.entry.detail) == ("a", "")


def test_nothing_is_owed_for_a_fault_of_the_node() -> None:
    requester = held()

    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)

    assert [receipt.price for receipt in requester.sent(Receipt)] == [0]
    assert requester.state.slots[0].price == 0


def test_a_receipt_that_was_lost_is_repeated_with_the_price_of_that_attempt() -> None:
    requester = held()
    first = requester.state.slots[0].allocation_id
    requester.ends("a", first, EndReason.EXIT_NONZERO, price=40)
    retried_at(requester, "b")
    requester.ends("b", requester.acknowledged(), price=30)
    assert requester.state.ending is not None
    assert requester.state.ending.price == 70

    requester.ends("a", first, EndReason.EXIT_NONZERO, price=40)

    assert [receipt.price for receipt in requester.sent(Receipt)] == [40]


# --------------------------------------------------------------------------------------------------- lost, silent providers


@pytest.mark.parametrize(
    ("ran_ms", "grace_ms"),
    [(0, LOST_GRACE_MIN_MS), (10 * SECOND, 5 * SECOND), (HOUR, LOST_GRACE_MAX_MS)],
    ids=["just begun", "ten seconds", "an hour"],
)
def test_a_lost_provider_gets_half_of_what_its_allocation_has_run(ran_ms: int, grace_ms: int) -> None:
    requester = held()
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)
    requester.now += ran_ms

    requester.tell(PeerLost(PeerId("a")))

    (suspected,) = requester.noted(ProviderSuspected)
    assert suspected.until == {0: requester.now + grace_ms}


def test_a_lost_provider_is_replaced_when_its_grace_is_over() -> None:
    requester = held()
    requester.tell(PeerLost(PeerId("a")))

    requester.wait(LOST_GRACE_MIN_MS - 1)
    assert requester.called() == []
    requester.wait(1)

    assert requester.called() == [1]
    assert requester.state.slots[0].phase is SlotPhase.SEEKING


def test_losing_it_twice_gives_no_second_grace() -> None:
    requester = held()
    requester.tell(PeerLost(PeerId("a")))
    requester.now += 100

    requester.tell(PeerLost(PeerId("a")))

    assert requester.events == ()


def test_with_our_own_network_down_providers_are_innocent_for_longer() -> None:
    requester = held()

    requester.tell(PeerLost(PeerId("a"), ours=True))

    (suspected,) = requester.noted(ProviderSuspected)
    assert suspected.until == {0: requester.now + OWN_OUTAGE_GRACE_MS}


def test_a_provider_that_returns_in_time_goes_on_and_is_asked_where_it_stands() -> None:
    requester = held()
    requester.tell(PeerLost(PeerId("a")))

    requester.tell(PeerThere(PeerId("a")))

    assert [type(event) for event in requester.events] == [ProviderReturned]
    assert requester.sent_to(Invocation) == ["a"]
    requester.wait(LOST_GRACE_MAX_MS // 10)
    assert requester.state.slots[0].phase is SlotPhase.HELD


def test_a_status_shows_that_a_provider_is_back() -> None:
    requester = held()
    requester.tell(PeerLost(PeerId("a")))

    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)

    assert requester.state.slots[0].lost_at == 0


def test_an_ending_heard_while_the_provider_was_suspected_leaves_no_deadline_behind() -> None:
    requester = held()
    requester.tell(PeerLost(PeerId("a")))

    requester.ends("a", requester.state.slots[0].allocation_id, outputs=(FILE,), complete=False)

    assert auction.next_deadline(requester.state) is None


def test_losing_a_bidder_lets_its_bids_go_and_fails_its_commit_at_once() -> None:
    requester = Requester().submit("a", "b")
    requester.bid("a")
    requester.bid("b", price=900)

    requester.tell(PeerLost(PeerId("a")))

    assert requester.winner == "b"


def test_who_goes_away_while_asked_has_answered() -> None:
    requester = Requester(bids_wanted=5).submit("a", "b")
    requester.bid("a")

    requester.tell(PeerLost(PeerId("b")))

    assert requester.winner == "a"


def test_who_went_away_while_asked_is_asked_again_when_it_is_back() -> None:
    requester = Requester().submit("a", "b")
    requester.declines("a")
    requester.tell(PeerLost(PeerId("b")))

    requester.tell(PeerThere(PeerId("b")))

    assert requester.sent_to(BidRequest) == ["b"]


@pytest.mark.parametrize(("facts", "pauses"), [(PROVEN, NUDGE_MS), (NEWCOMER, NEWCOMER_NUDGE_MS)])
def test_a_provider_that_says_nothing_after_its_acknowledgement_is_asked_and_then_given_up(
    facts: BidderFacts, pauses: tuple[int, ...]
) -> None:
    requester = held(facts=facts)
    about, since = (word_of(requester.terms.request_id, requester.state.slots[0].allocation_id),), requester.now
    for pause in pauses[:-1]:
        requester.wait(pause - 1)
        assert requester.effects == ()
        requester.wait(1)
        assert requester.sent_to(Invocation) == ["a"]
        assert requester.wanted(LetDown) == [LetDown(PeerId("a"), Word.WORK, about, since, requester.now)]

    requester.wait(pauses[-1])
    assert requester.sent_to(Cancel) == ["a"]
    assert requester.wanted(LetDown) == [LetDown(PeerId("a"), Word.WORK, about, since, requester.now)]
    assert requester.called() == [1]


def test_of_many_allocations_of_which_nothing_is_heard_one_is_told_for_each_commit() -> None:
    requester = Requester(bids_wanted=1, count=3)
    requester.hold("a", slots=3)
    requester.wait(NEWCOMER_NUDGE_MS[0])

    assert requester.sent_to(Invocation) == ["a", "a", "a"]
    assert len(requester.wanted(LetDown)) == 1


@pytest.mark.parametrize("ours", [False, True])
def test_who_goes_away_before_it_has_said_anything_has_let_down_unless_our_own_network_is_down(*, ours: bool) -> None:
    requester = held()
    about = (word_of(requester.terms.request_id, requester.state.slots[0].allocation_id),)
    told = LetDown(PeerId("a"), Word.WORK, about, requester.now, requester.now)
    requester.tell(PeerLost(PeerId("a"), ours=ours))

    assert requester.wanted(LetDown) == ([] if ours else [told])


def test_the_first_word_of_an_allocation_is_told_and_no_later_one() -> None:
    requester = held()
    assert requester.wanted(HeardFrom) == [HeardFrom(PeerId("a"), Word.ANSWER, requester.now, 0)]
    allocation = requester.state.slots[0].allocation_id
    requester.reports("a", allocation, Phase.RUNNING)
    assert requester.wanted(HeardFrom) == [HeardFrom(PeerId("a"), Word.WORK, requester.now)]
    requester.ends("a", allocation)
    assert requester.wanted(HeardFrom) == []


def test_a_provider_that_prepares_and_never_starts_is_given_up() -> None:
    requester = held()
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.PREPARING)
    requester.wait(NOT_STARTED_MS - 1)
    assert requester.state.slots[0].phase is SlotPhase.HELD

    requester.wait(1)

    assert requester.sent_to(Cancel) == ["a"]
    assert requester.called() == [1]


def test_a_provider_that_has_said_anything_of_the_work_is_not_asked() -> None:
    requester = held()
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)

    requester.wait(MINUTE)

    assert requester.effects == ()


def test_work_far_beyond_its_limits_is_given_up_whatever_the_provider_says() -> None:
    requester = held()
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)

    requester.wait(WALL_MS + OVERDUE_MS)
    assert requester.state.slots[0].phase is SlotPhase.HELD
    requester.wait(10 * SECOND)

    assert requester.called() == [1]


# ----------------------------------------------------------------------------------------------------------------- cancelling


def test_cancelling_what_seeks_ends_it_at_once() -> None:
    requester = Requester().submit("a")
    requester.declines("a", BUSY)

    requester.tell(CancelAsked())

    assert requester.reason is EndReason.CANCELLED


def test_cancelling_while_a_commit_is_under_way_stops_what_comes_of_it() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    offered = requester.bid("a")
    requester.tell(CancelAsked())
    assert requester.sent_to(Cancel) == ["a"]

    requester.acks("a", offered)
    assert requester.sent_to(Cancel) == ["a"]
    assert requester.sent_to(Invocation) == []
    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.CANCELLED)

    assert requester.reason is EndReason.CANCELLED


def test_cancelling_while_a_commit_is_silent_ends_with_its_timeout() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")
    requester.tell(CancelAsked())

    requester.wait(requester.terms.ack_timeout_ms)

    assert requester.reason is EndReason.CANCELLED


def test_cancelling_what_runs_waits_for_the_provider_to_confirm() -> None:
    requester = held()
    requester.tell(CancelAsked())
    assert requester.sent_to(Cancel) == ["a"]
    assert requester.reason is None

    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.CANCELLED, price=20)

    assert requester.reason is EndReason.CANCELLED
    assert requester.state.ending is not None
    assert requester.state.ending.price == 20


def test_cancelling_does_not_wait_for_ever() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.wait(CANCEL_GRACE_MS)

    assert requester.reason is EndReason.CANCELLED
    assert "has not confirmed" in requester.state.ending.detail  # type: ignore[union-attr]


def test_a_provider_that_comes_back_while_cancelling_is_told_again() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.tell(PeerThere(PeerId("a")))

    assert requester.sent_to(Cancel) == ["a"]
    assert requester.sent_to(Invocation) == []


def test_what_completed_before_the_cancel_arrived_has_completed() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.ends("a", requester.state.slots[0].allocation_id)

    assert requester.reason is EndReason.COMPLETED


def test_cancelling_while_results_are_collected_lets_them_come() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation, outputs=(FILE,), complete=False)
    requester.tell(CancelAsked())

    requester.collects(allocation)

    assert requester.reason is EndReason.COMPLETED


def test_a_node_fault_while_cancelling_is_not_retried() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.PROVIDER_FAULT)

    assert requester.reason is EndReason.CANCELLED
    assert requester.wanted(Announce) == []


def test_cancelling_twice_changes_nothing() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.tell(CancelAsked())

    assert requester.events == ()


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_deadline_stops_it_and_is_the_reason(confirmed: bool) -> None:
    requester = Requester(bids_wanted=1, deadline_at=1_000_000 + 30 * SECOND)
    requester.hold("a")
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)
    requester.wait(30 * SECOND)
    assert requester.sent_to(Cancel) == ["a"]

    if confirmed:
        requester.ends("a", requester.state.slots[0].allocation_id, EndReason.CANCELLED)
    requester.wait(CANCEL_GRACE_MS)

    assert requester.reason is EndReason.DEADLINE


def test_time_that_comes_late_ends_a_request_at_its_deadline_and_gives_up_its_silent_winner_at_once() -> None:
    requester = Requester(deadline_at=1_000_100, bids_wanted=1).submit("a")
    requester.bid("a")
    requester.now += MINUTE  # the node was down

    requester.tell(TimeCame())

    assert requester.noted(CommitFailed)
    assert requester.reason is EndReason.DEADLINE


def test_a_deadline_ends_what_seeks_at_once() -> None:
    requester = Requester(deadline_at=1_000_100).submit("a")

    requester.wait(100)

    assert requester.reason is EndReason.DEADLINE


# ----------------------------------------------------------------------------------------------------------------- restarting


def resumed(requester: Requester) -> Requester:
    """The node restarts: the log is folded, the machine resumes."""
    live = requester.state
    assert requester.restart() == live
    requester.effects = auction.resume(requester.state)
    return requester


def test_restarting_before_the_round_went_out_announces_it_again() -> None:
    requester = resumed(Requester().submit())

    assert requester.called() == [0]


def test_restarting_in_the_window_goes_on_when_it_is_over() -> None:
    requester = resumed(Requester(bids_wanted=5).submit("a", "b"))
    assert requester.effects == ()

    requester.bid("a")
    requester.wait(requester.terms.window_ms)

    assert requester.winner == "a"


def test_restarting_while_a_commit_is_under_way_sends_it_again() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")

    assert resumed(requester).sent_to(Commit) == ["a"]


def test_restarting_while_something_runs_asks_where_it_stands() -> None:
    assert resumed(held()).sent_to(Invocation) == ["a"]


def test_restarting_while_results_are_collected_collects_them() -> None:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id, outputs=(FILE,), complete=False)

    assert [effect.provider for effect in resumed(requester).wanted(Collect)] == ["a"]


def test_restarting_while_waiting_goes_on_waiting() -> None:
    requester = Requester().submit("a")
    requester.declines("a")

    assert resumed(requester).effects == ()
    assert auction.next_deadline(requester.state) == requester.state.next_round_at


def test_restarting_after_the_end_wants_nothing() -> None:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id)

    assert resumed(requester).effects == ()
    assert auction.next_deadline(requester.state) is None


def test_a_restart_gives_providers_time_to_be_reached_again() -> None:
    requester = held()
    requester.reports("a", requester.state.slots[0].allocation_id, Phase.RUNNING)
    requester.now += HOUR  # its work is long over, and its news is on the way

    resumed(requester).tell(Restarted())
    requester.wait(OWN_OUTAGE_GRACE_MS - 1)
    assert requester.state.slots[0].phase is SlotPhase.HELD
    requester.tell(PeerThere(PeerId("a")))
    requester.ends("a", requester.state.slots[0].allocation_id)

    assert requester.reason is EndReason.COMPLETED


def test_what_this_node_itself_provides_needs_no_connection() -> None:
    requester = Requester(bids_wanted=1)
    requester.hold(ME)

    resumed(requester).tell(Restarted())

    assert requester.events == ()


def test_a_restart_while_cancelling_still_ends() -> None:
    requester = held()
    requester.tell(CancelAsked())
    resumed(requester).tell(Restarted())

    requester.wait(CANCEL_GRACE_MS)

    assert requester.state.phase is AuctionPhase.ENDED


# ---------------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.EVICTED])
def test_whatever_a_provider_claims_every_end_has_an_owner(reason: EndReason) -> None:
    requester = held(job_failures=1, node_faults=0)

    requester.ends("a", requester.state.slots[0].allocation_id, reason)

    assert requester.reason in OWNERS
    assert (requester.reason is EndReason.COMPLETED) == (reason is EndReason.COMPLETED)


def test_progress_is_noted_once_per_phase() -> None:
    requester = held()
    allocation = requester.state.slots[0].allocation_id

    requester.reports("a", allocation, Phase.RUNNING)
    assert len(requester.noted(AllocationAdvanced)) == 1
    requester.reports("a", allocation, Phase.RUNNING)

    assert requester.events == ()


@pytest.mark.parametrize(
    "reason",
    [
        EndReason.INPUT_UNAVAILABLE,
        EndReason.REQUESTER_LOST,
        EndReason.NOT_INVOKED,
        EndReason.UNDECIDED,
        EndReason.CANCELLED,
        EndReason.REQUESTER_FAULT,
    ],
)
@pytest.mark.parametrize("policy", Policy)
def test_for_a_run_that_gave_nothing_nothing_is_owed_and_its_node_is_not_asked_again_at_once(
    reason: EndReason, policy: Policy
) -> None:
    requester = held(verify=Verification(policy))
    allocation = requester.state.slots[0].allocation_id

    requester.ends("a", allocation, reason, price=50)

    assert [receipt.price for receipt in requester.sent(Receipt)] == [0]
    (booked,) = requester.wanted(Book)
    assert not booked.entry.transfers
    assert "0.00005 credits were claimed; for a run that gave nothing" in booked.entry.detail
    (ended,) = requester.noted(AttemptEnded)
    assert (PeerId("a"), ended.source, Kind.OVERCLAIMED) in list(seen_in(ended))
    retried_at(requester, "a", "b")
    assert "b" in {slot.provider for slot in requester.state.slots}
    assert all(slot.provider != "a" for slot in requester.state.slots if slot.phase is SlotPhase.COMMITTING)


def test_what_its_owner_has_stopped_is_paid_for_as_far_as_it_ran() -> None:
    requester = held()
    requester.tell(CancelAsked())

    requester.ends("a", requester.state.slots[0].allocation_id, EndReason.CANCELLED, price=50)

    assert [receipt.price for receipt in requester.sent(Receipt)] == [50]


def test_an_ending_that_is_told_otherwise_later_is_not_confirmed() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    allocation = requester.hold("a")
    requester.ends("a", allocation, price=50)
    (receipt,) = requester.sent(Receipt)

    requester.ends("a", allocation, price=50)
    assert requester.sent(Receipt) == [receipt]
    requester.ends("a", allocation, EndReason.EXIT_NONZERO, price=50)
    (other,) = requester.sent(Receipt)
    assert (other.reason, other.usage, other.price) == (EndReason.PROVIDER_LOST, Usage(), receipt.price)


def test_an_ending_of_which_nothing_was_heard_in_time_is_not_confirmed() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.hold("a")
    requester.ends("a", allocation_id(bid_id(REQUEST, PeerId("a"), 9), 0), price=50)
    (other,) = requester.sent(Receipt)
    assert (other.reason, other.usage, other.price) == (EndReason.PROVIDER_LOST, Usage(), 0)
