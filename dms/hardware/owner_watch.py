"""Looks twice a second whether the machine's owner uses it (`dms_proto.owner_first`), and tells when that changes.

A look costs about a millisecond: it reads the machine's counters and those of our own processes, as the monitor does, the state of the battery, and
where the owner wants that, when somebody last typed in a terminal. Lives on the node's asyncio loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from dms.hardware.own_use import OwnUse, own_use
from dms.hardware.stat import CpuTicks, read_ticks
from dms_proto.owner_first import LOOK_MS, Look, Presence, Rules, follow

TERMINALS: Final = ("pts/[0-9]*", "tty[1-9]*")
log = logging.getLogger(__name__)


class OwnerWatch:
    """Looks until it is stopped, and calls `on_change` with the reason when the machine becomes the owner's, with nothing when it is free again."""

    def __init__(
        self,
        rules: Rules,
        on_change: Callable[[str], None],
        *,
        adopted: Callable[[], Collection[int]] = tuple,
        devices: Path = Path("/dev"),
    ) -> None:
        """Looks at nothing yet.

        Args:
            rules: what the owner wants.
            on_change: called on the loop.
            adopted: processes of ours that are not below this one.
            devices: where the terminals are.
        """
        self._rules = rules
        self._on_change = on_change
        self._adopted = adopted
        self._devices = devices
        self._before: tuple[CpuTicks, OwnUse] | None = None
        self._task: asyncio.Task[None] | None = None
        self.presence = Presence()
        """What was seen last."""

    def start(self) -> None:
        """Begins to look on the running loop."""
        assert self._task is None, "it is watched already"
        self._task = asyncio.create_task(self._run(), name="owner watch")

    async def stop(self) -> None:
        """Ends looking. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def check(self) -> None:
        """Looks once."""
        look = Look(
            at=int(time.monotonic() * 1000),
            others_millicores=self._others() if self._rules.cpu_millicores else 0,
            unplugged=self._rules.on_battery and is_unplugged(),
            idle_ms=idle_ms(self._devices) if self._rules.at_keys else None,
        )
        before, self.presence = self.presence, follow(self.presence, look, self._rules)
        if self.presence.because != before.because:
            self._on_change(self.presence.because)

    async def _run(self) -> None:
        while True:
            try:
                self.check()
            except OSError as error:
                log.warning("whether the owner uses the machine could not be seen: %s", error)
            await asyncio.sleep(LOOK_MS / 1000)

    def _others(self) -> int:
        """CPU that was used since the look before, and not by us."""
        ticks, own = read_ticks(), own_use({os.getpid(), *self._adopted()})
        before, self._before = self._before, (ticks, own)
        if before is None or (passed := ticks - before[0]).total == 0:
            return 0
        others = max(0, passed.busy - own.ticks_since(before[1]))
        return round(1000 * (os.cpu_count() or 1) * others / passed.total)


def is_unplugged() -> bool:
    """Whether the machine runs on its battery; False where it has none, or does not say."""
    import psutil  # noqa: PLC0415 - 40 ms that commands which never ask need not pay

    battery = psutil.sensors_battery()
    return battery is not None and battery.power_plugged is False


def idle_ms(devices: Path) -> int | None:
    """How long ago somebody last typed in a terminal, as `w` tells it: to about 8 s, the kernel says no more; None without terminals."""
    typed = []
    for pattern in TERMINALS:
        for terminal in devices.glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                typed.append(terminal.stat().st_atime)
    return max(0, int((time.time() - max(typed)) * 1000)) if typed else None
