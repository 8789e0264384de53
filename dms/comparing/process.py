"""Asks a result comparator about two results, in a process of its own (`worker`) that is ended whatever it does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Final

import msgspec

from dms.comparing.installed import Installed
from dms.comparing.question import Question, Reply, Side
from dms_proto.units import GIB, SECOND, format_millis
from dms_proto.untrusted import read_json
from dms_proto.verification.comparing import Said

LONGEST_S: Final = 60
"""For two results. What takes longer is a fault of the comparator, or of a file that is made to take long."""
MOST_MEMORY: Final = 1 * GIB
_GRACE_S: Final = 5
"""For the start and the end of the process, which limits itself."""
_LATE: Final = (-signal.SIGALRM, -signal.SIGXCPU)


class Limits(msgspec.Struct, frozen=True):
    """What one comparison may use."""

    seconds: int = LONGEST_S
    memory_bytes: int = MOST_MEMORY


LIMITS: Final = Limits()


async def ask(comparator: Installed, *sides: Side, limits: Limits = LIMITS) -> Said:
    """Whether two results are the same, or why that cannot be said. Without results: whether the comparator can be made, which is then True."""
    question = Question(
        comparator.target, comparator.parameter, tuple(sys.path), limits.seconds, limits.memory_bytes, sides
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "dms.comparing"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    late = f"it took longer than {format_millis(limits.seconds * SECOND)}"
    try:
        async with asyncio.timeout(limits.seconds + _GRACE_S):
            line = await _answer(process, msgspec.json.encode(question))
            code = await process.wait() if not line else 0
    except TimeoutError:
        return late
    finally:
        await _end(process)
    try:
        reply = read_json(line, Reply)
    except msgspec.DecodeError:
        return late if code in _LATE else f"its process ended with {code} and without an answer"
    return reply.failed or reply.same


async def _answer(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert process.stdin is not None, "it was asked for"
    assert process.stdout is not None, "it was asked for"
    with suppress(ConnectionError):  # it has ended already
        process.stdin.write(question)
        await process.stdin.drain()
    process.stdin.close()
    with suppress(ValueError):  # no end of a line in sight
        return await process.stdout.readline()
    return b""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends it and whatever it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
