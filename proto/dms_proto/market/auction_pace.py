"""When something is due of an allocation: its first word, its start, its end. In milliseconds, as the requester waits for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dms_proto.checkpoints import going_on
from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS
from dms_proto.images import PULL_MS, Pull
from dms_proto.market.auction_state import Auction, OpenBid, Slot, terms_of
from dms_proto.messages import Phase
from dms_proto.units import MINUTE
from dms_proto.work import Task, input_bytes

ACK_DOUBLINGS: Final = 3
"""So often the time for an answer to a commit doubles at most: from half a second to four."""
NUDGE_MS: Final = (2_000, 3_000, 5_000, 5_000)
"""Pauses after which an allocation of which nothing is heard since its commit is asked where it stands; after the last one it is given up."""
NEWCOMER_NUDGE_MS: Final = (1_000, 2_000)
"""The same at a provider that has finished nothing for this node yet. It has no credit, and nothing is known to run that could be lost."""
OVERDUE_MS: Final = 2 * MINUTE
"""Beyond its limits, an allocation may take this long for everything around its run."""
START_WITHIN_MS: Final = 10_000
"""Whoever holds capacity has the program running so soon after the commit, beside fetching its inputs: that is what holding means."""
NOT_STARTED_MS: Final = 3 * START_WITHIN_MS
"""Whoever has not by then will not."""


def ack_ms(auction: Auction, winners: Iterable[OpenBid]) -> int:
    """How long winners may be silent: as long as they are known to take, and twice as long each time one was silent in this request.

    Whoever answers too late has held capacity for nothing, and the next round makes more work for a busy machine. A newcomer gets no more than the
    least, since its silence costs it nothing; so does whoever is taken together with one.
    """
    return min(_ack_ms(auction, bid) for bid in winners)


def _ack_ms(auction: Auction, winner: OpenBid) -> int:
    least_ms = terms_of(auction).ack_timeout_ms
    if winner.facts.is_newcomer:
        return least_ms
    doubled = least_ms << min(ACK_DOUBLINGS, auction.silences.get(winner.provider, 0))
    return min(max(doubled, winner.facts.answers_ms), least_ms << ACK_DOUBLINGS)


def nudge_pauses(slot: Slot) -> tuple[int, ...]:
    """How long something is to be heard of a slot since its commit, time and again, in milliseconds."""
    return NEWCOMER_NUDGE_MS if slot.is_newcomer else NUDGE_MS


def overdue_at(auction: Auction, slot: Slot, phase: Phase) -> int:
    """When an allocation that has said it is at work must have started, or ended, whatever it says; 0 while it has not.

    Its inputs, its run and its outputs take their time.
    """
    if phase is Phase.COMMITTED:
        return 0
    task = going_on(terms_of(auction).task, slot.checkpoint)
    ready = slot.held_since + fetching_ms(task)
    if phase is Phase.PREPARING:
        return ready + NOT_STARTED_MS + slot.freezes.borne_ms
    return ready + task.limits.wall_ms + task.limits.grace_ms + OVERDUE_MS + slot.freezes.borne_ms


def late_ms(auction: Auction, slot: Slot) -> int:
    """How much later than it should have a slot's program began to run, in milliseconds; 0 where it did not, or nothing was heard of it."""
    task = going_on(terms_of(auction).task, slot.checkpoint)
    due = slot.held_since + fetching_ms(task) + START_WITHIN_MS
    return max(0, slot.started_at - due) if slot.held_since else 0


def fetching_ms(task: Task) -> int:
    """How long fetching a task's inputs, and its image, may take."""
    pulling = PULL_MS if task.image and task.pull is not Pull.NEVER else 0
    return input_bytes(task) // SLOWEST_BYTES_PER_MS + pulling
