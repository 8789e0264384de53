"""alloc.*: one run of a task, on whichever side of it this node stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from dms.rpc.registry import method
from dms_proto.capability import Resources
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId
from dms_proto.messages import Phase
from dms_proto.rules import Amount, GpuShare
from dms_proto.work import Ending, Output, Owner, Task, Usage

MAX_LOG_CHUNK = 1024 * 1024
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
ChunkBytes = Annotated[int, msgspec.Meta(ge=1, le=MAX_LOG_CHUNK)]


class Side(StrEnum):
    """Which part this node has in something."""

    PROVIDER = "provider"
    REQUESTER = "requester"
    BOTH = "both"


class AllocationParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An allocation.

    Attributes:
        allocation_id: its id, or a unique beginning of it.
    """

    allocation_id: str


class AllocationView(msgspec.Struct, frozen=True):
    """An allocation.

    Attributes:
        allocation_id: its id.
        request_id: the job it belongs to.
        bid_id: the bid it was committed under.
        slot: index of the job's count.
        side: this node's part: provider or requester; both when it is its own provider.
        provider: the node that runs it.
        requester: the node it runs for.
        phase: where it is in its life.
        task: what it runs.
        started_at: Unix ms; 0 before it runs.
        ended_at: Unix ms; 0 before the end.
        usage: so far.
        price: micro-credits owed so far.
        ending: how it ended; None before the end.
        owner: whose doing the end was; None before it, or when it completed.
        outputs: files it left, with the end.
        log_bytes: length of (stdout, stderr) so far.
        disputed: where the requester's receipt does not say what the provider's status said; empty while both agree.
        frozen: why it stands still; empty while it does not.
        frozen_since: Unix ms since which it stands still, at its requester since it heard of it; 0 while it does not.
    """

    allocation_id: AllocationId
    request_id: RequestId
    bid_id: BidId
    slot: int
    side: Side
    provider: PeerId
    requester: PeerId
    phase: Phase
    task: Task
    started_at: int = 0
    ended_at: int = 0
    usage: Usage = Usage()
    price: int = 0
    ending: Ending | None = None
    owner: Owner | None = None
    outputs: tuple[Output, ...] = ()
    log_bytes: tuple[int, int] = (0, 0)
    disputed: str = ""
    frozen: str = ""
    frozen_since: int = 0


class AllocationListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which allocations.

    Attributes:
        side: those this node provides, those it asked for, or both.
        active: only those that have not ended.
        limit: at most so many, newest first.
    """

    side: Side = Side.BOTH
    active: bool = False
    limit: Limit = 100


class AllocationList(msgspec.Struct, frozen=True):
    """Allocations.

    Attributes:
        allocations: newest first.
        total: how many match, shown or not.
    """

    allocations: tuple[AllocationView, ...]
    total: int


class AllocationLogParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of an allocation's log.

    Attributes:
        allocation_id: its id, or a unique beginning of it.
        stream: "stdout" or "stderr".
        offset: first byte wanted.
        limit: at most so many bytes.
        since: Unix ms; only what came here then or later, to the second. 0: all.
    """

    allocation_id: str
    stream: Annotated[str, msgspec.Meta(pattern="^std(out|err)$")] = "stdout"
    offset: Amount = 0
    limit: ChunkBytes = MAX_LOG_CHUNK
    since: Amount = 0


class AllocationReadParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a log that another node keeps.

    Attributes:
        peer: the node that ran it, or that asked for it: its name, or the beginning or end of its PeerID.
        allocation_id: its whole id.
        stream: "stdout" or "stderr".
        offset: first byte wanted.
    """

    peer: str
    allocation_id: str
    stream: Annotated[str, msgspec.Meta(pattern="^std(out|err)$")] = "stdout"
    offset: Amount = 0


class LogPart(msgspec.Struct, frozen=True):
    """Bytes of a log.

    Attributes:
        data: base64 in JSON.
        offset: of the first byte of `data`.
        next_offset: where to go on.
        complete: nothing will follow.
        missing: bytes just before `data`, or at the end, that were written and did not arrive here, and will not.
        attempt: of a job's log, number of the try that it is of; when it grows, another log begins. 0: none yet.
        goes_on: of a job's log: that try has begun with the checkpoint of an earlier one.
    """

    data: bytes
    offset: int
    next_offset: int
    complete: bool
    missing: int = 0
    attempt: int = 0
    goes_on: bool = False


class CancelResult(msgspec.Struct, frozen=True):
    """What cancelling did.

    Attributes:
        id: of the job or allocation.
        cancelled: it was running or waiting, and will end as cancelled.
        already_over: it had ended before.
        job: what becomes of the job an allocation belongs to, in words.
    """

    id: str
    cancelled: bool
    already_over: bool = False
    job: str = ""


class ResizeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an allocation of ours is to hold from now on; what is left out stays.

    Attributes:
        allocation_id: its id or a unique beginning of it, or of the job of which it is the only one that runs.
        cpu_millicores: thousandths of a core.
        memory_bytes: main memory.
        gpu_milli: thousandths of each of its GPUs.
        gpu_memory_bytes: memory of each of its GPUs.
    """

    allocation_id: str
    cpu_millicores: Amount | None = None
    memory_bytes: Amount | None = None
    gpu_milli: GpuShare | None = None
    gpu_memory_bytes: Amount | None = None


class ResizeResult(msgspec.Struct, frozen=True):
    """What an allocation holds now.

    Attributes:
        allocation_id: its id.
        resources: what it holds.
        at_ms: time of its run at which that began.
        price: micro-credits that may be owed for it at most.
    """

    allocation_id: AllocationId
    resources: Resources
    at_ms: int
    price: int


class AllocationMethods(Protocol):
    """Allocations: those this node runs for others and those others run for it."""

    @method("alloc.list")
    async def alloc_list(self, params: AllocationListParams) -> AllocationList:
        """Allocations this node has a part in."""
        ...

    @method("alloc.show")
    async def alloc_show(self, params: AllocationParams) -> AllocationView:
        """One allocation in full."""
        ...

    @method("alloc.logs")
    async def alloc_logs(self, params: AllocationLogParams) -> LogPart:
        """Part of what an allocation wrote, as far as it has arrived here."""
        ...

    @method("alloc.read", mutates=True)
    async def alloc_read(self, params: AllocationReadParams) -> LogPart:
        """Part of what a job of another node wrote, from a node that lets this one read it: see `access.logs`. Without data: that is all so far."""
        ...

    @method("alloc.resize", mutates=True)
    async def alloc_resize(self, params: ResizeParams) -> ResizeResult:
        """Lets an allocation of this node's own hold more, or less, while it runs on.

        Its provider gives what is free there. What is owed follows, in parts: each for what was held in it. Refused, by this node or by the provider,
        as `resize_refused` with the reason; then it holds what it held. `resize_unanswered` after 20 s without an answer, or while another change is
        under way: the provider is asked again, and may yet give it.
        """
        ...

    @method("alloc.cancel", mutates=True)
    async def alloc_cancel(self, params: AllocationParams) -> CancelResult:
        """Stops an allocation.

        On the provider's side it ends as provider_stopped, which counts against the provider, and its requester tries another node. On the
        requester's side it ends as cancelled and is not tried elsewhere; the job's other allocations go on, and when they are done the job ends
        as cancelled, since not all of it was done. Of an allocation on both sides the requester's word counts.
        """
        ...
