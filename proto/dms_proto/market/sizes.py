"""What an allocation may use, where that changes while it runs; and what it costs then.

::

    REQUESTER                                              PROVIDER
    ResizeAsked: within budget and price?
      │ ResizeRequested written; may be owed: the new price
      ├──────────────── Resize, signed ────────────────────▶ offer book: theirs? free? allowed? paid for?   `offer_resizes`
      │                                                       │ ReservationWidened: holds the larger of before and after
      │                                                       ▼
      │                                                      allocation: SizeChanging ── SetSize ──▶ the limits of the run
      ◀──────────────── Resized, signed ─────────────────────┤ SizeChanged, or SizeKept with the reason
    AllocationResized: what is owed follows, in parts        └─▶ offer book: ReservationSettled; what is not needed is free

An answer names what it answers by `agreement.resize_digest`, so that both have signed one change. It is asked again until it is answered.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.capability import Price, Resources
from dms_proto.market.arithmetic import add
from dms_proto.messages import Clause, Resize, Resized
from dms_proto.units import GPU, format_bytes, format_cores, format_count

FIRST: Final = 1
"""Number of the first change of an allocation."""


class Part(msgspec.Struct, frozen=True):
    """A part of a run that is over: what was held, up to which time of the run in ms."""

    until_ms: int
    resources: Resources


class Sizes(msgspec.Struct, frozen=True):
    """How the size of an allocation has changed.

    Attributes:
        parts: of the run before the last change, oldest first.
        now: what is held since; None: what was agreed at first.
        changing: the change under way.
        to: at its provider, what it will hold by that change, GPUs with their devices.
        answer: to the last change that was asked for.
        before: at its requester, micro-credits that could be owed before the change under way.
    """

    parts: tuple[Part, ...] = ()
    now: Resources | None = None
    changing: Resize | None = None
    to: Resources | None = None
    answer: Resized | None = None
    before: int = 0

    @property
    def number(self) -> int:
        """Of the last change that was asked for; 0: none was."""
        last = self.changing or self.answer
        return last.number if last is not None else 0

    def changed(self, first: Resources, to: Resources, at_ms: int) -> Sizes:
        """After a change at `at_ms` of the run. `first`: what was agreed at first."""
        part = Part(max(at_ms, self.parts[-1].until_ms if self.parts else 0), self.now or first)
        return msgspec.structs.replace(self, parts=(*self.parts, part), now=to, changing=None, to=None)

    def cost(self, tariff: Price, first: Resources, wall_ms: int) -> int:
        """Micro-credits for a run of `wall_ms`: each part for what was held in it, rounded up, and the start fee once."""
        owed, since = tariff.start, 0
        for part in (*self.parts, Part(wall_ms, self.now or first)):
            until = min(part.until_ms, wall_ms)
            owed += tariff.cost(part.resources, max(0, until - since)) - tariff.start
            since = max(since, until)
        return owed


UNCHANGED: Final = Sizes()


def most_owed(before: int, tariff: Price, resources: Resources, wall_ms: int) -> int:
    """Micro-credits that may be owed at most after a change to `resources`, whenever it comes; `before`: without it."""
    return max(before, tariff.cost(resources, wall_ms))


def larger(one: Resources, other: Resources) -> Resources:
    """The larger of both in each dimension; the same GPUs in the same order."""
    gpus = tuple(
        msgspec.structs.replace(a, memory_bytes=max(a.memory_bytes, b.memory_bytes), milli=max(a.milli, b.milli))
        for a, b in zip(one.gpus, other.gpus, strict=True)
    )
    return Resources(
        max(one.cpu_millicores, other.cpu_millicores),
        max(one.memory_bytes, other.memory_bytes),
        max(one.disk_bytes, other.disk_bytes),
        gpus,
    )


def why_never(held: Resources, wanted: Resources) -> tuple[Clause, ...]:
    """What of a change no program that runs can follow; nothing, where it can. The same on both sides."""
    clauses = []
    if not wanted.cpu_millicores or not wanted.memory_bytes:
        clauses.append(Clause("size", "no cores or no memory", "a program that runs needs some of both"))
    if wanted.disk_bytes != held.disk_bytes:
        is_told = format_bytes(held.disk_bytes)
        clauses.append(Clause("disk", format_bytes(wanted.disk_bytes), f"{is_told}, as long as it runs", is_told))
    if len(wanted.gpus) != len(held.gpus) or any(not gpu.milli for gpu in wanted.gpus):
        has = str(len(held.gpus))
        clauses.append(
            Clause("gpu", format_count(len(wanted.gpus), "GPU"), "a program keeps the devices it was started with", has)
        )
    if any(gpu.milli < GPU and not gpu.memory_bytes for gpu in wanted.gpus):
        clauses.append(Clause("gpu_share", "a share", "it names no memory of the device", "the memory it may use"))
    return tuple(clauses)


def on_its_devices(held: Resources, wanted: Resources, registered: Resources) -> Resources:
    """What is wanted, on the devices that are held. A whole device has all its memory, and keeps its programs' names for it."""
    whole = {gpu.device: gpu for gpu in registered.gpus}
    gpus = tuple(
        msgspec.structs.replace(
            have,
            milli=want.milli,
            memory_bytes=whole.get(have.device, have).memory_bytes if want.milli == GPU else want.memory_bytes,
        )
        for have, want in zip(held.gpus, wanted.gpus, strict=True)
    )
    return msgspec.structs.replace(wanted, gpus=gpus)


def not_free(held: Resources, wanted: Resources, free: Resources) -> tuple[Clause, ...]:
    """What of a change does not fit into what is free beside the allocation."""
    room = add(held, free)
    clauses = []
    if wanted.cpu_millicores > room.cpu_millicores:
        has = format_cores(room.cpu_millicores)
        clauses.append(Clause("cpu", format_cores(wanted.cpu_millicores), f"{has} with what it has", has, passing=True))
    if wanted.memory_bytes > room.memory_bytes:
        has = format_bytes(room.memory_bytes)
        clauses.append(
            Clause("memory", format_bytes(wanted.memory_bytes), f"{has} with what it has", has, passing=True)
        )
    there = {gpu.device: gpu for gpu in room.gpus}
    for gpu in wanted.gpus:
        left = there.get(gpu.device, msgspec.structs.replace(gpu, milli=0, memory_bytes=0))
        if gpu.milli > left.milli or gpu.memory_bytes > left.memory_bytes:
            has = show_gpu(left.milli, left.memory_bytes)
            wants = show_gpu(gpu.milli, gpu.memory_bytes)
            clauses.append(Clause("gpu_share", wants, f"{has} of {gpu.device} with what it has", has, passing=True))
    return tuple(clauses)


def grows(held: Resources, wanted: Resources) -> bool:
    """Whether a change takes more of anything."""
    return larger(held, wanted) != held


def in_words(resources: Resources) -> str:
    """What is held, for people; the disk, which stays, left out."""
    gpus = (show_gpu(gpu.milli, gpu.memory_bytes) for gpu in resources.gpus)
    return ", ".join((format_cores(resources.cpu_millicores), f"{format_bytes(resources.memory_bytes)} memory", *gpus))


def show_gpu(milli: int, memory_bytes: int) -> str:
    """A share for people."""
    return f"{milli / GPU:g} of a GPU with {format_bytes(memory_bytes)}"
