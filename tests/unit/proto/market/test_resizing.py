"""Another size while it runs: who may ask, what is given, what it costs, and that both sides say the same."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.allocation import machine as life
from dms_proto.allocation.events import AllocationEnded
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.resizing import SetSize, SettleSize, SizeSet, SizeWished
from dms_proto.allocation.state import Allocation
from dms_proto.allocation.stimuli import CancelHeard, Invoked, NodeRestarted, Opened, RunExited, RunStarted, RunUsed
from dms_proto.capability import Gpu, Price, Resources
from dms_proto.ids import AllocationId, Digest, PeerId
from dms_proto.machine import Send
from dms_proto.market.agreement import resize_digest
from dms_proto.market.auction_attempts import fair_price
from dms_proto.market.auction_resizes import why_not
from dms_proto.market.auction_stimuli import ResizeAnswered, ResizeAsked
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_state import AllocationOver, ChangeSize, PauseWished, ResizeHeard, SizeSettled
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.sizes import UNCHANGED, most_owed
from dms_proto.messages import MAX_CHANGES, AllocationStatus, Phase, Resize, Resized
from dms_proto.sim.driven import Driven
from dms_proto.sim.provider import MACHINE, TARIFF, Provider, request
from dms_proto.sim.requester import Requester
from dms_proto.units import CORE, GIB, HOUR, MINUTE
from dms_proto.work import Ending, EndReason, Task, Usage

A = PeerId("a")
WALL = 10 * MINUTE


def running(provider: Provider, **asked: object) -> Reservation:
    """An allocation of `a`."""
    (opened,) = provider.commits(provider.bids(request(**asked)))  # type: ignore[arg-type]
    return opened.reservation


def change(of: Reservation, resources: Resources, number: int = 1, price: int | None = None) -> Resize:
    price = most_owed(of.price, of.tariff, resources, of.wall_ms) if price is None else price
    return Resize(of.request_id, of.allocation_id, number, resources, price)


def asks(provider: Provider, wanted: Resize, by: PeerId = A, **heard: bool) -> Resized | None:
    """The answer of the offer book, where it refuses."""
    provider.tell(ResizeHeard(by, wanted, **heard))
    return next(iter(provider.sent(Resized, by)), None)


def settles(provider: Provider) -> None:
    """The allocation says that it has changed."""
    (effect,) = provider.wanted(ChangeSize)
    wanted = effect.change
    provider.tell(SizeSettled(wanted.allocation_id, wanted.number, effect.resources, wanted.price))


# ---------------------------------------------------------------------------------------------------------- the provider


def test_it_grows_within_what_is_free_and_gives_back_what_it_does_not_need() -> None:
    provider = Provider()
    held = running(provider)

    assert asks(provider, change(held, Resources(3 * CORE, 2 * GIB))) is None
    assert provider.state.free.cpu_millicores == CORE
    settles(provider)
    held = provider.state.ledger.reservations[held.allocation_id]
    assert asks(provider, change(held, Resources(CORE // 2, GIB), number=2)) is None
    assert provider.state.free.cpu_millicores == CORE, "it has the larger of both until it has changed"
    settles(provider)

    assert provider.state.free.cpu_millicores == 4 * CORE - CORE // 2
    provider.check()
    assert provider.restart() == provider.state


def test_more_than_is_free_is_refused_with_what_there_is() -> None:
    provider = Provider()
    held = running(provider)
    running(provider, name="other", cores=2)

    refused = asks(provider, change(held, Resources(3 * CORE, GIB)))

    assert refused is not None
    (clause,) = refused.clauses
    assert (clause.dimension, clause.nearest, clause.passing) == ("cpu", "2 cores", True)
    assert provider.events == ()
    provider.check()


@pytest.mark.parametrize(
    ("resources", "dimension"),
    [
        (Resources(0, GIB), "size"),
        (Resources(CORE, 0), "size"),
        (Resources(2**53, GIB), "cpu"),
        (Resources(CORE, GIB, 1), "disk"),
        (Resources(CORE, GIB, 0, (Gpu(),)), "gpu"),
    ],
)
def test_what_cannot_be_is_refused(resources: Resources, dimension: str) -> None:
    provider = Provider()
    held = running(provider)

    refused = asks(
        provider, change(held, resources, price=most_owed(held.price, TARIFF, resources, held.wall_ms) % 2**53)
    )

    assert refused is not None
    assert dimension in [clause.dimension for clause in refused.clauses]


def test_nobody_else_is_heard_nor_answered() -> None:
    provider = Provider()
    held = running(provider)
    larger = change(held, Resources(2 * CORE, GIB))

    for by, wanted in (
        (PeerId("thief"), larger),
        (A, msgspec.structs.replace(larger, request_id="r-other")),
        (A, msgspec.structs.replace(larger, allocation_id=AllocationId("a-none"))),
    ):
        assert asks(provider, wanted, by) is None
        assert (provider.events, provider.effects) == ((), ())


def test_a_repeat_is_told_to_the_allocation_and_takes_nothing_more() -> None:
    provider = Provider()
    held = running(provider)
    wanted = change(held, Resources(2 * CORE, GIB))
    asks(provider, wanted)
    settles(provider)
    held = provider.state.ledger.reservations[held.allocation_id]
    asks(provider, change(held, Resources(3 * CORE, GIB), number=2))
    settles(provider)

    asks(provider, wanted)  # replayed
    assert (provider.events, provider.effects) == ((), ())
    asks(
        provider, msgspec.structs.replace(change(held, Resources(4 * CORE, GIB)), number=2)
    )  # another under its number
    assert (provider.events, provider.effects) == ((), ())
    asks(provider, change(held, Resources(3 * CORE, GIB), number=2))
    assert provider.events == ()
    assert len(provider.wanted(ChangeSize)) == 1


def test_one_change_comes_after_the_other() -> None:
    provider = Provider()
    held = running(provider)
    asks(provider, change(held, Resources(2 * CORE, GIB)))
    held = provider.state.ledger.reservations[held.allocation_id]

    refused = asks(provider, change(held, Resources(3 * CORE, GIB), number=2))

    assert refused is not None
    assert refused.clauses[0].passing


def test_who_owes_too_much_or_names_another_price_gets_no_more() -> None:
    provider = Provider()
    held = running(provider)
    cheap = asks(provider, change(held, Resources(2 * CORE, GIB), price=held.price))
    assert cheap is not None
    assert [clause.dimension for clause in cheap.clauses] == ["price"]
    from dms_proto.market.offer_state import CreditSeen

    provider.tell(CreditSeen(A, held.price))
    poor = asks(provider, change(held, Resources(2 * CORE, GIB)))
    assert poor is not None
    assert [clause.dimension for clause in poor.clauses] == ["credit"]


def test_past_the_log_budget_and_while_paused_nothing_more_is_given_and_less_is_taken() -> None:
    provider = Provider()
    held = running(provider)
    full = asks(provider, change(held, Resources(2 * CORE, GIB)), may_write=False)
    assert full is not None
    assert [clause.dimension for clause in full.clauses] == ["log_budget"]
    provider.tell(PauseWished(True, "lunch"))
    paused = asks(provider, change(held, Resources(2 * CORE, GIB)))
    assert paused is not None
    assert [clause.dimension for clause in paused.clauses] == ["accepts_work"]
    assert asks(provider, change(held, Resources(CORE // 2, GIB))) is None


HALF = (Gpu(memory_bytes=10 * GIB, milli=500),)
WITH_GPU = msgspec.structs.replace(
    MACHINE, resources=Resources(4 * CORE, 8 * GIB, 0, (Gpu("0", "nvidia", "A100", 40 * GIB),))
)


def test_a_share_grows_on_its_device_up_to_the_whole_of_it() -> None:
    provider = Provider(WITH_GPU, ProviderPolicy(tariff=TARIFF, own_peers=(A,)))
    held = running(provider, gpus=HALF)

    assert asks(provider, change(held, Resources(CORE, GIB, 0, (Gpu(milli=1000),)))) is None
    settles(provider)

    (gpu,) = provider.state.ledger.reservations[held.allocation_id].resources.gpus
    assert (gpu.device, gpu.milli, gpu.memory_bytes) == ("0", 1000, 40 * GIB)
    provider.check()


def test_a_stranger_s_device_stays_whole() -> None:
    provider = Provider(WITH_GPU)
    held = running(provider, gpus=(Gpu(),))

    refused = asks(provider, change(held, Resources(CORE, GIB, 0, HALF)))

    assert refused is not None
    assert [clause.dimension for clause in refused.clauses] == ["gpu_share"]


def test_what_ended_meanwhile_leaves_nothing_behind() -> None:
    provider = Provider()
    held = running(provider)
    asks(provider, change(held, Resources(2 * CORE, GIB)))
    provider.tell(AllocationOver(held.allocation_id))
    provider.tell(SizeSettled(held.allocation_id, 1, Resources(2 * CORE, GIB), 5))

    assert provider.state.free == MACHINE.resources
    provider.check()


# -------------------------------------------------------------------------------------------------------- the allocation

RESERVED = Reservation(
    AllocationId("a"),
    "b",
    "r",
    A,
    0,
    Resources(CORE, GIB),
    Price(start=10, cpu_core_hour=3_600_000),
    10**9,
    HOUR,  # type: ignore[arg-type]
)
TWO_CORES = Resources(2 * CORE, GIB)
WANTED = Resize(RESERVED.request_id, RESERVED.allocation_id, 1, TWO_CORES, 10**9)


def at_work(reserved: Reservation = RESERVED) -> Driven[Allocation]:
    work = Driven(life.decide, evolve, life.next_deadline, Allocation())
    work.tell(Opened(reserved, None, 10_000))
    work.tell(Invoked(A, reserved.request_id, Task("sandbox", ("true",), resources=reserved.resources)))
    work.tell(RunStarted("h"))
    return work


def hears(requester: Requester, work: Driven[Allocation]) -> None:
    """What the allocation has said of its size so far."""
    for effect in work.all_effects:
        if isinstance(effect, Send) and isinstance(effect.message, Resized):
            requester.tell(ResizeAnswered(A, effect.message))


def test_what_is_owed_follows_the_size_from_the_change_on() -> None:
    work = at_work()
    work.tell(RunUsed(Usage(wall_ms=60_000)))
    work.tell(SizeWished(WANTED, TWO_CORES))
    assert work.wanted(SetSize) == [SetSize(1, TWO_CORES)]
    work.tell(SizeSet(1))

    (answer,) = work.sent(Resized, A)
    assert (answer.terms, answer.at_ms, answer.clauses) == (resize_digest(WANTED), 60_000, ())
    assert work.wanted(SettleSize) == [SettleSize(1, TWO_CORES, 10**9)]
    work.tell(RunExited(Ending(EndReason.COMPLETED, 0, usage=Usage(wall_ms=100_000))))
    (ended,) = work.noted(AllocationEnded)
    assert ended.price == 10 + 60_000 + 2 * 40_000
    assert work.restart() == work.state


def test_limits_that_could_not_be_set_leave_it_as_it_was() -> None:
    work = at_work()
    work.tell(SizeWished(WANTED, TWO_CORES))
    work.tell(SizeSet(1, "in use"))

    (answer,) = work.sent(Resized, A)
    assert answer.clauses[0].observed == "in use"
    assert work.wanted(SettleSize) == [SettleSize(1, RESERVED.resources, RESERVED.price)]
    assert work.state.reservation == RESERVED


def test_a_change_that_was_under_way_when_the_node_died_is_made() -> None:
    work = at_work()
    work.tell(SizeWished(WANTED, TWO_CORES))
    work.tell(NodeRestarted(adopted=True))

    assert work.wanted(SetSize) == [SetSize(1, TWO_CORES)]


def test_what_is_stopped_in_the_middle_of_a_change_is_billed_for_what_it_got() -> None:
    requester, allocation = holding()
    wanted = wishes(requester, allocation, size(requester))
    assert wanted is not None
    first = requester.state.terms.needs.resources  # type: ignore[union-attr]
    slot = requester.state.slots[0]
    work = at_work(
        msgspec.structs.replace(
            RESERVED,
            allocation_id=allocation,
            request_id=wanted.request_id,
            resources=first,
            tariff=slot.tariff,
            price=10**9,
            wall_ms=HOUR,
        )
    )
    work.tell(RunUsed(Usage(wall_ms=60_000)))
    requester.now = work.now = work.now + 90_000
    work.tell(SizeWished(wanted, wanted.resources))
    work.tell(CancelHeard(A, wanted.request_id))
    work.tell(SizeSet(1))
    work.tell(RunExited(Ending(EndReason.CANCELLED, usage=Usage(wall_ms=120_000))))

    (ended,) = work.noted(AllocationEnded)
    assert ended.price == slot.tariff.cost(first, 90_000) + slot.tariff.cost(wanted.resources, 30_000)
    hears(requester, work)
    assert fair_price(requester.state, requester.state.slots[0], Usage(wall_ms=120_000)) == ended.price


def test_a_run_that_ends_in_the_middle_of_a_change_has_kept_its_size_and_says_so_with_its_ending() -> None:
    work = at_work()
    work.tell(SizeWished(WANTED, TWO_CORES))
    work.tell(RunExited(Ending(EndReason.COMPLETED, 0, usage=Usage(wall_ms=100_000))))

    (ended,) = work.noted(AllocationEnded)
    assert ended.price == 10 + 100_000
    answer, status = (effect.message for effect in work.wanted(Send))
    assert isinstance(answer, Resized)
    assert [clause.observed for clause in answer.clauses] == ["it ended before its limits were changed"]
    assert isinstance(status, AllocationStatus)
    work.tell(SizeSet(1))
    assert work.events == ()
    assert work.restart() == work.state


def test_an_answer_is_told_again_with_the_ending_since_the_bill_follows_from_it() -> None:
    work = at_work()
    work.tell(SizeWished(WANTED, TWO_CORES))
    work.tell(SizeSet(1))
    work.tell(RunExited(Ending(EndReason.COMPLETED, 0, usage=Usage(wall_ms=100_000))))
    work.wait(1_000)

    assert [type(effect.message) for effect in work.wanted(Send)] == [Resized, AllocationStatus]


def test_a_repeat_gets_the_same_answer() -> None:
    work = at_work()
    work.tell(SizeWished(WANTED, TWO_CORES))
    work.tell(SizeWished(WANTED, TWO_CORES))
    assert work.effects == ()
    work.tell(SizeSet(1))
    (first,) = work.sent(Resized, A)
    work.tell(SizeWished(WANTED, TWO_CORES))

    assert work.sent(Resized, A) == [first]
    assert work.events == ()


# --------------------------------------------------------------------------------------------------------- the requester


def holding(**asked: object) -> tuple[Requester, AllocationId]:
    requester = Requester(bids_wanted=1, **asked)
    allocation = requester.hold("a", tariff=Price(cpu_core_hour=6), price=1)
    requester.reports("a", allocation, Phase.RUNNING)
    return requester, allocation


def size(requester: Requester) -> Resources:
    needs = requester.state.terms.needs.resources  # type: ignore[union-attr]
    return msgspec.structs.replace(needs, cpu_millicores=needs.cpu_millicores + 30 * CORE)


def wishes(requester: Requester, allocation: AllocationId, resources: Resources) -> Resize | None:
    requester.tell(ResizeAsked(allocation, resources))
    return next(iter(requester.sent(Resize, A)), None)


def test_what_is_asked_counts_at_once_and_no_more_when_it_is_refused() -> None:
    requester, allocation = holding()
    before = requester.state.slots[0].agreed
    asked = wishes(requester, allocation, size(requester))
    assert asked is not None
    assert requester.state.slots[0].agreed == asked.price > before

    told = Resized(
        asked.request_id,
        allocation,
        asked.number,
        resize_digest(asked),
        clauses=why_not(requester.state, requester.state.slots[0], Resources()),
    )
    requester.tell(ResizeAnswered(A, told))

    assert requester.state.slots[0].agreed == before
    assert requester.state.slots[0].sizes.now is None
    assert requester.restart() == requester.state


def test_an_answer_is_the_provider_s_to_what_was_asked() -> None:
    requester, allocation = holding()
    asked = wishes(requester, allocation, size(requester))
    assert asked is not None
    right = Resized(asked.request_id, allocation, asked.number, resize_digest(asked))

    for by, answer in (
        (PeerId("thief"), right),
        (A, msgspec.structs.replace(right, number=2)),
        (A, msgspec.structs.replace(right, terms=Digest("sha256:" + "0" * 64))),
    ):
        requester.tell(ResizeAnswered(by, answer))
        assert requester.events == ()
    requester.tell(ResizeAnswered(A, right))
    assert requester.state.slots[0].sizes.now == asked.resources
    requester.tell(ResizeAnswered(A, right))
    assert requester.events == ()


def test_more_than_the_job_pays_is_not_even_asked_for() -> None:
    requester, allocation = holding(max_price=100, budget=100)
    dear = Resources(2**40, GIB)

    assert wishes(requester, allocation, dear) is None
    answer = requester.state.slots[0].sizes.answer
    assert answer is not None
    assert [clause.dimension for clause in answer.clauses] == ["price"]


def test_it_is_asked_again_when_its_provider_is_back_or_this_node() -> None:
    from dms_proto.market.auction import resume
    from dms_proto.market.auction_stimuli import PeerThere

    requester, allocation = holding()
    asked = wishes(requester, allocation, size(requester))
    requester.tell(PeerThere(A))
    assert requester.sent(Resize, A) == [asked]
    assert [effect.message for effect in resume(requester.restart()) if isinstance(effect.message, Resize)] == [asked]  # type: ignore[attr-defined]


def test_a_provider_that_backdates_a_change_gains_nothing() -> None:
    requester, allocation = holding()
    requester.reports("a", allocation, Phase.RUNNING, usage=Usage(wall_ms=60_000))
    asked = wishes(requester, allocation, size(requester))
    assert asked is not None
    requester.tell(ResizeAnswered(A, Resized(asked.request_id, allocation, 1, resize_digest(asked), at_ms=0)))

    assert requester.state.slots[0].sizes.parts[0].until_ms == 60_000


def test_only_so_many_changes_are_asked_for() -> None:
    requester, allocation = holding()
    slot = requester.state.slots[0]
    last = Resized("r", allocation, MAX_CHANGES, resize_digest(WANTED))  # type: ignore[arg-type]
    worn = msgspec.structs.replace(slot, sizes=msgspec.structs.replace(slot.sizes, answer=last))

    assert why_not(requester.state, worn, size(requester))


# -------------------------------------------------------------------------------------------------------------- the bill


@given(st.lists(st.tuples(st.integers(0, HOUR), st.integers(1, 64 * CORE)), max_size=6), st.integers(0, HOUR))
def test_no_change_makes_it_dearer_than_its_largest_size_nor_cheaper_than_its_smallest(
    changes: list[tuple[int, int]], wall_ms: int
) -> None:
    tariff, first = Price(start=7, cpu_core_hour=3_600_000_000), Resources(CORE, GIB)
    sizes = UNCHANGED
    for at_ms, cores in sorted(changes):
        sizes = sizes.changed(first, Resources(cores, GIB), at_ms)
    every = [CORE, *(cores for _, cores in changes)]
    owed = sizes.cost(tariff, first, wall_ms)

    assert tariff.cost(Resources(min(every), GIB), wall_ms) <= owed
    assert owed <= tariff.cost(Resources(max(every), GIB), wall_ms) + len(changes)
