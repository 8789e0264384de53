"""One worker that is held: a tunnel to it, calls out, answers in, in order.

A worker does one call after the other. Where calls are short, the way there and back takes longer than they do; so some are sent ahead, as many as
it is thought to do in a moment. Where they are long none is: another worker may be free sooner.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

import cloudpickle
import msgspec

from dms.calls import worker
from dms.client.calls import Call
from dms.rpc.async_client import OpenTunnel
from dms_proto.untrusted import read_json

HELLO_S: Final = 30.0
"""Seconds in which a worker has to say what it is: it may still be starting."""
AHEAD_S: Final = 0.02
"""Calls are sent ahead for so long a time."""
MOST_AHEAD: Final = 32
AHEAD_BYTES: Final = 1 << 20
"""No more is sent ahead than that."""
WEIGHT: Final = 0.2
"""Of the last call, in what a call is thought to take."""


class Hello(msgspec.Struct, frozen=True):
    """What a worker says first.

    Attributes:
        version: of the format of calls.
        python: minor version, such as "3.11".
        implementation: of Python.
        cloudpickle: its version.
    """

    version: int
    python: str
    implementation: str
    cloudpickle: str


class Unfit(Exception):  # noqa: N818 - named as what is the matter
    """The worker cannot be used; the text says why."""


class HeldWorker:
    """Lives on the loop of its executor.

    Attributes:
        under_way: what it was given and has not answered, oldest first.
        is_dismissed: it gets no more calls.
    """

    def __init__(self, tunnel: OpenTunnel, on_answer: Callable[[], None]) -> None:
        """`on_answer` is called when it may take more."""
        self.under_way: deque[Call] = deque()
        self.is_dismissed = False
        self._tunnel = tunnel
        self._on_answer = on_answer
        self._bytes = 0
        self._answered_at = 0.0
        self._takes_s = AHEAD_S

    async def greet(self) -> None:
        """Hears what it is.

        Raises:
            Unfit: no worker that can be called from here.
        """
        try:
            async with asyncio.timeout(HELLO_S):
                said = read_json(await self._read(), Hello)
        except (TimeoutError, EOFError, OSError, ValueError, msgspec.DecodeError) as error:
            raise Unfit(f"it does not say what it is: {type(error).__name__}") from error
        if why := misfit(said):
            raise Unfit(why)

    @property
    def room(self) -> int:
        """How many more calls it should be given now."""
        if self.is_dismissed:
            return 0
        if not self.under_way:
            return 1
        if self._bytes > AHEAD_BYTES:
            return 0
        return max(0, min(MOST_AHEAD, int(AHEAD_S / self._takes_s)) - len(self.under_way))

    def give(self, call: Call) -> None:
        """Sends it a call that has begun."""
        call.sent_at = asyncio.get_running_loop().time()
        self.under_way.append(call)
        self._bytes += len(call.frame)
        self._tunnel.writer.write(call.frame)

    async def follow(self) -> str:
        """Takes its answers until it is gone; says why where it is its own doing. What it was given then is still `under_way`."""
        try:
            while True:
                self._take(await self._read())
        except ValueError:
            return "it answered with what is no answer"
        except (EOFError, OSError):
            return ""
        finally:
            self._tunnel.writer.transport.abort()

    def say_goodbye(self) -> None:
        """Says that no more calls come: it ends."""
        self._tunnel.writer.write(worker.framed())

    def abort(self) -> None:
        """Breaks off."""
        self._tunnel.writer.transport.abort()

    def _take(self, answer: bytes) -> None:
        if not self.under_way:
            raise ValueError("nothing was asked")
        call = self.under_way[0]
        call.settle(answer)
        self.under_way.popleft()
        now = asyncio.get_running_loop().time()
        took = now - max(call.sent_at, self._answered_at)
        self._takes_s = max(1e-6, (1 - WEIGHT) * self._takes_s + WEIGHT * took)
        self._answered_at = now
        self._bytes -= len(call.frame)
        self._on_answer()

    async def _read(self) -> bytes:
        """The next blob.

        Raises:
            EOFError: there is none.
            ValueError: it is too long.
        """
        reader = self._tunnel.reader
        (size,) = worker.LENGTH.unpack(await reader.readexactly(worker.LENGTH.size))
        if size > worker.MOST:
            raise ValueError(size)
        return await reader.readexactly(size)


def misfit(said: Hello) -> str:
    """Why functions of this process cannot be called there, or ""."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if said.version != worker.VERSION:
        return f"it speaks version {said.version} of calls, and this is version {worker.VERSION}"
    if (said.python, said.implementation) != (here, sys.implementation.name):
        return f"it runs {said.implementation} {said.python}, and functions of {sys.implementation.name} {here} do not run there"
    if said.cloudpickle.partition(".")[0] != cloudpickle.__version__.partition(".")[0]:
        return f"it has cloudpickle {said.cloudpickle}, and this is {cloudpickle.__version__}"
    return ""
