"""The node's side of tethers: it listens for its runners, and has them lead to what runs with them. On the loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.cluster.tether import (
    KEY_BYTES,
    SHOW_S,
    Calls,
    Lead,
    Led,
    Place,
    Refused,
    Tied,
    Verdict,
    hear,
    keep_place,
    let_in,
    say,
)
from dms.executors.sandbox.keeper_main import break_off
from dms.tasks import Tasks
from dms_proto.errors import CODES, DmsError, MachineError, UserError
from dms_proto.recent import Recent
from dms_proto.rules import MAX_LINE
from dms_proto.siblings import Way, read_way
from dms_proto.tunnels import Target, ToCommand, write_target

_logger: Final = logging.getLogger(__name__)

MOST_UNKNOWN: Final = 64
"""Connections that may be showing who they are at a time; more are closed at once. A runner tries again."""
OF_SOURCE: Final = MOST_UNKNOWN // 4
"""Those of one address: who only knocks keeps out nobody but its neighbours."""
TOLD_S: Final = 60.0
"""For so long nothing more is logged of an address from which somebody was turned away: the log holds only so much."""
MOST_TOLD: Final = 1_024
BACKLOG: Final = 128
ORDER_S: Final = 2 * SHOW_S
"""Seconds in which a runner has done what it was told: it waits itself for the job to begin, and then for the job's agent."""
REST_S: Final = 0.5
"""Seconds before the next try, where no more connections can be taken."""


LeadOut = Callable[[str, Way, socket.socket], Awaitable[None]]
"""As `dms.executors.sandbox.keeper.Lead`."""


class Tether:
    """The way into one run that goes on elsewhere. Lives on the node's loop."""

    def __init__(self, run: str, connection: socket.socket) -> None:
        self.run = run
        self._connection = connection
        self._numbers = itertools.count()
        self._speaks = asyncio.Lock()
        self._ordered: dict[int, asyncio.Future[socket.socket]] = {}

    async def lead(self, target: Target) -> socket.socket:
        """See `Run.connect`."""
        number = next(self._numbers)
        order = target.order if isinstance(target, ToCommand) else None
        led = self._ordered[number] = asyncio.get_running_loop().create_future()
        led.add_done_callback(_heard)
        try:
            async with asyncio.timeout(ORDER_S):
                await self.say(Lead(number, write_target(target), order))
                connection: socket.socket = await led
        except TimeoutError:
            why = f"the runner of {self.run} did not answer within {ORDER_S:.0f} s"
            raise MachineError("sandbox_failed", why) from None
        except OSError as error:
            raise _untied(self.run) from error
        finally:
            del self._ordered[number]
        return connection

    async def say(self, what: msgspec.Struct) -> None:
        """Says one thing to the runner; things are said one after the other. After half of one nothing would be understood: then it is over."""
        async with self._speaks:
            try:
                await say(self._connection, what)
            except BaseException:
                self._cut()
                raise

    async def hear(self) -> None:
        """Hears the runner until it is gone."""
        try:
            with suppress(OSError):
                while True:
                    refused = await hear(self._connection, Refused)
                    waits = self._ordered.get(refused.number)
                    if waits is not None and not waits.done():
                        waits.set_exception(_error_in(refused))
        finally:
            self.end()
            async with self._speaks:
                self._connection.close()

    def led(self, number: int, connection: socket.socket) -> bool:
        """A connection there has come. False: nobody waits for it any more."""
        waits = self._ordered.get(number)
        if waits is None or waits.done():
            return False
        waits.set_result(connection)
        return True

    def end(self) -> None:
        """It is over. Idempotent."""
        self._cut()
        for waits in self._ordered.values():
            if not waits.done():
                waits.set_exception(_untied(self.run))

    def _cut(self) -> None:
        """Has `hear` come to its end. Closed under it, the loop would go on to look at a descriptor that is another's by then."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class Tethers:
    """One per node that offers a cluster; lives on its loop.

    Args:
        directory: in which runners find where the node is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = os.urandom(KEY_BYTES)
        self._listener: socket.socket | None = None
        self._tied: dict[str, Tether] = {}
        self._changed = asyncio.Condition()
        self._lead_out: LeadOut | None = None
        self._unknown = Tasks()
        self._unknown_at: Counter[str] = Counter()
        self._told_until: Recent[str, float] = Recent(MOST_TOLD)
        self._known = Tasks()

    def listen(self, host: str, port: int) -> None:
        """Takes connections from now on, and tells runners where.

        Raises:
            OSError: the address is none of this machine's, or is taken, or the file cannot be written.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        keep_place(self._directory, Place(host, self._listener.getsockname()[1], self._key))
        self._known.start(self._accept(self._listener), "tethers")

    def lead_out_by(self, lead: LeadOut) -> None:
        """Says who leads connections of runs to their siblings; before that, nobody does."""
        self._lead_out = lead

    async def connect(self, run: str, target: Target) -> socket.socket:
        """A connection to something in a run. One that has just begun, or whose runner has lost its node, is waited for.

        Raises:
            UserError, MachineError: see `Run.connect`.
        """
        try:
            async with asyncio.timeout(SHOW_S), self._changed:
                await self._changed.wait_for(lambda: run in self._tied)
        except TimeoutError:
            raise _untied(run) from None
        return await self._tied[run].lead(target)

    async def close(self) -> None:
        """Takes no more. Connections that lead somewhere go on. Idempotent."""
        await self._known.close()
        await self._unknown.close()
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                _logger.warning("runners cannot be heard: %s", error)
                await asyncio.sleep(REST_S)
                continue
            self._greet(connection, address[0])
            await asyncio.sleep(0)  # or who connects without end gets all of the loop

    def _greet(self, connection: socket.socket, source: str) -> None:
        if len(self._unknown) < MOST_UNKNOWN and self._unknown_at[source] < OF_SOURCE:
            self._unknown_at[source] += 1
            self._unknown.start(self._meet(connection, source), "who ties itself to the node")
        else:
            connection.close()

    async def _meet(self, connection: socket.socket, source: str) -> None:
        try:
            hello = await let_in(connection, self._key)
        except (OSError, TimeoutError) as error:
            self._tell(source, str(error) or "it said nothing")
            connection.close()
            return
        finally:
            self._unknown_at[source] -= 1
            self._unknown_at += Counter()  # without those at zero
        match hello:
            case Tied(run):
                self._known.start(self._tie(Tether(run, connection)), f"tether of {run}")
            case Led(run, number):
                tether = self._tied.get(run)
                if tether is None or not tether.led(number, connection):
                    connection.close()
            case Calls():
                self._known.start(self._call(hello, connection), f"call of {hello.run}")

    def _tell(self, source: str, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= (self._told_until.get(source) or 0.0):
            self._told_until.keep(source, now + TOLD_S)
            _logger.warning("a connection from %s was turned away: %s", source, why)

    async def _tie(self, tether: Tether) -> None:
        before = self._tied.get(tether.run)
        if before is not None:
            before.end()
        self._tied[tether.run] = tether
        async with self._changed:
            self._changed.notify_all()
        try:
            await tether.hear()
        finally:
            tether.end()
            if self._tied.get(tether.run) is tether:
                del self._tied[tether.run]

    async def _call(self, call: Calls, connection: socket.socket) -> None:
        tether = self._tied.get(call.run)
        if tether is None or self._lead_out is None:
            connection.close()
            return
        refusal = ""
        try:
            way = read_way(call.destination)
            await self._lead_out(call.run, way, connection)
        except ValueError as error:
            break_off(connection)
            refusal = str(error)
        except DmsError as error:
            refusal = error.message
        with suppress(OSError):
            await tether.say(Verdict(call.number, refusal[:MAX_LINE]))


def _heard(led: asyncio.Future[socket.socket]) -> None:
    """Whoever waits for it has what it raises; if nobody does any more, it is no defect."""
    if not led.cancelled():
        led.exception()


def _untied(run: str) -> UserError:
    why = f"the machine that runs {run} is not connected with its node now; try again"
    return UserError("not_listening", why, retryable=True)


def _error_in(refused: Refused) -> DmsError:
    kind = MachineError if refused.is_ours else UserError
    code = refused.code if refused.code in CODES else "internal"
    return kind(code, refused.message, retryable=refused.retryable)
