"""Every phase of an allocation, as really reached, meets every stimulus, and twice changes nothing more."""

from itertools import product

import msgspec
import pytest

from dms_proto.allocation import machine
from dms_proto.allocation.events import AllocationEnded
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.freezing import FreezeFailed, FreezeWished, Prior, ThawWished
from dms_proto.allocation.resizing import SizeSet, SizeWished
from dms_proto.allocation.state import Allocation, LifePhase
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
from dms_proto.capability import Price, Resources
from dms_proto.egress import Barred
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.machine import Stimulus, TimeCame
from dms_proto.market.ledger import Reservation
from dms_proto.messages import Receipt, Resize
from dms_proto.sim.driven import Driven
from dms_proto.work import Ending, EndReason, Input, Task, Usage

WHO = PeerId("requester")
TASK = Task("sandbox", ("true",), inputs=(Input("in", Digest("sha256:" + "1" * 64), 3),), outputs=("out",))
RESERVED = Reservation(AllocationId("a"), BidId("b"), RequestId("r"), WHO, 0, Resources(), Price(start=5), 5, 600_000)
RECEIPT = Receipt(RequestId("r"), AllocationId("a"), EndReason.COMPLETED, Usage(), 5)
CHANGE = Resize(RequestId("r"), AllocationId("a"), 1, Resources(1, 1), 5)
OPENED = Opened(RESERVED, None, 10_000)
STRAIGHT = (
    OPENED,
    Invoked(WHO, RequestId("r"), TASK),
    InputsArrived(),
    RunStarted("h"),
    RunExited(Ending(EndReason.COMPLETED, 0)),
    OutputsStored(),
    ReceiptHeard(WHO, RECEIPT),
)
WAYS: dict[LifePhase, tuple[Stimulus, ...]] = {
    LifePhase.NEW: (),
    LifePhase.COMMITTED: STRAIGHT[:1],
    LifePhase.PREPARING: STRAIGHT[:2],
    LifePhase.STARTING: STRAIGHT[:3],
    LifePhase.RUNNING: STRAIGHT[:4],
    LifePhase.STOPPING: (*STRAIGHT[:4], CancelHeard(WHO, RequestId("r"))),
    LifePhase.STORING: STRAIGHT[:5],
    LifePhase.ENDED: STRAIGHT[:6],
    LifePhase.CLOSED: STRAIGHT,
}
STIMULI: tuple[Stimulus, ...] = (
    OPENED,
    Invoked(WHO, RequestId("r"), TASK),
    Invoked(PeerId("thief"), RequestId("r"), TASK),
    InputsArrived(),
    InputsArrived("gone"),
    RunStarted("h"),
    RunUsed(Usage()),
    RunBarred(Barred("a.example:1", "why")),
    RunExited(Ending(EndReason.COMPLETED, 0)),
    OutputsStored(),
    CancelHeard(WHO, RequestId("r")),
    CancelHeard(PeerId("thief"), RequestId("r")),
    ReceiptHeard(WHO, RECEIPT),
    ReceiptHeard(WHO, msgspec.structs.replace(RECEIPT, price=4)),
    StopWished(EndReason.PROVIDER_STOPPED),
    FreezeWished(Prior.OWNER, "the owner is back", 60_000, 1_000),
    ThawWished(Prior.OWNER),
    FreezeFailed("no room"),
    RequesterGone(),
    RequesterBack(),
    NodeRestarted(True),
    NodeRestarted(False),
    SizeWished(CHANGE, CHANGE.resources),
    SizeSet(1),
    SizeSet(1, "in use"),
    TimeCame(),
)


def test_the_stimuli_here_are_all_there_are_and_every_phase_is_reached() -> None:
    assert {type(stimulus) for stimulus in STIMULI} == {kind for _, kind in machine.TABLE}
    assert set(WAYS) == set(LifePhase)


@pytest.mark.parametrize(("phase", "stimulus"), list(product(WAYS, STIMULI)), ids=str)
def test_every_stimulus_is_met_in_every_phase(phase: LifePhase, stimulus: Stimulus) -> None:
    work = Driven(machine.decide, evolve, machine.next_deadline, Allocation())
    for step in WAYS[phase]:
        work.tell(step)
    assert work.state.phase is phase
    over = phase in (LifePhase.ENDED, LifePhase.CLOSED)

    work.tell(stimulus)
    assert not (over and work.noted(AllocationEnded))
    once = work.state
    work.tell(stimulus)

    if isinstance(stimulus, (NodeRestarted, Opened, Invoked, SizeWished)) or work.state.phase is once.phase:
        assert work.state == once
    assert work.restart() == work.state
