"""What one container writes, brought from its engine, which keeps it, to who follows the run, each byte once."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Final

from dms.executors.oci import faults
from dms.executors.oci.engine import Engine, EngineError
from dms.executors.sandbox.limit_watch import LimitWatch
from dms_actors.ports import ExecutorEvent, LogChunk

_logger: Final = logging.getLogger(__name__)

CHUNK: Final = 64 * 1024
"""Most bytes in one LogChunk."""
LAST_OUTPUT_S: Final = 10.0
"""How long after its end a container's output may still be on its way."""
LAST_READS: Final = 20
READ_SHARE: Final = 20
"""Reading everything again takes at most one part in this many of the time."""
RETRY_S: Final = 0.5


class Output:
    """Of one container. Lives on the node's loop.

    Attributes:
        held: what may be no output at all, but the complaint of the engine's first process: kept back until more comes.
    """

    def __init__(
        self, engine: Engine, limits: LimitWatch, events: asyncio.Queue[ExecutorEvent], most: int, *, follows: bool
    ) -> None:
        """Reads nothing yet.

        Args:
            engine: whose container it is.
            limits: are told how much there is.
            events: where it goes, at the pace of who takes it.
            most: bytes that are passed on.
            follows: whether the engine's output can be followed; else it is read again and again.
        """
        self.held = b""
        self._engine = engine
        self._limits = limits
        self._events = events
        self._most = most
        self._follows = follows
        self._container = ""
        self._idle_since = 0.0
        self._passed = {"stdout": 0, "stderr": 0}

    async def read(self, container: str) -> None:
        """Passes on what it writes, within the limit, until there is no more; begins again where the engine broke off.

        An engine that cannot be followed is asked for everything again and again, ever less often the longer that takes.
        """
        self._container = container
        while True:
            began = time.monotonic()
            if await self._read_once(follow=self._follows) and self._follows:
                return
            await asyncio.sleep(max(RETRY_S, READ_SHARE * (time.monotonic() - began)))

    async def drain(self, reading: asyncio.Task[None]) -> None:
        """Waits for the rest, once it is over. Then it is asked for once more: engines lose the last of what they were following."""
        while self._follows and not (await asyncio.wait({reading}, timeout=1.0))[0]:
            if time.monotonic() - self._idle_since > LAST_OUTPUT_S:
                break
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        for _ in range(LAST_READS):
            if await self._read_once(follow=False):
                return
            await asyncio.sleep(RETRY_S)

    async def give_held(self) -> None:
        """It was output after all."""
        held, self.held = self.held, b""
        await self._pass_on("stderr", held)

    async def _read_once(self, *, follow: bool) -> bool:
        """Passes on what was not passed on yet. False: the engine broke off."""
        seen = dict.fromkeys(self._passed, 0)
        try:
            self._idle_since = time.monotonic()
            async for stream, data in self._engine.output(self._container, follow=follow):
                self._idle_since = math.inf
                known = self._passed[stream] + (len(self.held) if stream == "stderr" else 0)
                fresh = data[max(0, known - seen[stream]) :]
                seen[stream] += len(data)
                if fresh:
                    await self._take(stream, fresh)
                self._idle_since = time.monotonic()
        except EngineError as error:
            _logger.warning("container %s: its output broke off: %s", self._container, error)
            return False
        return True

    async def _take(self, stream: str, data: bytes) -> None:
        whole = self.held + data
        if stream == "stderr" and not any(self._passed.values()) and faults.may_be_from_init(whole):
            self.held = whole  # it may come in parts
            return
        if self.held:
            await self.give_held()
        await self._pass_on(stream, data)

    async def _pass_on(self, stream: str, data: bytes) -> None:
        written = sum(self._passed.values())
        self._limits.check_output(written + len(data))
        data = data[: max(0, self._most - written)]
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            await self._events.put(LogChunk(stream, self._passed[stream], part))
            self._passed[stream] += len(part)
