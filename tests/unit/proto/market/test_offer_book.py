"""The provider's machine, rule by rule: binding bids, commits, standing requests, the owner's wishes."""

import msgspec
import pytest

from dms_proto.allocation.freezing import Prior, ThawWished
from dms_proto.capability import Capability, Gpu, Price, Resources
from dms_proto.heirs import PeerRenamed
from dms_proto.ids import BidId, PeerId, bid_id
from dms_proto.market.agreement import agreement_on, request_digest, terms_digest
from dms_proto.market.offer_book import COMMIT_GRACE_MS, resume
from dms_proto.market.offer_state import (
    AllocationOver,
    AvailableWished,
    BidCommitted,
    BidMade,
    BookPhase,
    CapabilityMeasured,
    CommitHeard,
    CreditSeen,
    HoldWished,
    LockExpired,
    NodeStarted,
    PauseWished,
    PolicyWished,
    PressureSeen,
    ReleaseHeard,
    RequestWithdrawn,
    TellAllocation,
)
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Bid, Commit, CommitAck, CommitRefusal, CommitRefused, Decline, Release
from dms_proto.sim.provider import MACHINE, ME, TARIFF, TASK, Provider, request, request_id
from dms_proto.units import CORE, GIB, HOUR, MINUTE
from dms_proto.work import Limits

VALID_MS = 10_000
GPUS = (Gpu("0", "nvidia", "A100", 40 * GIB), Gpu("1", "nvidia", "A100", 40 * GIB))
WITH_GPUS = msgspec.structs.replace(MACHINE, resources=Resources(4 * CORE, 8 * GIB, 0, GPUS))


def refusal(provider: Provider) -> CommitRefusal:
    (refused,) = provider.sent(CommitRefused)
    return refused.refusal


# ----------------------------------------------------------------------------------------------------------------- bidding


def test_a_bid_locks_its_capacity_and_says_until_when() -> None:
    provider = Provider()

    bid = provider.bids(request(cores=3))

    assert provider.state.free.cpu_millicores == CORE
    assert provider.state.ledger.locked.cpu_millicores == 3 * CORE
    assert (bid.valid_until, bid.valid_ms) == (provider.now + VALID_MS, VALID_MS)
    assert bid.bid_id == bid_id(request_id("r"), ME, 0)
    provider.check()


def test_a_bid_states_the_price_for_running_to_the_wall_limit() -> None:
    bid = Provider().bids(request(cores=2))

    assert bid.tariff == TARIFF
    assert bid.price == 10 + 2 * 6_000 // 6


def test_the_price_rises_with_what_is_in_use_of_the_scarcest_resource() -> None:
    policy = ProviderPolicy(tariff=TARIFF, busy_percent=100)
    provider = Provider(policy=policy)

    idle = provider.bids(request("one", cores=2))
    half = provider.bids(request("two", cores=1))
    fuller = provider.bids(request("three", cores=1))

    assert [bid.tariff for bid in (idle, half, fuller)] == [TARIFF, TARIFF.scaled(1_500), TARIFF.scaled(1_750)]
    assert fuller.price == fuller.tariff.cost(Resources(CORE, GIB), 10 * MINUTE)


def test_a_request_is_answered_once_per_round() -> None:
    provider = Provider()
    provider.bids(request())

    assert provider.hears(request()) is None
    assert provider.events == ()
    assert provider.bids(request(round=1)).number == 1


def test_an_older_round_is_not_answered() -> None:
    provider = Provider()
    provider.bids(request(round=3))

    assert provider.hears(request(round=2)) is None


def test_a_stranger_who_draws_the_id_of_another_request_takes_nothing_from_it() -> None:
    provider = Provider()
    provider.bids(request("first", cores=4))
    provider.declines(request(round=1))

    provider.declines(request(round=900), requester="stranger")  # does not make later rounds of the other old
    provider.tell(ReleaseHeard(PeerId("stranger"), Release(request_id("r"))))  # withdraws nothing but its own

    assert (PeerId("a"), request_id("r")) in provider.state.standing
    provider.declines(request(round=2))


def test_as_many_slots_are_offered_as_fit() -> None:
    provider = Provider()

    assert provider.bids(request(count=3)).slots == 3
    assert provider.bids(request("other", count=3)).slots == 1


def test_two_requests_never_lock_the_same_gpu() -> None:
    provider = Provider(WITH_GPUS)
    provider.bids(request("one", gpus=(Gpu(),)))
    provider.bids(request("two", gpus=(Gpu(),)))

    devices = [slot.gpus[0].device for lock in provider.state.ledger.locks.values() for slot in lock.slots]

    assert sorted(devices) == ["0", "1"]
    assert isinstance(provider.hears(request("three", gpus=(Gpu(),))), Decline)
    provider.check()


SLICES = (
    Gpu("MIG-0", "nvidia", "A100 MIG 1g", 5 * GIB, part=143),
    Gpu("MIG-1", "nvidia", "A100 MIG 3g", 20 * GIB, part=500),
)
DIVIDED = msgspec.structs.replace(MACHINE, resources=Resources(4 * CORE, 8 * GIB, 0, SLICES))
SMALL_SLICE = (Gpu(model="MIG 1g"),)
FOR_GPUS = Price(gpu_hour=7_000_000)


def test_a_hardware_instance_costs_its_part_of_a_card() -> None:
    provider = Provider(DIVIDED, ProviderPolicy(tariff=FOR_GPUS))

    small = provider.bids(request("small", gpus=(Gpu(),)))
    large = provider.bids(request("large", gpus=(Gpu(),)))

    assert (small.price, large.price) == (166_834, 583_334), "for ten minutes"
    counted = small.tariff.cost(request(gpus=(Gpu(),)).needs.resources, 10 * MINUTE)
    assert counted == small.price, "by the requester"
    provider.check()


def test_who_pays_for_an_instance_only_waits_for_it() -> None:
    provider = Provider(DIVIDED, ProviderPolicy(tariff=FOR_GPUS))
    provider.bids(request("first", gpus=SMALL_SLICE))

    (clause,) = provider.declines(request("next", gpus=SMALL_SLICE, max_price=166_834)).clauses

    assert clause.passing


def test_a_bid_is_for_instances_of_one_size() -> None:
    provider = Provider(DIVIDED, ProviderPolicy(tariff=FOR_GPUS))

    assert provider.bids(request(gpus=(Gpu(),), count=2)).slots == 1


HALF = (Gpu(memory_bytes=10 * GIB, milli=500),)


def test_shares_of_one_gpu_are_locked_together() -> None:
    provider = Provider(WITH_GPUS, ProviderPolicy(tariff=TARIFF, own_peers=(PeerId("a"),)))

    assert provider.bids(request(count=4, gpus=HALF)).slots == 4
    assert isinstance(provider.hears(request("whole", gpus=(Gpu(),))), Decline)
    provider.check()


def test_a_stranger_gets_no_share_of_a_gpu_and_is_told_why() -> None:
    answer = Provider(WITH_GPUS).hears(request(gpus=(Gpu(), *HALF)))

    assert isinstance(answer, Decline)
    (clause,) = answer.clauses
    assert (clause.dimension, clause.wanted, clause.passing) == ("gpu_share", "0.5 of a GPU", False)
    assert clause.observed == "shares are for machines of the same owner: hardware does not keep them apart"
    assert clause.nearest == "a whole GPU, or a grant for own machines"


def test_a_share_names_its_memory() -> None:
    provider = Provider(WITH_GPUS, ProviderPolicy(tariff=TARIFF, own_peers=(PeerId("a"),)))

    answer = provider.hears(request(gpus=(Gpu(milli=500),)))

    assert isinstance(answer, Decline)
    assert [(clause.dimension, clause.nearest) for clause in answer.clauses] == [("gpu_share", "the memory it may use")]


def test_a_dry_run_is_answered_and_locks_nothing() -> None:
    provider = Provider()

    provider.bids(request(dry_run=True))
    provider.bids(request(dry_run=True))

    assert provider.state.ledger.locks == {}
    assert provider.events == ()
    provider.bids(request())


def test_what_this_node_asks_of_itself_is_free() -> None:
    assert Provider().bids(request(max_price=0), requester=ME).price == 0


# --------------------------------------------------------------------------------------------------------------- declining


def test_a_decline_has_every_reason_and_what_would_change_it() -> None:
    decline = Provider().declines(request(cores=9, max_price=1))

    reasons = {clause.dimension: clause for clause in decline.clauses}
    assert set(reasons) == {"cpu", "price"}
    assert reasons["cpu"].nearest == "cpu 4"
    assert reasons["price"].nearest == "max price 0.00901"
    assert not any(clause.passing for clause in decline.clauses)


def test_what_is_there_but_not_free_is_passing() -> None:
    provider = Provider()
    provider.bids(request("first", cores=4))

    decline = provider.declines(request())

    assert all(clause.passing for clause in decline.clauses)
    assert (PeerId("a"), request_id("r")) in provider.state.standing


def test_what_can_never_be_does_not_stand() -> None:
    provider = Provider()

    provider.declines(request(cores=9))

    assert provider.state.standing == {}


def test_who_does_not_want_to_stand_does_not() -> None:
    provider = Provider()
    provider.bids(request("first", cores=4))

    provider.declines(request(stands_ms=0))

    assert provider.state.standing == {}


# ---------------------------------------------------------------------------------------------------------------- expiring


def test_a_lock_outlives_its_bid_by_the_way_of_a_commit_and_then_goes() -> None:
    provider = Provider()
    provider.bids(request())

    provider.wait(VALID_MS + COMMIT_GRACE_MS - 1)
    assert len(provider.state.ledger.locks) == 1
    provider.wait(1)

    assert [type(event) for event in provider.events] == [LockExpired]
    assert provider.state.free == MACHINE.resources


def test_an_expired_bid_is_refused_as_expired() -> None:
    provider = Provider()
    bid = provider.bids(request())
    provider.wait(VALID_MS + COMMIT_GRACE_MS)

    provider.commits(bid)

    assert refusal(provider) is CommitRefusal.EXPIRED


# -------------------------------------------------------------------------------------------------------------- committing


def test_a_commit_turns_the_lock_into_reservations() -> None:
    provider = Provider()
    bid = provider.bids(request(count=2))

    opened = provider.commits(bid, slots=(5, 7))

    assert [effect.reservation.slot for effect in opened] == [5, 7]
    assert provider.state.ledger.locks == {}
    assert provider.state.ledger.allocated.cpu_millicores == 2 * CORE
    (ack,) = provider.sent(CommitAck)
    assert ack.allocation_ids == tuple(effect.reservation.allocation_id for effect in opened)
    provider.check()


def test_slots_that_were_not_taken_are_free_again() -> None:
    provider = Provider()
    bid = provider.bids(request(count=4))

    provider.commits(bid, slots=(0,))

    assert provider.state.free.cpu_millicores == 3 * CORE
    provider.check()


@pytest.mark.parametrize(
    "happens",
    [
        PressureSeen(Resources(64 * CORE, 999 * GIB)),
        PauseWished(True, "mine"),
        PolicyWished(ProviderPolicy(accepts_work=False)),
        PolicyWished(ProviderPolicy(tariff=Price(start=10**9))),
        CapabilityMeasured(msgspec.structs.replace(MACHINE, resources=Resources())),
        AvailableWished(Resources()),
        HoldWished(BidId("owner"), Resources(4 * CORE, 8 * GIB)),
    ],
    ids=lambda stimulus: type(stimulus).__name__,
)
def test_a_commit_within_validity_is_never_refused_for_capacity(happens: object) -> None:
    provider = Provider()
    bid = provider.bids(request(cores=4))
    provider.tell(happens)  # type: ignore[arg-type]
    for rival in range(20):
        provider.hears(request(f"rival {rival}", cores=4), requester="b")
    provider.wait(VALID_MS)

    opened = provider.commits(bid)

    assert len(opened) == 1
    provider.check()


def test_a_commit_carries_its_invocation_to_the_allocation() -> None:
    provider = Provider()

    (opened,) = provider.commits(provider.bids(request()), tasks=(TASK,))

    assert opened.task == TASK


def test_a_repeated_commit_gets_the_same_answer_and_opens_nothing() -> None:
    provider = Provider()
    bid = provider.bids(request())
    provider.commits(bid)
    first = provider.sent(CommitAck)

    assert provider.commits(bid) == []
    assert provider.sent(CommitAck) == first
    assert provider.events == ()


def test_a_second_commit_to_other_slots_is_refused() -> None:
    provider = Provider()
    bid = provider.bids(request(count=2))
    provider.commits(bid, slots=(0,))

    assert provider.commits(bid, slots=(1,)) == []
    assert refusal(provider) is CommitRefusal.ALREADY_COMMITTED


def test_a_bid_is_for_whom_it_was_made() -> None:
    provider = Provider()
    bid = provider.bids(request())

    assert provider.commits(bid, requester="thief") == []
    assert refusal(provider) is CommitRefusal.NOT_YOURS
    assert len(provider.commits(bid)) == 1


@pytest.mark.parametrize(
    "agreed",
    [
        {"price": 1},
        {"valid_until": 2**40},
        {"wall_ms": 2 * HOUR},
        {"limits": Resources(2 * CORE, GIB)},
        {"tariff": Price()},
        {"request": request_digest(request_id("r"), Capability())},
    ],
    ids=lambda agreed: next(iter(agreed)),
)
def test_a_commit_under_other_terms_is_refused_by_name_and_the_bid_stands(agreed: dict[str, object]) -> None:
    provider = Provider()
    bid = provider.bids(request())

    assert provider.commits(bid, **agreed) == []
    assert refusal(provider) is CommitRefusal.TERMS_DIFFER
    assert len(provider.commits(bid)) == 1


def test_a_commit_without_terms_is_refused() -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.tell(CommitHeard(PeerId("a"), Commit(bid.request_id, bid.bid_id, (0,))))

    assert refusal(provider) is CommitRefusal.TERMS_DIFFER


def test_an_acknowledgement_carries_the_terms_and_they_are_written_down() -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.commits(bid)

    agreed = agreement_on(bid, request().needs, PeerId("a"), ME, (0,))
    (ack,), (committed,) = provider.sent(CommitAck), provider.noted(BidCommitted)
    assert ack.terms == committed.terms == terms_digest(agreed)


def test_a_bid_that_was_taken_is_not_taken_again_under_other_terms() -> None:
    provider = Provider()
    bid = provider.bids(request())
    provider.commits(bid)

    assert provider.commits(bid, price=1) == []
    assert refusal(provider) is CommitRefusal.ALREADY_COMMITTED


def test_more_slots_than_were_offered_are_refused() -> None:
    provider = Provider()

    provider.commits(provider.bids(request()), slots=(0, 1))

    assert refusal(provider) is CommitRefusal.TOO_MANY_SLOTS


def test_a_bid_that_never_was_is_refused() -> None:
    provider = Provider()
    unknown = Commit(request_id("r"), bid_id(request_id("r"), ME, 3), (0,))

    provider.tell(CommitHeard(PeerId("a"), unknown))

    assert refusal(provider) is CommitRefusal.UNKNOWN_BID
    assert provider.events == ()  # anyone may invent one: nothing is written down


@pytest.mark.parametrize(
    "task",
    [
        msgspec.structs.replace(TASK, resources=Resources(2 * CORE, GIB)),
        msgspec.structs.replace(TASK, resources=Resources(CORE, GIB, 0, (Gpu(),))),
        msgspec.structs.replace(TASK, limits=Limits(wall_ms=11 * MINUTE)),
    ],
    ids=["more cores", "a gpu", "longer"],
)
def test_a_task_that_asks_for_more_than_was_locked_is_refused(task: object) -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.commits(bid, tasks=(task,))  # type: ignore[arg-type]

    assert refusal(provider) is CommitRefusal.NEEDS_CHANGED
    assert len(provider.commits(bid, tasks=(TASK,))) == 1


def test_what_wants_anything_beside_it_is_refused_where_its_executor_cannot_have_it() -> None:
    why = "its runtime keeps it from the node's socket"
    policy = ProviderPolicy(tariff=TARIFF, alone={TASK.executor: why})
    provider = Provider(policy=policy)
    assert len(provider.commits(provider.bids(request()), tasks=(TASK,))) == 1

    provider = Provider(policy=policy)
    assert provider.commits(provider.bids(request()), tasks=(msgspec.structs.replace(TASK, ports=(80,)),)) == []

    assert refusal(provider) is CommitRefusal.NEEDS_CHANGED
    assert provider.sent(CommitRefused)[-1].detail == why


def test_an_allocation_that_is_over_gives_its_capacity_back_once() -> None:
    provider = Provider()
    (opened,) = provider.commits(provider.bids(request()))

    provider.tell(AllocationOver(opened.reservation.allocation_id))
    assert provider.state.free == MACHINE.resources
    provider.tell(AllocationOver(opened.reservation.allocation_id))

    assert provider.events == ()
    provider.check()


def test_a_bid_never_bears_the_id_of_one_that_still_holds_something() -> None:
    """However many other bids were made meanwhile, and whatever was forgotten of them."""
    provider = Provider()
    (opened,) = provider.commits(provider.bids(request(count=2)))
    provider.state = msgspec.structs.replace(provider.state, numbers={}, rounds={}, committed={})

    again = provider.bids(request(count=2))

    assert again.bid_id != opened.reservation.bid_id
    assert again.number == 1


# --------------------------------------------------------------------------------------------------------------- releasing


def test_a_released_bid_frees_its_lock() -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.is_released(bid)

    assert provider.state.free == MACHINE.resources
    provider.commits(bid)
    assert refusal(provider) is CommitRefusal.EXPIRED


def test_others_cannot_release_a_bid() -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.is_released(bid, requester="thief")

    assert provider.events == ()
    assert len(provider.commits(bid)) == 1


def test_a_release_names_the_request_its_bid_was_made_for() -> None:
    provider = Provider()
    bid = provider.bids(request())

    provider.tell(ReleaseHeard(PeerId("a"), Release(request_id("another"), bid.bid_id)))

    assert provider.events == ()
    assert len(provider.commits(bid)) == 1


def test_releasing_a_committed_bid_changes_nothing() -> None:
    provider = Provider()
    bid = provider.bids(request())
    provider.commits(bid)

    provider.is_released(bid)

    assert provider.events == ()


# ---------------------------------------------------------------------------------------------------------------- standing


def occupied() -> tuple[Provider, Bid]:
    """A machine that is full with one bid."""
    provider = Provider()
    return provider, provider.bids(request("first", cores=4), requester="first")


def test_freed_capacity_is_bid_on_a_request_that_stands() -> None:
    provider, first = occupied()
    provider.declines(request())

    provider.is_released(first, requester="first")

    (bid,) = provider.sent(Bid, PeerId("a"))
    assert bid.request_id == request_id("r")
    assert provider.state.standing == {}


def test_an_allocation_s_end_answers_a_request_that_stands() -> None:
    provider, first = occupied()
    (opened,) = provider.commits(first, requester="first")
    provider.declines(request())

    provider.tell(AllocationOver(opened.reservation.allocation_id))

    assert provider.sent_to(Bid) == ["a"]


def test_who_has_stood_longest_is_first() -> None:
    provider, first = occupied()
    for name in ("one", "two", "three"):
        provider.declines(request(name, cores=4), requester=name)
        provider.now += 1_500

    provider.is_released(first, requester="first")

    assert provider.sent_to(Bid) == ["one"]


def test_priority_is_an_order_among_one_s_own() -> None:
    provider, first = occupied()
    provider.declines(request("modest", cores=4), requester="modest")
    provider.now += 1_500
    provider.declines(request("low", cores=4, priority=1), requester="greedy")
    provider.declines(request("high", cores=4, priority=2**50), requester="greedy")

    provider.is_released(first, requester="first")
    assert provider.sent_to(Bid) == ["modest"]
    (modest,) = provider.sent(Bid)
    provider.is_released(modest, requester="modest")

    (bid,) = provider.sent(Bid)
    assert bid.request_id == request_id("high")


def test_a_bid_for_a_part_leaves_the_rest_standing() -> None:
    provider, first = occupied()
    provider.is_released(first, requester="first")
    partial = provider.bids(request(count=6))
    assert partial.slots == 4
    provider.commits(partial, slots=(0, 1, 2, 3))
    (first_allocation, *_) = provider.state.ledger.reservations

    provider.tell(AllocationOver(first_allocation))

    (bid,) = provider.sent(Bid)
    assert (bid.number, bid.slots) == (1, 1)


def test_standing_ends_when_its_time_is_over() -> None:
    provider, first = occupied()
    (opened,) = provider.commits(first, requester="first")
    provider.declines(request(stands_ms=60_000))
    provider.wait(60_000)
    assert [type(event) for event in provider.events] == [RequestWithdrawn]

    provider.tell(AllocationOver(opened.reservation.allocation_id))

    assert provider.effects == ()


def test_bids_for_a_part_do_not_make_a_request_stand_longer() -> None:
    provider = Provider()
    partial = provider.bids(request(count=6, stands_ms=20_000))
    until = provider.now + 20_000
    provider.commits(partial, slots=(0, 1, 2, 3))
    provider.now += 5_000
    (allocation, *_) = provider.state.ledger.reservations

    provider.tell(AllocationOver(allocation))

    assert provider.state.standing[PeerId("a"), request_id("r")].until == until


def test_a_requester_that_neither_takes_nor_releases_is_not_bid_to_again() -> None:
    provider = Provider()
    provider.bids(request(count=6))

    provider.wait(60_000)

    assert provider.state.standing == {}
    assert len([event for event in provider.log if isinstance(event, BidMade)]) == 1


def test_a_request_that_is_withdrawn_stands_no_longer() -> None:
    provider, first = occupied()
    provider.declines(request())

    provider.tell(ReleaseHeard(PeerId("a"), Release(request_id("r"))))
    provider.is_released(first, requester="first")

    assert provider.effects == ()


def test_others_cannot_withdraw_it() -> None:
    provider, _ = occupied()
    provider.declines(request())

    provider.tell(ReleaseHeard(PeerId("thief"), Release(request_id("r"))))

    assert (PeerId("a"), request_id("r")) in provider.state.standing


def test_only_so_many_stand() -> None:
    provider, _ = occupied()
    for number in range(300):
        provider.declines(request(f"r{number}", stands_ms=60_000 + number), requester="flood")

    assert len(provider.state.standing) == 256
    assert (PeerId("a"), request_id("r0")) not in provider.state.standing


# ---------------------------------------------------------------------------------------------------------------- the owner


def test_what_other_programs_use_is_left_out_and_said() -> None:
    provider = Provider()
    provider.tell(PressureSeen(Resources(3 * CORE)))

    decline = provider.declines(request(cores=2))

    (clause,) = decline.clauses
    assert clause.passing
    assert "other programs use 3 cores" in clause.observed


def test_when_other_programs_end_standing_requests_are_answered() -> None:
    provider = Provider()
    provider.tell(PressureSeen(Resources(4 * CORE)))
    provider.declines(request())

    provider.tell(PressureSeen(Resources()))

    assert provider.sent_to(Bid) == ["a"]


def test_a_paused_node_declines_with_the_owner_s_words_and_answers_when_it_resumes() -> None:
    provider = Provider()
    provider.tell(PauseWished(True, "a film is cut"))
    decline = provider.declines(request())
    assert [clause.observed for clause in decline.clauses] == ["paused: a film is cut"]

    provider.tell(PauseWished(False))

    assert provider.sent_to(Bid) == ["a"]


def test_a_node_that_stops_refuses_commits_and_bids_no_more() -> None:
    provider = Provider()
    bid, taken = provider.bids(request("r")), provider.bids(request("t"))
    provider.commits(taken)
    provider.tell(PauseWished(True, stopping=True))

    assert provider.commits(bid) == []
    assert refusal(provider) is CommitRefusal.STOPPING
    provider.commits(taken)
    assert provider.sent_to(CommitAck) == ["a"]  # what was promised stays promised
    assert [clause.observed for clause in provider.declines(request("s")).clauses] == ["the node is stopping"]

    provider.tell(NodeStarted())

    assert len(provider.commits(bid)) == 1


def test_a_node_that_was_paused_when_it_stopped_is_paused_when_it_starts() -> None:
    provider = Provider()
    provider.tell(PauseWished(True, "a film is cut"))
    provider.tell(PauseWished(True, stopping=True))
    provider.tell(PauseWished(True, stopping=True))
    assert provider.events == ()

    provider.tell(NodeStarted())

    assert provider.state.phase is BookPhase.PAUSED
    assert [clause.observed for clause in provider.declines(request()).clauses] == ["paused: a film is cut"]


def test_a_node_that_is_resumed_while_it_stops_goes_on_stopping_and_starts_open() -> None:
    provider = Provider()
    provider.tell(PauseWished(True, "a film is cut"))
    provider.tell(PauseWished(True, stopping=True))
    provider.tell(PauseWished(False))
    assert provider.state.phase is BookPhase.STOPPING
    provider.tell(PauseWished(False))
    assert provider.events == ()

    provider.tell(NodeStarted())

    assert provider.state.phase is BookPhase.OPEN


def test_pausing_twice_changes_nothing() -> None:
    provider = Provider()
    provider.tell(PauseWished(True))

    provider.tell(PauseWished(True))

    assert provider.events == ()


def test_new_prices_hold_from_the_next_request_on() -> None:
    provider = Provider()
    before = provider.bids(request("before"))

    provider.tell(PolicyWished(ProviderPolicy(tariff=Price(start=77))))

    assert provider.bids(request("after")).price == 77
    (opened,) = provider.commits(before)
    assert opened.reservation.price == before.price


def test_lower_prices_answer_nobody_who_was_told_never() -> None:
    provider = Provider(policy=ProviderPolicy(tariff=Price(start=10**9)))
    provider.declines(request())

    provider.tell(PolicyWished(ProviderPolicy()))

    assert provider.effects == ()


def test_a_larger_machine_answers_standing_requests() -> None:
    provider, _ = occupied()
    provider.declines(request())

    provider.tell(CapabilityMeasured(msgspec.structs.replace(MACHINE, resources=Resources(8 * CORE, 16 * GIB))))

    assert provider.sent_to(Bid) == ["a"]
    provider.check()


def test_a_machine_smaller_than_its_promises_is_not_registered() -> None:
    provider, _ = occupied()

    provider.tell(CapabilityMeasured(msgspec.structs.replace(MACHINE, resources=Resources(CORE, GIB))))

    assert provider.events == ()
    assert provider.state.ledger.registered == MACHINE.resources


def test_capacity_held_back_by_the_owner_is_not_offered_until_it_is_let_go() -> None:
    provider = Provider()
    provider.tell(AvailableWished(Resources(CORE, 8 * GIB)))
    assert provider.state.free.cpu_millicores == CORE
    provider.declines(request(cores=2))

    provider.tell(AvailableWished(MACHINE.resources))

    assert provider.sent_to(Bid) == ["a"]
    provider.check()


# -------------------------------------------------------------------------------------------------------------- restarting


def test_the_log_gives_the_state_and_what_runs_is_told_again_that_it_may() -> None:
    provider, first = occupied()
    provider.declines(request())
    provider.commits(first, requester="first")
    live = provider.state

    assert provider.restart() == live
    (allocation,) = live.ledger.reservations
    assert resume(provider.state) == (TellAllocation(allocation, ThawWished(Prior.OWNER)),)


# ------------------------------------------------------------------------------------------------------------------ credit

PRICE = TARIFF.cost(Resources(CORE, GIB), 10 * MINUTE)


def with_credit(credit: int) -> Provider:
    provider = Provider()
    provider.tell(CreditSeen(PeerId("a"), credit))
    return provider


def test_a_request_that_would_come_to_owe_too_much_is_declined_with_what_would_help() -> None:
    (clause,) = with_credit(PRICE - 1).declines(request()).clauses

    assert (clause.dimension, clause.passing) == ("credit", False)
    assert "left here: its owner has to pay this node's, or be given a higher limit" in clause.observed
    assert isinstance(with_credit(PRICE).hears(request()), Bid)


def test_what_is_at_stake_uses_up_credit_until_it_is_over() -> None:
    provider = with_credit(2 * PRICE - 1)
    (opened,) = provider.commits(provider.bids(request("one")))

    (clause,) = provider.declines(request("two")).clauses
    assert (clause.dimension, clause.passing) == ("credit", True)

    provider.tell(CreditSeen(PeerId("a"), 2 * PRICE - 1 - 10))
    provider.tell(AllocationOver(opened.reservation.allocation_id))
    assert [bid.request_id for bid in provider.sent(Bid)] == [request_id("two")]


def test_a_bid_offers_no_more_slots_than_its_requester_has_credit_for() -> None:
    assert with_credit(2 * PRICE + 1).bids(request(count=4)).slots == 2


def test_a_standing_request_is_bid_on_when_its_requester_has_paid() -> None:
    provider = with_credit(2 * PRICE - 1)
    provider.commits(provider.bids(request("one")))
    provider.declines(request("two"))

    provider.tell(CreditSeen(PeerId("a"), 5 * PRICE))

    assert [bid.request_id for bid in provider.sent(Bid)] == [request_id("two")]


def test_credit_is_each_requesters_own_and_what_is_free_needs_none() -> None:
    provider = with_credit(0)
    free = Provider(policy=ProviderPolicy())
    free.tell(CreditSeen(PeerId("a"), -5))

    assert isinstance(provider.hears(request("theirs"), "b"), Bid)
    assert isinstance(free.hears(request()), Bid)
    provider.tell(CreditSeen(ME, 0))
    assert isinstance(provider.hears(request("own"), ME), Bid)


def test_what_is_at_stake_under_an_old_name_uses_up_the_credit_of_the_new_one() -> None:
    """A requester that replaced its key began with its whole credit again, while its work ran on."""
    provider = with_credit(2 * PRICE - 1)
    (opened,) = provider.commits(provider.bids(request("one")))
    provider.tell(CreditSeen(PeerId("b"), 2 * PRICE - 1))
    provider.tell(CreditSeen(PeerId("c"), 2 * PRICE - 1))

    provider.tell(PeerRenamed(PeerId("a"), PeerId("b")))
    provider.tell(PeerRenamed(PeerId("b"), PeerId("c")))

    assert isinstance(provider.hears(request("two"), "c"), Decline)
    assert provider.state.credit_left(PeerId("c")) == PRICE - 1
    provider.tell(AllocationOver(opened.reservation.allocation_id))
    assert [bid.request_id for bid in provider.sent(Bid, PeerId("c"))] == [request_id("two")]


def test_of_names_without_a_stake_nothing_is_remembered() -> None:
    provider = with_credit(2 * PRICE)

    provider.tell(PeerRenamed(PeerId("x"), PeerId("y")))
    assert provider.state.heirs == {}

    (opened,) = provider.commits(provider.bids(request("one")))
    provider.tell(PeerRenamed(PeerId("a"), PeerId("b")))
    provider.tell(PeerRenamed(PeerId("a"), PeerId("b")))
    assert provider.events == ()
    provider.tell(AllocationOver(opened.reservation.allocation_id))
    provider.commits(provider.bids(request("two"), "z"))
    provider.tell(PeerRenamed(PeerId("z"), PeerId("w")))
    assert provider.state.heirs == {"z": "w"}
