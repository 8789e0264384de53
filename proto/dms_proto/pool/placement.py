"""Which container gets a call: the second step, after the market has found the machine.

1. A container is *excluded*, with the reason, when it takes no calls, too many wait for it already, or too many virtual containers point to it.
2. Every other one gets points: fewer calls before this one weigh most, then that the virtual container points to it already, then that few others
   do. All in integers, so that replaying a placement gives the same order.
3. The order is by score, then by age. Without any, a new container is wanted.

So an idle container goes before every busy one, and of busy ones the shortest queue wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from dms_proto.market import ranking
from dms_proto.pool.records import ContainerId, ContainerPhase

TERMS: Final = ("queue", "own", "room")
PER_CALL: Final = 100
"""Points that one call less before it is worth: more than both other terms together."""
OWN: Final = 50
ROOM: Final = 40
TAKING: Final = frozenset(
    {ContainerPhase.WAITING, ContainerPhase.STARTING, ContainerPhase.READY, ContainerPhase.UNKNOWN}
)
"""Phases in which a container may be given calls; they are delivered when it is ready."""


class Option(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container of the image that a call needs, as it stood.

    Attributes:
        number: its age among the containers of the pool: the lower, the older.
        phase: only a ready one works on calls at once.
        calls: at work and waiting.
        virtual: how many point to it.
        is_own: the virtual container of the call is one of them.
    """

    container_id: ContainerId
    number: int
    phase: ContainerPhase
    calls: int = 0
    virtual: int = 0
    is_own: bool = False


class Bounds(msgspec.Struct, frozen=True):
    """What one container takes: so many virtual ones pointing to it, so many calls."""

    virtual: int
    calls: int


class RankedContainer(msgspec.Struct, frozen=True):
    """A container in the order. `points`: per term of `TERMS`; `score` is their sum."""

    container_id: ContainerId
    score: int
    points: tuple[int, ...]
    reasons: tuple[str, ...]


class ExcludedContainer(msgspec.Struct, frozen=True):
    """A container that could not take the call, and why."""

    container_id: ContainerId
    why: str


class Placement(msgspec.Struct, frozen=True):
    """A choice with all that went into it.

    Attributes:
        options: the containers there were of the image.
        bounds: by which they were held.
        ranked: best first.
        excluded: oldest first.
    """

    options: tuple[Option, ...]
    bounds: Bounds
    ranked: tuple[RankedContainer, ...]
    excluded: tuple[ExcludedContainer, ...] = ()

    @property
    def chosen(self) -> ContainerId | None:
        """The container that gets the call; None: a new one is wanted."""
        return self.ranked[0].container_id if self.ranked else None

    def story(self, entry: RankedContainer) -> str:
        """``score 3290 = queue 3200 + own 50 + room 40``."""
        summands = " + ".join(f"{term} {points}" for term, points in zip(TERMS, entry.points, strict=True))
        return f"score {entry.score} = {summands}"


class Route(msgspec.Struct, frozen=True):
    """Both steps of a decision: which machine, by the requester's ranking; which container, by the provider's."""

    machine: ranking.Decision
    container: Placement

    @property
    def is_replayed(self) -> bool:
        """Whether both steps, computed again, give the same."""
        same_machine = ranking.replay(self.machine) == self.machine.ranking
        return same_machine and replay(self.container) == self.container


def place(options: Iterable[Option], bounds: Bounds) -> Placement:
    """Orders the containers of an image for one call."""
    seen = tuple(sorted(options, key=lambda option: option.number))
    ranked: list[tuple[int, RankedContainer]] = []
    excluded = []
    for option in seen:
        why = _why_not(option, bounds)
        if why:
            excluded.append(ExcludedContainer(option.container_id, why))
        else:
            ranked.append((option.number, _ranked(option, bounds)))
    ranked.sort(key=lambda each: (-each[1].score, each[0]))
    return Placement(seen, bounds, tuple(entry for _, entry in ranked), tuple(excluded))


def replay(placement: Placement) -> Placement:
    """The placement computed again from its record."""
    return place(placement.options, placement.bounds)


def _why_not(option: Option, bounds: Bounds) -> str:
    if option.phase not in TAKING:
        return f"it is {option.phase}"
    if option.calls >= bounds.calls:
        return f"it has {option.calls} calls, as many as it takes"
    if not option.is_own and option.virtual >= bounds.virtual:
        return f"{option.virtual} virtual containers point to it, as many as may"
    return ""


def _ranked(option: Option, bounds: Bounds) -> RankedContainer:
    ahead = _ahead(option)
    free = max(0, bounds.virtual - option.virtual)
    points = (PER_CALL * (bounds.calls - ahead), OWN * option.is_own, ROOM * free // bounds.virtual)
    return RankedContainer(option.container_id, sum(points), points, _reasons(option, bounds))


def _ahead(option: Option) -> int:
    """What is before a call: those that are there, and a start that has to be waited for."""
    return option.calls + (option.phase is not ContainerPhase.READY)


def _reasons(option: Option, bounds: Bounds) -> tuple[str, ...]:
    busy = f"{option.calls} before it" if option.calls else "idle"
    state = busy if option.phase is ContainerPhase.READY else f"{option.phase}, {option.calls} before it"
    places = f"{option.virtual} of {bounds.virtual} places taken"
    return (state, "its own", places) if option.is_own else (state, places)
