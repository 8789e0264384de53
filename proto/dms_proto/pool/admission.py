"""Whether a new container fits, and which ones would have to go for it: decided by its real size before anything is created or evicted.

In this order::

    never fits the pool, or what others have reserved of it      refused for good, with the nearest size that would
    fits what is free                                            admitted
    what was evicted comes back too often                        refused for a while
    fits when the fewest go that the strategy would have go      admitted, and they go
    not even when all go that may                                refused, with what is in the way and when that may change

A refusal changes nothing. Nobody goes who need not: of those the strategy names, the ones that turn out not to be needed stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from dms_proto.capability import Capability, Resources
from dms_proto.market.arithmetic import clamp_subtract, fits_within, total_of
from dms_proto.market.comparison import compare
from dms_proto.market.gpus import assign_gpus
from dms_proto.messages import Clause
from dms_proto.pool.records import Container, ContainerId, ContainerPhase, Image
from dms_proto.pool.refusals import Code, InTheWay, Refusal
from dms_proto.pool.replacement import Seat, in_order, spared
from dms_proto.pool.state import Pool
from dms_proto.pool.thrash import settled_at, thrashes_until
from dms_proto.pool.tiers import hot_until, kept_for_others, tier_of
from dms_proto.units import MIB, format_count, format_millis


class Admitted(msgspec.Struct, frozen=True):
    """It fits. `size`: with the devices of its GPUs; `victims`: what goes for it; `spared`: whom the Clock's hand passed."""

    size: Resources
    victims: tuple[ContainerId, ...] = ()
    spared: tuple[ContainerId, ...] = ()


LEAST_BYTES: Final = MIB
"""Memory that a container counts for at least: no process takes less, and it bounds how many there can be."""
LEAVING: Final = frozenset({ContainerPhase.STOPPING})
"""Phases of containers whose capacity is free soon: others may be admitted in their place, and wait for it."""


def admit(pool: Pool, image: Image, tier: int, now: int) -> Admitted | Refusal:
    """What is to be done about one more container of an image, for a tier, at `now` (Unix ms)."""
    refused = _never(pool, image.size, tier)
    if refused is not None:
        return refused
    newcomer = _Newcomer(pool, image.size, tier)
    size = newcomer.fits()
    if size is not None:
        return Admitted(size)
    concerned = (each for each in pool.recreated if each.tier >= tier)
    until = thrashes_until(concerned, now, pool.rules.window_ms, pool.rules.recreations)
    if until:
        often = format_count(pool.rules.recreations, "container was", "containers were")
        why = f"{often} started anew after they had been evicted, within {format_millis(pool.rules.window_ms)}"
        return Refusal(Code.THRASHING, f"nothing is evicted for a while: {why}", wait_ms=until - now)
    return newcomer.replace(now)


def placed(size: Resources, room: Resources) -> Resources | None:
    """The size with devices for its GPUs, if it fits the room."""
    gpus = assign_gpus(size.gpus, room.gpus)
    if gpus is None:
        return None
    concrete = msgspec.structs.replace(size, gpus=gpus, memory_bytes=max(size.memory_bytes, LEAST_BYTES))
    return concrete if fits_within(concrete, room) else None


def room_beside(pool: Pool, staying: Sequence[Container], tier: int) -> Resources:
    """What is free for a tier beside those that stay."""
    free = clamp_subtract(pool.capacity, total_of(container.size for container in staying))
    return clamp_subtract(free, kept_for_others(pool.rules.reserved, staying, tier))


def obstacle(pool: Pool, container: Container, tier: int, now: int) -> InTheWay | None:
    """Why a container does not go for a newcomer of `tier`; None if it may."""
    if not container.is_idle:
        why = f"it has {format_count(len(container.calls), 'call')}" if container.calls else f"it is {container.phase}"
        return InTheWay(container.container_id, why)
    theirs, hot, settled = (
        tier_of(container, pool.virtual),
        hot_until(container, pool.rules.hot_ms),
        settled_at(container),
    )
    if now < hot and tier <= theirs:
        return InTheWay(
            container.container_id, f"it was used {format_millis(now - container.used_at)} ago by tier {theirs}", hot
        )
    if now < settled:
        return InTheWay(
            container.container_id, f"it has just started, which took {format_millis(container.start_ms)}", settled
        )
    return None


def seat_of(container: Container) -> Seat:
    """What the strategies know of a container."""
    tally = container.tally
    return Seat(
        container.container_id, container.number, container.position, tally.hits, tally.hit_at, container.referenced
    )


def _never(pool: Pool, size: Resources, tier: int) -> Refusal | None:
    """Refused for good: it would not fit if nothing else were there."""
    if placed(size, pool.capacity) is None:
        return Refusal(Code.TOO_LARGE, "it is larger than the pool", _clauses(size, pool.capacity))
    beside = room_beside(pool, (), tier)
    if placed(size, beside) is None:
        return Refusal(Code.RESERVED, "it is larger than what others have not reserved", _clauses(size, beside))
    return None


def _clauses(size: Resources, room: Resources, total: Resources | None = None) -> tuple[Clause, ...]:
    return compare(Capability(size), Capability(room), total=total).clauses


class _Newcomer:
    """A container that is wanted, beside those that are there."""

    def __init__(self, pool: Pool, size: Resources, tier: int) -> None:
        self._pool = pool
        self._size = size
        self._tier = tier
        self._staying = [each for each in pool.containers.values() if each.phase not in LEAVING]

    def room(self, gone: Sequence[ContainerId]) -> Resources:
        """What is free when these have gone."""
        staying = [each for each in self._staying if each.container_id not in gone]
        return room_beside(self._pool, staying, self._tier)

    def fits(self, gone: Sequence[ContainerId] = ()) -> Resources | None:
        """Its size with devices, if it fits when these have gone."""
        return placed(self._size, self.room(gone))

    def replace(self, now: int) -> Admitted | Refusal:
        """It takes the place of the first that the strategy would have go, as many as it needs."""
        obstacles = [obstacle(self._pool, each, self._tier, now) for each in self._staying]
        seats = [seat_of(each) for each, why in zip(self._staying, obstacles, strict=True) if why is None]
        gone: list[ContainerId] = []
        for seat in in_order(self._pool.rules.strategy, seats):
            gone.append(ContainerId(seat.name))
            if self.fits(gone) is not None:
                return self._admitted(self._fewest(gone), seats)
        return self._refused([each for each in obstacles if each is not None], gone, now)

    def _fewest(self, gone: list[ContainerId]) -> list[ContainerId]:
        """Without those that turn out not to be needed; the ones that the strategy would rather keep stay first."""
        for name in reversed(gone[:-1]):
            fewer = [each for each in gone if each != name]
            if self.fits(fewer) is not None:
                gone = fewer
        return gone

    def _admitted(self, gone: Sequence[ContainerId], seats: Sequence[Seat]) -> Admitted:
        size = self.fits(gone)
        assert size is not None, "it fits when those are gone that were found to be enough"
        passed = spared(self._pool.rules.strategy, seats, set(gone))
        return Admitted(size, tuple(gone), tuple(map(ContainerId, passed)))

    def _refused(self, in_the_way: Sequence[InTheWay], gone: Sequence[ContainerId], now: int) -> Refusal:
        why = "all that may go for it is not enough" if gone else "nothing may go for it"
        waits = [each.until - now for each in in_the_way if each.until]
        clauses = _clauses(self._size, self.room(gone), self._pool.capacity)
        return Refusal(Code.NO_ROOM, why, clauses, min(waits, default=0), tuple(in_the_way))
