"""An allocation's life at its provider: every way through it, every way out, restarts, billing, and the receipt."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.accounts.book import Account, Book
from dms_proto.allocation import machine
from dms_proto.allocation.effects import Close, Execute, FetchInputs, FreeCapacity, StopRun, StoreOutputs
from dms_proto.allocation.endings import KEEP_MS
from dms_proto.allocation.events import AllocationEnded, AllocationStarted, EgressBarred, ReceiptDisputed
from dms_proto.allocation.fold import REPEAT_MS, evolve
from dms_proto.allocation.machine import REQUESTER_GONE_MS
from dms_proto.allocation.state import RUNS, Allocation, LifePhase, status_of
from dms_proto.allocation.stimuli import (
    CancelHeard,
    InputsArrived,
    Invoked,
    NodeRestarted,
    Opened,
    OutputsStored,
    ReceiptHeard,
    RequesterBack,
    RequesterGone,
    RunBarred,
    RunExited,
    RunStarted,
    RunUsed,
    StopWished,
)
from dms_proto.capability import Gpu, Price, Resources
from dms_proto.egress import MAX_BARRED, Barred
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.machine import Blame, Send, Transient
from dms_proto.market.agreement import receipt_for
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_judgement import task_fits
from dms_proto.messages import AllocationStatus, InvocationAck, Phase
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, GIB, HOUR, MINUTE, SECOND
from dms_proto.wire import Offence
from dms_proto.work import Ending, EndReason, Input, Limits, Logs, Output, Task, Usage

REQUESTER = PeerId("requester")
REQUEST = RequestId("r")
SIMPLE = Task("sandbox", ("true",), resources=Resources(CORE, GIB), limits=Limits(wall_ms=10 * MINUTE, grace_ms=2_000))
TASK = msgspec.structs.replace(SIMPLE, inputs=(Input("in", Digest("sha256:" + "1" * 64), 3),), outputs=("out",))
TARIFF = Price(start=10, cpu_core_hour=3_600)
RESERVED = Reservation(
    AllocationId("a"), BidId("b"), REQUEST, REQUESTER, 0, Resources(CORE, GIB), TARIFF, 610, 10 * MINUTE
)
FILE = Output("out", Digest("sha256:" + "0" * 64), 3)
WRITTEN = (Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64))
INVOKE_WITHIN = 10_000


class Work(Driven[Allocation]):
    def __init__(self) -> None:
        super().__init__(machine.decide, evolve, machine.next_deadline, Allocation())

    @property
    def phase(self) -> LifePhase:
        return self.state.phase

    @property
    def reason(self) -> EndReason | None:
        return self.state.ending.reason if self.state.ending is not None else None

    def to(self, phase: LifePhase) -> "Work":
        """On the straight way to a phase."""
        steps = {
            LifePhase.COMMITTED: Opened(RESERVED, None, INVOKE_WITHIN),
            LifePhase.PREPARING: Invoked(REQUESTER, REQUEST, TASK),
            LifePhase.STARTING: InputsArrived(),
            LifePhase.RUNNING: RunStarted("handle"),
            LifePhase.STOPPING: CancelHeard(REQUESTER, REQUEST),
            LifePhase.STORING: RunExited(ended(EndReason.COMPLETED)),
            LifePhase.ENDED: OutputsStored((FILE,), Logs((5, 0), WRITTEN)),
        }
        for reached, stimulus in steps.items():
            if self.phase is phase:
                return self
            if reached is LifePhase.STOPPING and phase is not LifePhase.STOPPING:
                continue
            self.now += 1_000 if reached is LifePhase.STORING else 0
            self.tell(stimulus)
        if phase is LifePhase.CLOSED:
            self.tell(self.receipt())
        assert self.phase is phase
        return self

    def receipt(self, **other: Any) -> ReceiptHeard:
        """Its requester's receipt, which agrees with the status but for what is `other`."""
        receipt = receipt_for(status_of(self.state), self.state.price)
        return ReceiptHeard(REQUESTER, msgspec.structs.replace(receipt, **other))

    def status(self) -> AllocationStatus:
        (status,) = self.sent(AllocationStatus, REQUESTER)
        return status


def ended(reason: EndReason, wall_ms: int = 1_000) -> Ending:
    return Ending(reason, 0 if reason is EndReason.COMPLETED else 1, usage=Usage(wall_ms=wall_ms, cpu_us=5))


# ------------------------------------------------------------------------------------------------------------ the straight way


def test_a_commit_with_its_invocation_fetches_the_inputs_at_once() -> None:
    work = Work()

    work.tell(Opened(RESERVED, TASK, INVOKE_WITHIN))

    assert work.phase is LifePhase.PREPARING
    assert work.wanted(FetchInputs) == [FetchInputs(REQUESTER, TASK)]


def test_without_inputs_it_is_handed_to_the_executor_at_once() -> None:
    committed, invoked = Work(), Work().to(LifePhase.COMMITTED)

    committed.tell(Opened(RESERVED, SIMPLE, INVOKE_WITHIN))
    invoked.tell(Invoked(REQUESTER, REQUEST, SIMPLE))

    for work in (committed, invoked):
        assert work.phase is LifePhase.STARTING
        assert work.wanted(Execute) == [Execute(SIMPLE)]


def test_without_outputs_it_is_over_when_nothing_runs_any_more() -> None:
    work = Work()
    work.tell(Opened(RESERVED, SIMPLE, INVOKE_WITHIN))
    work.tell(RunStarted("handle"))

    work.tell(RunExited(ended(EndReason.COMPLETED), Logs((5, 7), WRITTEN)))

    assert work.phase is LifePhase.ENDED
    assert (work.status().log_bytes, work.status().log_digests) == ((5, 7), WRITTEN)
    assert (work.receipt().receipt.log_bytes, work.receipt().receipt.log_digests) == ((5, 7), WRITTEN)
    assert work.wanted(FreeCapacity) == [FreeCapacity(AllocationId("a"))]


def test_from_the_invocation_to_the_receipt() -> None:
    work = Work().to(LifePhase.COMMITTED)
    work.tell(Invoked(REQUESTER, REQUEST, TASK))
    assert work.sent(InvocationAck) == [InvocationAck(RequestId("r"), AllocationId("a"))]
    work.tell(InputsArrived())
    assert work.wanted(Execute) == [Execute(TASK)]
    work.tell(RunStarted("handle"))
    assert work.status().phase is Phase.RUNNING
    work.now += 1_000
    work.tell(RunExited(ended(EndReason.COMPLETED)))
    assert work.wanted(StoreOutputs) == [StoreOutputs(TASK)]
    work.tell(OutputsStored((FILE,), Logs((5, 0), WRITTEN)))
    assert work.wanted(FreeCapacity) == [FreeCapacity(AllocationId("a"))]
    told = work.status()
    assert (told.phase, told.ending, told.outputs, told.log_bytes, told.price) == (
        Phase.ENDED,
        ended(EndReason.COMPLETED),
        (FILE,),
        (5, 0),
        11,
    )
    work.tell(work.receipt())

    assert work.wanted(Close) == [Close()]
    assert work.phase is LifePhase.CLOSED
    assert machine.next_deadline(work.state) is None


def test_use_is_told_as_it_is_heard_and_not_written_down() -> None:
    work = Work().to(LifePhase.RUNNING)

    work.tell(RunUsed(Usage(wall_ms=700)))

    assert work.status().usage.wall_ms == 700
    assert work.state.usage.wall_ms == 700
    assert all(isinstance(event, Transient) for event in work.events)


def test_a_refused_connection_is_written_down_once_however_often_it_is_told() -> None:
    """It is told again by a run that is adopted."""
    work = Work().to(LifePhase.RUNNING)
    barred = Barred("a.example:1", "why")

    for told in (barred, barred, Barred("b.example:1", "why"), barred):
        work.tell(RunBarred(told))

    assert [event.barred.destination for event in work.log if isinstance(event, EgressBarred)] == [
        "a.example:1",
        "b.example:1",
    ]


def test_what_is_written_down_of_refused_connections_is_bounded() -> None:
    work = Work().to(LifePhase.RUNNING)
    for port in range(MAX_BARRED + 5):
        work.tell(RunBarred(Barred(f"a.example:{port}", "why")))
    assert len(work.state.barred) == MAX_BARRED


def test_the_numbers_of_statuses_grow_with_the_phase() -> None:
    numbers = [
        status_of(Work().to(phase).state).number
        for phase in (LifePhase.COMMITTED, LifePhase.PREPARING, LifePhase.RUNNING, LifePhase.STOPPING, LifePhase.ENDED)
    ]

    assert numbers == sorted(set(numbers))


# ------------------------------------------------------------------------------------------------------------------ invoking


def test_without_an_invocation_it_ends_in_time() -> None:
    work = Work().to(LifePhase.COMMITTED)

    work.wait(INVOKE_WITHIN - 1)
    assert work.phase is LifePhase.COMMITTED
    work.wait(1)

    assert work.reason is EndReason.NOT_INVOKED
    assert work.wanted(FreeCapacity)
    assert [blame.offence for blame in work.wanted(Blame)] == [Offence.ABANDONED]


def test_an_invocation_by_somebody_else_is_refused() -> None:
    work = Work().to(LifePhase.COMMITTED)

    work.tell(Invoked(PeerId("thief"), REQUEST, TASK))

    assert work.sent(InvocationAck, PeerId("thief"))[0].refused == "it was committed to somebody else"
    assert work.phase is LifePhase.COMMITTED


@pytest.mark.parametrize("phase", [LifePhase.PREPARING, LifePhase.RUNNING, LifePhase.ENDED])
def test_where_it_stands_is_not_told_to_somebody_else(phase: LifePhase) -> None:
    work = Work().to(phase)

    work.tell(Invoked(PeerId("thief"), REQUEST, TASK))

    assert work.sent(AllocationStatus) == []


@pytest.mark.parametrize(
    "task",
    [
        msgspec.structs.replace(TASK, resources=Resources(2 * CORE, GIB)),
        msgspec.structs.replace(TASK, resources=Resources(CORE, GIB, 0, (Gpu(),))),
        msgspec.structs.replace(TASK, limits=Limits(wall_ms=HOUR)),
    ],
    ids=["more cores", "a gpu", "longer"],
)
def test_a_task_that_asks_for_more_than_was_committed_is_refused(task: Task) -> None:
    work = Work().to(LifePhase.COMMITTED)

    work.tell(Invoked(REQUESTER, REQUEST, task))

    assert "more than was committed" in work.sent(InvocationAck)[0].refused
    assert work.phase is LifePhase.COMMITTED


def test_invocations_that_are_refused_again_and_again_are_written_down_once() -> None:
    work = Work().to(LifePhase.COMMITTED)
    greedy = msgspec.structs.replace(TASK, resources=Resources(2 * CORE, GIB))

    work.tell(Invoked(REQUESTER, REQUEST, greedy))
    written = len(work.log)
    for missing in ("the right to invoke", "", "the right to run"):
        work.tell(Invoked(REQUESTER, REQUEST, greedy if not missing else TASK, missing=missing))
        assert work.sent(InvocationAck)[0].refused
    assert len(work.log) == written

    work.tell(Invoked(REQUESTER, REQUEST, TASK))
    assert work.phase is LifePhase.PREPARING


def test_an_invocation_without_the_right_to_it_is_refused_with_what_is_missing() -> None:
    work = Work().to(LifePhase.COMMITTED)

    work.tell(Invoked(REQUESTER, REQUEST, TASK, missing="not granted: wanted the right to invoke"))

    assert work.sent(InvocationAck)[0].refused == "not granted: wanted the right to invoke"
    assert work.phase is LifePhase.COMMITTED


@pytest.mark.parametrize("missing", ["", "not granted: revoked"])
@pytest.mark.parametrize("phase", [p for p in LifePhase if p not in (LifePhase.NEW, LifePhase.COMMITTED)])
def test_a_repeated_invocation_asks_where_it_stands_whatever_became_of_the_right(
    phase: LifePhase, missing: str
) -> None:
    work = Work().to(phase)
    before = work.state

    work.tell(Invoked(REQUESTER, REQUEST, TASK, missing))

    assert work.status() == status_of(before)
    assert work.state is before


def test_inputs_that_cannot_be_had_end_it() -> None:
    work = Work().to(LifePhase.PREPARING)

    work.tell(InputsArrived("the digest does not match"))

    assert work.reason is EndReason.INPUT_UNAVAILABLE
    assert work.state.price == 0


# ------------------------------------------------------------------------------------------------------------------ stopping


@pytest.mark.parametrize("phase", [LifePhase.COMMITTED, LifePhase.PREPARING])
def test_cancelled_before_it_runs_it_ends_at_once_and_costs_nothing(phase: LifePhase) -> None:
    work = Work().to(phase)

    work.tell(CancelHeard(REQUESTER, REQUEST))

    assert (work.phase, work.reason, work.state.price) == (LifePhase.ENDED, EndReason.CANCELLED, 0)
    assert work.wanted(FreeCapacity)


@pytest.mark.parametrize("phase", [LifePhase.STARTING, LifePhase.RUNNING])
def test_cancelled_while_it_runs_it_is_stopped_and_holds_its_capacity_until_it_is_over(phase: LifePhase) -> None:
    work = Work().to(phase)
    work.tell(CancelHeard(REQUESTER, REQUEST))
    assert work.wanted(StopRun) == [StopRun(2_000)]
    assert work.wanted(FreeCapacity) == []

    work.tell(RunExited(ended(EndReason.KILLED_BY_SIGNAL)))
    assert work.wanted(FreeCapacity) == []
    work.tell(OutputsStored())

    assert work.reason is EndReason.CANCELLED
    assert work.wanted(FreeCapacity)


def test_a_run_that_starts_after_it_was_cancelled_is_stopped_again() -> None:
    work = Work().to(LifePhase.STARTING)
    work.tell(CancelHeard(REQUESTER, REQUEST))

    work.tell(RunStarted("handle"))

    assert work.wanted(StopRun) == [StopRun(2_000)]
    assert work.phase is LifePhase.STOPPING


def test_a_run_that_is_adopted_while_it_is_stopped_has_started_once() -> None:
    work = Work().to(LifePhase.STOPPING)
    work.tell(NodeRestarted(adopted=True))

    work.tell(RunStarted("handle"))

    assert not work.noted(AllocationStarted)
    assert work.wanted(StopRun) == [StopRun(2_000)]


def test_what_had_completed_when_the_stop_came_has_completed() -> None:
    work = Work().to(LifePhase.STOPPING)

    work.tell(RunExited(ended(EndReason.COMPLETED)))
    work.tell(OutputsStored())

    assert work.reason is EndReason.COMPLETED


def test_cancelling_twice_stops_once() -> None:
    work = Work().to(LifePhase.STOPPING)

    work.tell(CancelHeard(REQUESTER, REQUEST))

    assert work.effects == ()


@pytest.mark.parametrize("phase", [LifePhase.COMMITTED, LifePhase.PREPARING, LifePhase.RUNNING])
def test_others_cannot_cancel_it(phase: LifePhase) -> None:
    work = Work().to(phase)

    work.tell(CancelHeard(PeerId("thief"), REQUEST))

    assert work.events == ()


def test_the_owner_of_the_machine_can_stop_it_and_it_costs_nothing() -> None:
    work = Work().to(LifePhase.RUNNING)

    work.tell(StopWished(EndReason.PROVIDER_STOPPED))
    work.tell(RunExited(ended(EndReason.KILLED_BY_SIGNAL)))
    work.tell(OutputsStored())

    assert (work.reason, work.state.price) == (EndReason.PROVIDER_STOPPED, 0)


# ------------------------------------------------------------------------------------------------------------------ requester


def test_work_goes_on_for_a_while_for_a_requester_that_is_gone_and_then_stops() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.tell(RequesterGone())

    work.wait(REQUESTER_GONE_MS - 1)
    assert work.phase is LifePhase.RUNNING
    work.wait(1)
    assert work.wanted(StopRun)
    work.tell(RunExited(ended(EndReason.KILLED_BY_SIGNAL)))
    work.tell(OutputsStored())

    assert (work.reason, work.state.price) == (
        EndReason.REQUESTER_LOST,
        0,
    )  # nobody asked it to stop, and it gave nothing


def test_a_requester_that_is_back_is_told_and_the_work_goes_on() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.tell(RequesterGone())
    work.wait(MINUTE)

    work.tell(RequesterBack())

    assert work.status().phase is Phase.RUNNING
    work.wait(HOUR)
    assert work.phase is LifePhase.RUNNING


def test_going_twice_does_not_give_more_time() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.tell(RequesterGone())
    work.now += MINUTE

    work.tell(RequesterGone())

    assert work.events == ()


def test_before_it_runs_a_gone_requester_is_waited_for_too() -> None:
    work = Work().to(LifePhase.PREPARING)
    work.tell(RequesterGone())

    work.wait(REQUESTER_GONE_MS)

    assert work.reason is EndReason.REQUESTER_LOST


# --------------------------------------------------------------------------------------------------------------------- ending


def test_an_ending_is_told_again_until_the_receipt_comes() -> None:
    work = Work().to(LifePhase.ENDED)
    for pause in (*REPEAT_MS, REPEAT_MS[-1]):
        work.wait(pause - 1)
        assert work.effects == ()
        work.wait(1)
        assert work.status().phase is Phase.ENDED

    work.tell(work.receipt())
    work.wait(HOUR)

    assert work.effects == ()


def test_an_ending_that_nobody_claims_is_let_go_in_the_end() -> None:
    work = Work().to(LifePhase.ENDED)

    work.wait(KEEP_MS + MINUTE)

    assert work.phase is LifePhase.CLOSED
    assert work.wanted(Close) == [Close()]


def test_a_requester_that_is_back_is_told_the_ending_at_once() -> None:
    work = Work().to(LifePhase.ENDED)

    work.tell(RequesterBack())

    assert work.status().phase is Phase.ENDED


def test_others_cannot_confirm_it() -> None:
    work = Work().to(LifePhase.ENDED)

    work.tell(msgspec.structs.replace(work.receipt(), requester=PeerId("thief")))

    assert work.phase is LifePhase.ENDED


OTHERS = pytest.mark.parametrize(
    ("who", "request_id"),
    [(PeerId("thief"), REQUEST), (REQUESTER, RequestId("another"))],
    ids=["a stranger who knows the ids", "its requester, for another request"],
)
"""Nobody but the parties of the agreement, about nothing but its own request."""


@OTHERS
@pytest.mark.parametrize("phase", [LifePhase.COMMITTED, LifePhase.PREPARING, LifePhase.RUNNING, LifePhase.ENDED])
def test_an_invocation_is_honoured_for_the_agreement_alone(
    phase: LifePhase, who: PeerId, request_id: RequestId
) -> None:
    work = Work().to(phase)

    work.tell(Invoked(who, request_id, TASK))

    assert [effect.message for effect in work.effects if isinstance(effect, Send)] == [
        InvocationAck(request_id, RESERVED.allocation_id, "it was committed to somebody else")
    ]
    assert (work.events, work.phase) == ((), phase)


@OTHERS
@pytest.mark.parametrize("phase", [LifePhase.COMMITTED, LifePhase.PREPARING, LifePhase.STARTING, LifePhase.RUNNING])
def test_a_cancel_is_honoured_for_the_agreement_alone(phase: LifePhase, who: PeerId, request_id: RequestId) -> None:
    work = Work().to(phase)

    work.tell(CancelHeard(who, request_id))

    assert (work.events, work.effects) == ((), ())


@OTHERS
def test_a_receipt_is_honoured_for_the_agreement_alone(who: PeerId, request_id: RequestId) -> None:
    work = Work().to(LifePhase.ENDED)

    work.tell(ReceiptHeard(who, work.receipt(request_id=request_id).receipt))

    assert (work.events, work.effects, work.phase) == ((), (), LifePhase.ENDED)


@pytest.mark.parametrize(
    ("stated", "difference"),
    [
        ({"price": 0}, "price: the provider says 11, the requester 0"),
        ({"reason": EndReason.WALL_TIME}, "reason: the provider says completed, the requester wall_time"),
        ({"log_bytes": (4, 0)}, "log_bytes: the provider says (5, 0), the requester (4, 0)"),
        ({"log_digests": (Digest(""), WRITTEN[1])}, "log_digests: the provider says ('sha256:1111"),
        ({"results": Digest("")}, "results: the provider says sha256:"),
        ({"usage": Usage(wall_ms=1)}, "usage: the provider says Usage("),
    ],
)
def test_a_receipt_that_states_other_figures_is_written_down_as_disputed(
    stated: dict[str, Any], difference: str
) -> None:
    work = Work().to(LifePhase.ENDED)
    receipt = work.receipt(**stated)

    work.tell(receipt)

    (disputed,) = work.noted(ReceiptDisputed)
    assert disputed.receipt == receipt.receipt
    assert len(disputed.differences) == 1
    assert disputed.differences[0].startswith(difference)
    assert work.wanted(Close)
    assert work.phase is LifePhase.CLOSED


def test_outputs_that_could_not_be_taken_are_a_failure_of_a_run_that_completed() -> None:
    work = Work().to(LifePhase.STORING)

    work.tell(OutputsStored(failed="outputs are larger than the disk limit"))

    assert work.reason is EndReason.DISK_LIMIT


def test_outputs_that_this_node_could_not_store_are_its_fault_and_cost_nothing() -> None:
    work = Work().to(LifePhase.STORING)

    work.tell(OutputsStored(failed="no space left on device", ours=True))

    assert work.reason is EndReason.PROVIDER_FAULT
    assert work.status().price == 0


@pytest.mark.parametrize(("ours", "reason"), [(False, EndReason.INPUT_UNAVAILABLE), (True, EndReason.PROVIDER_FAULT)])
def test_inputs_that_did_not_arrive_are_whose_fault_it_is(ours: bool, reason: EndReason) -> None:
    work = Work().to(LifePhase.PREPARING)

    work.tell(InputsArrived("no room", ours))

    assert work.reason is reason


def test_a_run_that_failed_keeps_its_own_reason() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.tell(RunExited(ended(EndReason.OUT_OF_MEMORY)))

    work.tell(OutputsStored(failed="no room"))

    assert work.reason is EndReason.OUT_OF_MEMORY


# --------------------------------------------------------------------------------------------------------------------- billing


@pytest.mark.parametrize(
    ("reason", "wall_ms", "price"),
    [
        (EndReason.COMPLETED, 1_000, 11),
        (EndReason.COMPLETED, 60 * SECOND, 70),
        (EndReason.EXIT_NONZERO, 60 * SECOND, 70),
        (EndReason.WALL_TIME, 11 * MINUTE, 610),
        (EndReason.PROVIDER_FAULT, 60 * SECOND, 0),
    ],
    ids=["a second", "a minute", "a failing minute", "never more than agreed", "a fault of the node"],
)
def test_the_price_follows_the_run(reason: EndReason, wall_ms: int, price: int) -> None:
    work = Work().to(LifePhase.RUNNING)
    work.now += wall_ms

    work.tell(RunExited(ended(reason, wall_ms)))
    work.tell(OutputsStored())

    assert work.state.price == price


@given(
    tariff=st.builds(Price, *(st.integers(0, 10**6) for _ in range(5))),
    millicores=st.integers(0, 64_000),
    memory=st.integers(0, 2**40),
    limit=st.integers(1, HOUR),
    ran=st.integers(0, HOUR),
)
def test_the_wall_limit_is_the_ceiling_of_the_price(
    tariff: Price, millicores: int, memory: int, limit: int, ran: int
) -> None:
    """A provider stops a run at its wall limit, which a task cannot set above the one its bid was priced for: so it never costs more than agreed."""
    resources = Resources(millicores, memory)
    agreed = tariff.cost(resources, limit)

    assert (tariff.cost(resources, ran) <= agreed) or ran > limit
    assert not task_fits(Task("sandbox", limits=Limits(wall_ms=limit + 1)), resources, limit)


def test_the_ending_is_claimed_and_the_receipt_answers_the_claim() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.tell(RunExited(ended(EndReason.COMPLETED, 60 * SECOND)))
    work.tell(OutputsStored())
    (claimed,) = work.wanted(Book)
    work.tell(work.receipt(price=50))
    (answered,) = work.wanted(Book)

    assert (claimed.entry.peer, claimed.entry.about, claimed.entry.moves(Account.CLAIMED)) == (REQUESTER, "a", 70)
    moved = {account: answered.entry.moves(account) for account in Account if answered.entry.moves(account)}
    assert moved == {Account.CLAIMED: -70, Account.OPEN: 50, Account.DISPUTED: 20}


def test_a_claim_comes_before_the_capacity_is_free_again() -> None:
    """So no request is judged by a credit that the claim has used up."""
    work = Work().to(LifePhase.RUNNING)
    work.tell(RunExited(ended(EndReason.COMPLETED)))
    work.tell(OutputsStored())

    assert [type(effect) for effect in work.effects][:2] == [Book, FreeCapacity]


def test_a_bill_names_the_time_it_rests_on() -> None:
    work = Work().to(LifePhase.RUNNING)
    work.now += 60 * SECOND

    work.tell(RunExited(ended(EndReason.COMPLETED, wall_ms=0)))
    work.tell(OutputsStored())

    assert (work.status().price, work.status().usage.wall_ms) == (70, 60 * SECOND)


def test_a_run_that_never_started_costs_nothing() -> None:
    work = Work().to(LifePhase.STARTING)

    work.tell(RunExited(Ending(EndReason.BAD_PROGRAM)))
    work.tell(OutputsStored())

    assert (work.reason, work.state.price) == (EndReason.BAD_PROGRAM, 0)


# ------------------------------------------------------------------------------------------------------------------ restarting


def restarted(work: Work) -> Work:
    live = work.state
    assert work.restart() == live
    work.effects = machine.resume(work.state)
    return work


@pytest.mark.parametrize(
    ("phase", "effects"),
    [
        (LifePhase.COMMITTED, []),
        (LifePhase.PREPARING, [FetchInputs]),
        (LifePhase.STARTING, []),
        (LifePhase.RUNNING, []),
        (LifePhase.STOPPING, []),
        (LifePhase.STORING, [StoreOutputs]),
        (LifePhase.ENDED, [FreeCapacity, AllocationStatus]),
        (LifePhase.CLOSED, [FreeCapacity, Close]),
    ],
)
def test_what_was_under_way_is_taken_up_again(phase: LifePhase, effects: list[type]) -> None:
    work = restarted(Work().to(phase))

    assert [type(getattr(effect, "message", effect)) for effect in work.effects] == effects


@pytest.mark.parametrize("phase", RUNS)
def test_a_run_that_survived_is_adopted_and_its_requester_told(phase: LifePhase) -> None:
    work = restarted(Work().to(phase))

    work.tell(NodeRestarted(adopted=True))

    assert work.phase is (LifePhase.STOPPING if phase is LifePhase.STOPPING else LifePhase.RUNNING)
    assert len(work.sent(AllocationStatus)) == 1
    assert bool(work.wanted(StopRun)) == (phase is LifePhase.STOPPING)


def test_a_run_that_had_started_unheard_counts_from_now() -> None:
    work = restarted(Work().to(LifePhase.STARTING))
    work.now += 5_000

    work.tell(NodeRestarted(adopted=True))

    assert [event.at for event in work.noted(AllocationStarted)] == [work.now]


@pytest.mark.parametrize("phase", RUNS)
def test_a_run_that_did_not_survive_is_honestly_lost_and_never_run_again(phase: LifePhase) -> None:
    work = restarted(Work().to(phase))

    work.tell(NodeRestarted(adopted=False))

    assert work.reason is (EndReason.CANCELLED if phase is LifePhase.STOPPING else EndReason.PROVIDER_FAULT)
    assert work.wanted(Execute) == []
    assert work.wanted(FreeCapacity)


def test_opening_it_a_second_time_changes_nothing() -> None:
    work = Work().to(LifePhase.RUNNING)

    work.tell(Opened(RESERVED, None, INVOKE_WITHIN))

    assert (work.events, work.effects) == ((), ())


def test_it_ends_exactly_once() -> None:
    work = Work().to(LifePhase.ENDED)
    for late in (
        CancelHeard(REQUESTER, REQUEST),
        RunExited(ended(EndReason.WALL_TIME)),
        OutputsStored(),
        InputsArrived("late"),
        NodeRestarted(False),
    ):
        work.tell(late)

    assert len([event for event in work.log if isinstance(event, AllocationEnded)]) == 1
