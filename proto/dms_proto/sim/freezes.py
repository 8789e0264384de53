"""What must hold of work that gives way: it stands still, is not billed for that, and who evicts it is not blamed.

Whoever has to give way moves no more as soon as its node has dealt with what it knows, and what need not moves · two seconds after the first sign of
the owner nothing moves on the machine · no time is billed in which the program did not move · what was evicted is tried again, and nobody is blamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dms_proto.allocation.freezing import Prior
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.ids import AllocationId
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.market.auction_freezes import BORNE_EVICTIONS
from dms_proto.market.auction_state import Auction
from dms_proto.market.offer_state import OfferBook
from dms_proto.sim.demands import demand
from dms_proto.work import EndReason

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode
    from dms_proto.sim.owners import Owner


def check(node: SimNode, owner: Owner) -> None:
    """Of a node that has dealt with all that it knows: what runs there moves, or stands still, as it should."""
    for run in node.machine.runs.values():
        allocation = node.states.get(run.allocation_id)
        if run.started_at < 0 or not isinstance(allocation, Allocation) or allocation.phase is not LifePhase.RUNNING:
            continue
        priors, stands_still = set(allocation.frozen.priors), run.frozen_at >= 0
        meant = _priors(node.book, run.allocation_id)
        demand(
            priors == meant,
            "whoever comes first is given way to",
            f"{node!r}: {run} gives way to {priors}, not {meant}",
        )
        demand(stands_still == bool(priors), "what gives way stands still", f"{node!r}: {run} gives way to {priors}")
        demand(stands_still or not owner.is_overdue, "the owner comes first", f"{node!r}: {run} moves")


def _priors(book: OfferBook, allocation_id: AllocationId) -> set[Prior]:
    """Who comes before an allocation, as the offer book has it."""
    owner = {Prior.OWNER} if book.owner is not None else set()
    return owner | {Prior.ONLINE} if allocation_id in book.frozen else owner


def check_bill(node: SimNode, after: Allocation, price: int) -> None:
    """No more is billed than the time in which it moved."""
    reservation = after.reservation
    assert reservation is not None
    billable_ms = node.machine.billable_ms(reservation.allocation_id)
    most = after.sizes.cost(reservation.tariff, reservation.resources, billable_ms)
    demand(price <= most, "a freeze is not billed", f"{node!r}: {price} for {billable_ms} ms of {reservation}")


def check_eviction(node: SimNode, event: AttemptEnded, before: Auction, after: Auction) -> None:
    """Whoever evicts is not blamed, and what was evicted is tried again."""
    was, now = before.slots[event.slot], after.slots[event.slot]
    is_borne = was.freezes.evictions < BORNE_EVICTIONS
    if event.ending.reason is not EndReason.EVICTED:
        return
    blame = (now.faults, now.failed_on) != (was.faults, was.failed_on)
    demand(not blame, "an eviction is nobody's fault", f"{node!r}: {event}")
    demand(event.final != is_borne, "what was evicted is tried again", f"{node!r}: {event}")
    demand(event.price == 0, "an eviction is not paid", f"{node!r}: {event}")
