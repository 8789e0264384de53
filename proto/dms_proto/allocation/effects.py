"""What an allocation wants done at its provider. What is done for its giving way: `freezing`; for another size: `resizing`."""

from __future__ import annotations

from dms_proto.ids import AllocationId, PeerId
from dms_proto.machine import Effect
from dms_proto.work import Task


class FetchInputs(Effect, frozen=True):
    """Get and verify the task's inputs, lay them out; then say `InputsArrived`."""

    requester: PeerId
    task: Task


class Execute(Effect, frozen=True):
    """Run the task; then say `RunStarted`, `RunUsed` …, `RunExited`."""

    task: Task


class StopRun(Effect, frozen=True):
    """Stop the run, killing it after the grace; `RunExited` follows."""

    grace_ms: int


class StoreOutputs(Effect, frozen=True):
    """Take logs into the blob store, and what the task's `outputs` name: of a run that is to go on, its checkpoint. Then say `OutputsStored`."""

    task: Task | None


class FreeCapacity(Effect, frozen=True):
    """Tell the offer book that the reservation is over."""

    allocation_id: AllocationId


class Close(Effect, frozen=True):
    """The allocation's directory and outputs may be removed; the actor ends."""
