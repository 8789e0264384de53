"""The owner of a simulated machine comes and goes, and unplugs it, as the watch of its node sees it.

::

    OwnerComes ──▶ looks, as by a real node, from the first sign of the owner until the machine is free again
                     │ dms_proto.owner_first
                     ▼
                   OwnerSeen ──▶ the node's offer book ──▶ what runs stands still, is evicted, goes on

The watch is part of the node's process: it dies with it, stands still with it, and begins anew with its next life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dms_proto.market.offer_state import OwnerSeen
from dms_proto.owner_first import LOOK_MS, Look, Presence, Rules, follow
from dms_proto.sim.clock import Clock
from dms_proto.sim.plan import OwnerComes
from dms_proto.units import CORE, SECOND

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode

RULES: Final = Rules(cpu_millicores=CORE, calm_ms=2 * SECOND)
"""What every simulated owner wants."""
GRACE_MS: Final = SECOND
WITHIN_MS: Final = 2 * SECOND
"""So long after the first sign of the owner, at most, nothing moves on the machine."""


class Owner:
    """The owner of one machine, and the watch of its node."""

    def __init__(self, node: SimNode, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._here: list[OwnerComes] = []
        self._presence = Presence()
        self._life = 0
        self._signs_since = 0
        self._looks = False

    @property
    def is_overdue(self) -> bool:
        """Whether the owner has been there for so long, under the eyes of the node, that nothing may move on the machine any more."""
        is_watched = bool(self._here) and self._node.life == self._life
        return is_watched and self._clock.now - self._signs_since >= WITHIN_MS

    def comes(self, fault: OwnerComes) -> None:
        """The owner begins to use the machine, or unplugs it."""
        if not self._here:
            self._signs_since = self._clock.now
        self._here.append(fault)
        self._clock.at(fault.until, self._here.remove, fault)
        if not self._looks:
            self._looks = True
            self._clock.after(-self._clock.now % LOOK_MS, self._look)

    def _look(self) -> None:
        node, now = self._node, self._clock.now
        if node.life != self._life:
            self._life, self._presence, self._signs_since = node.life, Presence(), now
        if node.frozen_until > now:
            self._signs_since = now
        elif node.up:
            self._follow(Look(now, self._used(), any(fault.unplugged for fault in self._here)))
        self._looks = bool(self._here or self._presence.because)
        if self._looks:
            self._clock.after(LOOK_MS, self._look)

    def _used(self) -> int:
        return sum(fault.cores for fault in self._here) * CORE

    def _follow(self, look: Look) -> None:
        before, self._presence = self._presence, follow(self._presence, look, RULES)
        if self._presence.because != before.because:
            evict_after_ms = min((fault.evict_after_ms for fault in self._here), default=0)
            self._node.feed("book", OwnerSeen(self._presence.because, evict_after_ms, GRACE_MS))
