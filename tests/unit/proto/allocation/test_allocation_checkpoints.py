"""At its provider: how an allocation ends whose program has left a checkpoint, and what is taken in then."""

import msgspec
import pytest

from dms_proto.allocation import machine
from dms_proto.allocation.effects import StoreOutputs
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.stimuli import Opened, OutputsStored, RunExited, RunStarted, StopWished
from dms_proto.capability import Price, Resources
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId, digest_of
from dms_proto.market.ledger import Reservation
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, GIB, MINUTE
from dms_proto.work import Ending, EndReason, Limits, Output, Task, Usage

TASK = Task(
    "sandbox",
    ("run",),
    resources=Resources(CORE, GIB),
    limits=Limits(wall_ms=MINUTE),
    outputs=("out",),
    checkpoint="state",
)
RESERVED = Reservation(
    AllocationId("a"), BidId("b"), RequestId("r"), PeerId("p"), 0, Resources(CORE, GIB), Price(start=10), 610, MINUTE
)
AT_CHECKPOINT = Ending(EndReason.EXIT_NONZERO, CHECKPOINT_EXIT, "exit code 85", Usage(wall_ms=1_000))
FILE = Output("state/1", digest_of(b"1"), 1)


@pytest.fixture
def work() -> Driven[Allocation]:
    """An allocation that runs."""
    driven = Driven(machine.decide, evolve, machine.next_deadline, Allocation())
    driven.tell(Opened(RESERVED, TASK, 10_000))
    driven.tell(RunStarted("handle"))
    return driven


def ending(work: Driven[Allocation]) -> Ending:
    assert work.state.phase is LifePhase.ENDED
    assert work.state.ending is not None
    return work.state.ending


def test_its_checkpoint_is_taken_in_and_it_is_owed_for(work: Driven[Allocation]) -> None:
    work.tell(RunExited(AT_CHECKPOINT))
    (store,) = work.wanted(StoreOutputs)
    assert store.task is not None
    assert store.task.outputs == ("state", "state/**")
    assert machine.resume(work.state) == (store,), "after a restart the same is taken in"

    work.tell(OutputsStored((FILE,)))

    assert ending(work).reason is EndReason.CHECKPOINTED
    assert (work.state.outputs, work.state.price) == ((FILE,), 10)


def test_the_exit_code_without_a_file_is_a_failure_of_the_job(work: Driven[Allocation]) -> None:
    work.tell(RunExited(AT_CHECKPOINT))
    work.tell(OutputsStored())

    assert ending(work).reason is EndReason.EXIT_NONZERO
    assert ending(work).detail == "exit code 85, and there is no file at its checkpoint state"


@pytest.mark.parametrize(("ours", "reason"), [(False, EndReason.DISK_LIMIT), (True, EndReason.PROVIDER_FAULT)])
def test_a_checkpoint_that_cannot_be_taken_in_is_told(work: Driven[Allocation], ours: bool, reason: EndReason) -> None:
    work.tell(RunExited(AT_CHECKPOINT))
    work.tell(OutputsStored(failed="more than 1000 output files", ours=ours))

    assert (ending(work).reason, ending(work).detail) == (reason, "more than 1000 output files")


def test_what_was_stopped_has_its_reason_and_its_checkpoint(work: Driven[Allocation]) -> None:
    work.tell(StopWished(EndReason.PROVIDER_STOPPED))
    work.tell(RunExited(msgspec.structs.replace(AT_CHECKPOINT, reason=EndReason.CANCELLED)))
    assert work.wanted(StoreOutputs)[0].task == msgspec.structs.replace(TASK, outputs=("state", "state/**"))

    work.tell(OutputsStored((FILE,)))

    assert (ending(work).reason, ending(work).exit_code) == (EndReason.PROVIDER_STOPPED, CHECKPOINT_EXIT)
    assert work.state.outputs == (FILE,)


def test_without_a_checkpoint_it_is_an_exit_code_like_any_other() -> None:
    plain = Driven(machine.decide, evolve, machine.next_deadline, Allocation())
    plain.tell(Opened(RESERVED, msgspec.structs.replace(TASK, checkpoint="", outputs=()), 10_000))
    plain.tell(RunStarted("handle"))
    plain.tell(RunExited(AT_CHECKPOINT))

    assert ending(plain) == AT_CHECKPOINT
