"""Who is let in to what runs here, while it runs. Pure.

The requester of the agreement is, to what the task declares; siblings are, by the requester's word, to its ports; and who has the right `exec` is, to
run commands beside it, where the task allows that.
Anybody else hears the same, whether there is such an allocation or not. The peer is proven by the connection, so nothing here is signed.
"""

from __future__ import annotations

from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.errors import UserError
from dms_proto.grants.access import NOTHING_SHOWN, Access, Credential, refusals
from dms_proto.grants.rights import EXEC
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.tunnels import Opening, Target, check_target, is_order, leads_to_port, read_target
from dms_proto.work import ExecBy


class CommandAdmitted(Event, frozen=True):
    """A command was let in to be run beside the job, for `by`."""

    by: PeerId
    words: tuple[str, ...]
    at: int


def admitted(
    allocation: Allocation | None,
    peer: PeerId,
    opening: Opening,
    shown: Credential | None = NOTHING_SHOWN,
    *,
    is_sibling: bool = False,
) -> Target:
    """What a peer is let in to.

    Args:
        allocation: the one that the opening names, if this node has it.
        peer: who asks, proven.
        opening: what it asks for.
        shown: what it has shown of its rights; None: its owner is this node's, and it needs none.
        is_sibling: whether it asks for an allocation of its own that the requester calls a sibling of this one. Who asks for one
            has no right of its own in it: where that leads was said by somebody else.

    Raises:
        UserError: `not_found`, `not_running`, `bad_argument`.
    """
    may_ask = is_sibling if opening.caller else _may_ask(allocation, peer, opening, shown)
    if allocation is None or not may_ask:
        raise UserError("not_found", f"nothing of yours runs here as {opening.allocation_id}")
    if allocation.phase is not LifePhase.RUNNING or allocation.task is None:
        raise UserError("not_running", f"{opening.allocation_id} is {allocation.phase.value}, not running")
    target = read_target(opening.target, opening.order)
    check_target(target, allocation.task)
    return target


def takes_grants(allocation: Allocation | None, opening: Opening) -> bool:
    """Whether it matters what is shown: for commands alone, where the task lets others than its requester run them."""
    task = allocation.task if allocation is not None else None
    return task is not None and task.exec is ExecBy.GRANTED and is_order(opening)


def asks_as_sibling(allocation: Allocation | None, opening: Opening) -> bool:
    """Whether it matters who is a sibling: for the ports of a task that has names."""
    task = allocation.task if allocation is not None else None
    return task is not None and bool(task.names.count and opening.caller) and leads_to_port(opening)


def _may_ask(allocation: Allocation | None, peer: PeerId, opening: Opening, shown: Credential | None) -> bool:
    if allocation is None or allocation.reservation is None:
        return False
    if allocation.reservation.requester == peer:
        return True
    if not takes_grants(allocation, opening):
        return False
    return shown is None or not any(refusals(Access.AUTHORISED, ({"kind": EXEC},), shown))
