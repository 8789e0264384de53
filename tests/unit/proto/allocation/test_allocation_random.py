"""One allocation and everything that can happen to it, in any order: it ends once and frees its capacity when nothing of it runs."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms_proto.allocation import machine
from dms_proto.allocation.effects import Execute, FreeCapacity, StopRun
from dms_proto.allocation.endings import KEEP_MS
from dms_proto.allocation.events import AllocationEnded
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.state import RUNS, Allocation, LifePhase
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
    RunExited,
    RunStarted,
    StopWished,
)
from dms_proto.capability import Price, Resources
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.market.ledger import Reservation
from dms_proto.messages import Receipt
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, GIB, MINUTE
from dms_proto.work import Ending, EndReason, Input, Task, Usage

REQUESTER = PeerId("requester")
RESERVED = Reservation(
    AllocationId("a"),
    BidId("b"),
    RequestId("r"),
    REQUESTER,
    0,
    Resources(CORE, GIB),
    Price(start=10, cpu_core_hour=3_600),
    610,
    10 * MINUTE,
)
SIMPLE = Task("sandbox", ("true",), resources=Resources(CORE, GIB))
TASK = msgspec.structs.replace(SIMPLE, inputs=(Input("in", Digest("sha256:" + "1" * 64), 3),), outputs=("out",))
peers = st.sampled_from([REQUESTER, PeerId("thief")])


class AnyLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.work = Driven(machine.decide, evolve, machine.next_deadline, Allocation())
        self.runs = False
        self.executed = 0
        self.freed = 0

    def _look(self) -> None:
        """What an executor and an offer book would do about the last effects."""
        for effect in self.work.effects:
            if isinstance(effect, Execute):
                self.executed += 1
                self.runs = True
            elif isinstance(effect, FreeCapacity):
                self.freed += 1
                assert not self.runs, "capacity freed under a run"
        self.work.effects = ()

    @rule(task=st.sampled_from([None, SIMPLE, TASK]))
    def opened(self, task: Task | None) -> None:
        self.work.tell(Opened(RESERVED, task, 10_000))
        self._look()

    @rule(peer=peers, task=st.sampled_from([SIMPLE, TASK]))
    def invoked(self, peer: PeerId, task: Task) -> None:
        self.work.tell(Invoked(peer, RequestId("r"), task))
        self._look()

    @rule(failed=st.sampled_from(["", "gone"]))
    def inputs(self, failed: str) -> None:
        self.work.tell(InputsArrived(failed))
        self._look()

    @precondition(lambda self: self.runs)
    @rule()
    def started(self) -> None:
        self.work.tell(RunStarted("handle"))
        self._look()

    @precondition(lambda self: self.runs)
    @rule(reason=st.sampled_from(EndReason), wall=st.integers(0, 10**7))
    def exited(self, reason: EndReason, wall: int) -> None:
        self.runs = False
        self.work.tell(RunExited(Ending(reason, 0, usage=Usage(wall_ms=wall))))
        self._look()

    @rule(failed=st.sampled_from(["", "no room"]))
    def stored(self, failed: str) -> None:
        self.work.tell(OutputsStored(failed=failed))
        self._look()

    @rule(peer=peers, request=st.sampled_from([RequestId("r"), RequestId("another")]))
    def cancelled(self, peer: PeerId, request: RequestId) -> None:
        self.work.tell(CancelHeard(peer, request))
        self._look()

    @rule()
    def stopped(self) -> None:
        self.work.tell(StopWished(EndReason.PROVIDER_STOPPED))
        self._look()

    @rule(peer=peers, price=st.sampled_from([0, 10]))
    def receipted(self, peer: PeerId, price: int) -> None:
        receipt = Receipt(RequestId("r"), AllocationId("a"), EndReason.COMPLETED, Usage(), price)
        self.work.tell(ReceiptHeard(peer, receipt))
        self._look()

    @rule(back=st.booleans())
    def requester_comes_and_goes(self, back: bool) -> None:
        self.work.tell(RequesterBack() if back else RequesterGone())
        self._look()

    @rule(span=st.sampled_from([1, 1_000, 10_000, 16 * MINUTE]))
    def time_passes(self, span: int) -> None:
        self.work.wait(span)
        self._look()

    @rule(survives=st.booleans())
    def node_restarts(self, survives: bool) -> None:
        live = self.work.state
        assert self.work.restart() == live
        self.runs = self.runs and survives
        if live.phase in RUNS:
            self.work.tell(NodeRestarted(self.runs))
            self._look()
        self.freed -= live.phase in (LifePhase.ENDED, LifePhase.CLOSED)  # said again, in case it was not heard
        self.work.effects = machine.resume(self.work.state) if live.phase not in RUNS else ()
        self._look()

    @invariant()
    def it_ends_once(self) -> None:
        ends = [event for event in self.work.log if isinstance(event, AllocationEnded)]
        over = self.work.state.phase in (LifePhase.ENDED, LifePhase.CLOSED)
        assert len(ends) == over
        assert self.freed == over
        assert all(0 <= event.price <= RESERVED.price for event in ends)

    @invariant()
    def it_is_executed_at_most_once(self) -> None:
        assert self.executed <= 1

    @invariant()
    def nothing_runs_unknown_to_it(self) -> None:
        assert not self.runs or self.work.state.phase in RUNS

    def teardown(self) -> None:
        """Left alone, with an executor that obeys, it ends."""
        if self.work.state.phase is LifePhase.NEW:
            return
        self.work.tell(CancelHeard(REQUESTER, RequestId("r")))
        stopping = [effect for effect in self.work.effects if isinstance(effect, StopRun)]
        self._look()
        assert bool(stopping) <= self.runs
        if self.runs:
            self.runs = False
            self.work.tell(RunExited(Ending(EndReason.KILLED_BY_SIGNAL)))
            self._look()
        self.work.tell(OutputsStored())
        self._look()
        self.work.wait(2 * KEEP_MS)
        assert self.work.state.phase is LifePhase.CLOSED


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=100, stateful_step_count=30)
