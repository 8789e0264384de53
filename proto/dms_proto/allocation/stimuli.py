"""What an allocation meets at its provider. What is said of giving way: `freezing`; of another size: `resizing`."""

from __future__ import annotations

from dms_proto.allocation.events import Fetched
from dms_proto.egress import Barred
from dms_proto.ids import PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.ledger import Reservation
from dms_proto.messages import Receipt
from dms_proto.work import NO_LOGS, Ending, EndReason, Logs, Output, Task, Usage


class Opened(Stimulus, frozen=True):
    """A commit reserved capacity; `task` if it carried the invocation."""

    reservation: Reservation
    task: Task | None
    invoke_within_ms: int


class Invoked(Stimulus, frozen=True):
    """An invocation from `requester`, for an allocation of its request. Repeating it asks for the status.

    `missing`: the right to it that was not shown, in words. What has begun goes on without.
    """

    requester: PeerId
    request_id: RequestId
    task: Task
    missing: str = ""


class InputsArrived(Stimulus, frozen=True):
    """All inputs are here and verified; or (`failed` non-empty) they are not. `ours`: it is this node that failed, not who has them.

    `fetched`: bytes of each node that served them; nothing of what was here before.
    """

    failed: str = ""
    ours: bool = False
    fetched: Fetched = ()


class RunStarted(Stimulus, frozen=True):
    """The executor has started it; `handle` finds it again after a restart of the node."""

    handle: str


class RunUsed(Stimulus, frozen=True):
    """Cumulative use so far."""

    usage: Usage


class RunBarred(Stimulus, frozen=True):
    """A connection of it to elsewhere was refused. After a restart of the node it comes again."""

    barred: Barred


class RunExited(Stimulus, frozen=True):
    """Nothing of it runs any more. `logs`: what it has written."""

    ending: Ending
    logs: Logs = NO_LOGS


class OutputsStored(Stimulus, frozen=True):
    """What it left is in the blob store; or could not be taken (`failed`). `ours`: it is this node that failed, not what was left."""

    outputs: tuple[Output, ...] = ()
    logs: Logs = NO_LOGS
    failed: str = ""
    ours: bool = False


class CancelHeard(Stimulus, frozen=True):
    """A node wants an allocation of its request stopped."""

    by: PeerId
    request_id: RequestId


class StopWished(Stimulus, frozen=True):
    """This node wants it stopped: for its owner, or because nobody waits for it any more. `reason` says which."""

    reason: EndReason


class ReceiptHeard(Stimulus, frozen=True):
    """`requester` has the ending, and states what it owes."""

    requester: PeerId
    receipt: Receipt


class RequesterGone(Stimulus, frozen=True):
    """The requester cannot be reached."""


class RequesterBack(Stimulus, frozen=True):
    """The requester can be reached again."""


class NodeRestarted(Stimulus, frozen=True):
    """The node process is new. `adopted`: the run was found alive and is being watched again."""

    adopted: bool
