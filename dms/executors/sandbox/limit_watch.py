"""Watches the limits of one run that the kernel does not enforce: wall time, disk, output, and memory where there is no cgroup."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from dms.executors.disk_watch import DiskWatch
from dms.executors.limiter import Allowance, Reading
from dms.executors.sandbox import verdict
from dms_proto.work import EndReason

TICK_S: Final = 0.1
SAMPLE_S: Final = 1.0

Breach = Callable[[EndReason, str], None]
"""Called when a limit is broken, with the reason and its detail."""


class Watched(Protocol):
    """Whose figures are looked at: a limiter's group, a container."""

    def read(self) -> Reading:
        """Current figures; those that cannot be read are 0."""
        ...

    def processes(self) -> list[int]:
        """Process ids of the members, as seen by the node, as far as they are known."""
        ...


class LimitWatch:
    """Lives on the node's loop, from `start` to `stop`."""

    def __init__(self, group: Watched, poll_s: float, allowance: Allowance, directory: Path) -> None:
        """Watches nothing yet.

        Args:
            group: whose figures are looked at.
            poll_s: how often they have to be, for the limits to hold.
            allowance: the limits.
            directory: the job's.
        """
        self._group = group
        self._poll_s = poll_s
        self._allowance = allowance
        self._disk = DiskWatch(directory, allowance.disk_bytes)
        self._disk_check: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._ticks = 0
        self._on_breach: Breach
        self._on_sample: Callable[[Reading], None]

    def start(self, age_s: float, on_breach: Breach, on_sample: Callable[[Reading], None]) -> None:
        """Begins.

        Args:
            age_s: seconds the run has been going on already.
            on_breach: called at most a few times, each time a limit is found broken.
            on_sample: called about once a second with the run's figures.
        """
        self._on_breach, self._on_sample = on_breach, on_sample
        loop = asyncio.get_running_loop()
        self._timers = [self._wall_timer(age_s), loop.call_later(TICK_S, self._on_tick)]

    def freeze_clock(self) -> None:
        """The wall time stands still. Idempotent."""
        if self._timers:
            self._timers[0].cancel()

    def thaw_clock(self, age_s: float) -> None:
        """The wall time goes on, after so many seconds of it."""
        if self._timers:
            self._timers[0].cancel()
            self._timers[0] = self._wall_timer(age_s)

    def allow(self, allowance: Allowance) -> None:
        """From now on the run may use this much. The wall time and the disk stay."""
        self._allowance = allowance

    def check_output(self, written: int) -> None:
        """Looks at how much was written to stdout and stderr together."""
        if written > self._allowance.log_bytes:
            self._on_breach(EndReason.OUTPUT_LIMIT, verdict.over_output(self._allowance, written))

    async def check_left(self) -> None:
        """Looks at what a run that is over has left: a quick one writes as it likes between two looks."""
        used = await asyncio.to_thread(self._disk.measure, [])
        if used > self._allowance.disk_bytes:
            self._on_breach(EndReason.DISK_LIMIT, verdict.over_disk(self._allowance, used))

    def stop(self) -> None:
        """Watches no more. Idempotent."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _wall_timer(self, age_s: float) -> asyncio.TimerHandle:
        left_s = max(0.0, self._allowance.wall_ms / 1000 - age_s)
        return asyncio.get_running_loop().call_later(left_s, self._on_wall_time)

    def _on_wall_time(self) -> None:
        self._on_breach(EndReason.WALL_TIME, verdict.over_time(self._allowance))

    def _on_tick(self) -> None:
        self._ticks += 1
        self._timers[1] = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)
        is_sample_due = self._ticks % round(SAMPLE_S / TICK_S) == 0
        if is_sample_due or self._poll_s <= TICK_S:
            reading = self._group.read()
            if reading.oom_kills:
                self._on_breach(EndReason.OUT_OF_MEMORY, verdict.over_memory(self._allowance, reading))
            if is_sample_due:
                self._on_sample(reading)
        if (self._disk_check is None or self._disk_check.done()) and self._disk.is_due():
            self._disk_check = asyncio.get_running_loop().create_task(self._check_disk())

    async def _check_disk(self) -> None:
        used = await asyncio.to_thread(self._disk.measure, self._group.processes())
        if used > self._allowance.disk_bytes and self._timers:
            self._on_breach(EndReason.DISK_LIMIT, verdict.over_disk(self._allowance, used))
