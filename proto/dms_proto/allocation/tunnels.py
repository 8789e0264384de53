"""Who is let in to what runs here: the requester of the agreement, while it runs, to what the task declares. Pure.

Anybody else hears the same, whether there is such an allocation or not. The peer is proven by the connection, so nothing here is signed.
"""

from __future__ import annotations

from dms_proto.allocation.machine import Allocation, LifePhase
from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.tunnels import Opening, Target, check_target, read_target


def admitted(allocation: Allocation | None, peer: PeerId, opening: Opening) -> Target:
    """What a peer is let in to.

    Args:
        allocation: the one that the opening names, if this node has it.
        peer: who asks, proven.
        opening: what it asks for.

    Raises:
        UserError: `not_found`, `not_running`, `bad_argument`.
    """
    if allocation is None or allocation.reservation is None or allocation.reservation.requester != peer:
        raise UserError("not_found", f"nothing of yours runs here as {opening.allocation_id}")
    if allocation.phase is not LifePhase.RUNNING or allocation.task is None:
        raise UserError("not_running", f"{opening.allocation_id} is {allocation.phase.value}, not running")
    target = read_target(opening.target)
    check_target(target, allocation.task)
    return target
