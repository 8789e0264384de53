"""What the node does about a child that failed so often that it was given up: nothing stays promised, held or unsaid because of it.

A request gets its ending, since nobody else will write it. An allocation's run is killed, its capacity is free again, and its requester is
told that the fault is this node's, so that it moves on to the next.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from dms_actors.draft import Journal
from dms_actors.events import from_row
from dms_actors.shell import Shell, Turn
from dms_actors.world import World
from dms_proto.allocation.events import CLOSING, AllocationEnded, EndingUnclaimed
from dms_proto.errors import MachineError
from dms_proto.ids import AllocationId, RequestId
from dms_proto.market.auction_events import AttemptEnded, RequestEnded, ResultJudged
from dms_proto.market.offer_state import AllocationOver
from dms_proto.messages import AllocationStatus, Phase
from dms_proto.work import Ending, EndReason

log = logging.getLogger(__name__)

WHY: Final = "the part of this node that was in charge of it failed again and again; the node's log says why"
CAUSE: Final = "supervision"


def request(world: World, turn: Turn, request_id: RequestId, now: int) -> None:
    """Ends a request whose orchestrator was given up, unless it never began or is over."""
    world.orchestrators.remove(request_id)
    world.collector.forget(request_id)
    kinds = _kinds(world.journal, request_id)
    if "RequestOpened" in kinds and "RequestEnded" not in kinds:
        ended = RequestEnded(EndReason.RETRIES_EXHAUSTED, WHY, now, _spent(world.journal, request_id))
        turn.record(request_id, ended, CAUSE)


def allocation(world: World, turn: Turn, book: Shell[Any], allocation_id: AllocationId, now: int) -> None:
    """Kills the run of an allocation whose actor was given up, frees its capacity and tells its requester."""
    world.allocations.remove(allocation_id)
    world.workbench.stop(allocation_id, 0)
    kinds = _kinds(world.journal, allocation_id)
    ending = Ending(EndReason.PROVIDER_FAULT, detail=WHY)
    if "AllocationOpened" in kinds and not kinds & {kind.__name__ for kind in CLOSING}:
        if "AllocationEnded" not in kinds:
            turn.record(allocation_id, AllocationEnded(ending, (), (0, 0), 0, now), CAUSE)
        turn.record(allocation_id, EndingUnclaimed(), CAUSE)
    reservation = book.state.ledger.reservations.get(allocation_id)
    if reservation is not None:
        turn.apply(book, AllocationOver(allocation_id), now, CAUSE)
        number = list(Phase).index(Phase.ENDED)
        status = AllocationStatus(reservation.request_id, allocation_id, number, Phase.ENDED, ending=ending)
        world.post.send(reservation.requester, status, CAUSE)


def _kinds(journal: Journal, stream: str) -> set[str]:
    try:
        return {row.kind for row in journal.read_stream(stream)}
    except MachineError as error:
        log.error("%s was given up, and its events cannot be read: %s", stream, error)
        return set()


def _spent(journal: Journal, stream: str) -> int:
    """What its attempts cost. Not by way of the auction's state: folding that may be what failed."""
    spent = 0
    for row in journal.read_stream(stream):
        if row.kind not in (AttemptEnded.__name__, ResultJudged.__name__):
            continue
        match from_row(row):
            case AttemptEnded(price=price):
                spent += price
            case ResultJudged(wrong=wrong):
                spent -= sum(answer.price for answer in wrong)
    return spent
