"""Works out the answers of spot checks, one at a time, in a process of its own that takes only what nothing else on this machine wants."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dms.node.hands import Hands
from dms_actors.loop_calls import LoopCalls
from dms_proto.ids import Digest
from dms_proto.verification.spot_work import answer_in, arguments

log = logging.getLogger(__name__)
_LOWEST: Final = 19


class SpotAnswers(Hands):
    """Implements `dms_actors.world.WorkOut`, by `work_out`. What is under way when the node ends is forgotten, with its check."""

    def __init__(self, calls: LoopCalls) -> None:
        super().__init__(calls)
        self._turn = asyncio.Lock()

    def work_out(self, seed: bytes, rounds: int, then: Callable[[Digest], None]) -> None:
        """See `WorkOut`."""
        self.start(lambda: self._work_out(seed, rounds, then), "answer of a spot check")

    async def _work_out(self, seed: bytes, rounds: int, then: Callable[[Digest], None]) -> None:
        async with self._turn:
            printed = await _run((sys.executable, *arguments(seed, rounds)))
        if printed:
            then(answer_in(printed))


async def _run(command: tuple[str, ...]) -> bytes:
    """What a program printed; nothing if it failed. Cancelled, it is killed."""
    devnull = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=devnull, stdout=asyncio.subprocess.PIPE)
    try:
        with suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST)
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("a spot check is not sent: working out its answer ended with %d", process.returncode)
    return printed if not process.returncode else b""
