"""The runner's side of its tether: it ties itself to the node, leads in what the node orders, and out what the job calls. On the runner's loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dms.executors.cluster.tether import (
    SHOW_S,
    Calls,
    Lead,
    Led,
    Place,
    Refused,
    Tied,
    Verdict,
    connect,
    hear,
    place_in,
    say,
)
from dms.executors.sandbox.keeper_main import break_off
from dms.tasks import Tasks, cancel
from dms_actors.splice import splice
from dms_proto.errors import DmsError, MachineError, UserError
from dms_proto.rules import MAX_LINE
from dms_proto.siblings import Way
from dms_proto.tunnels import Target, read_target

_logger: Final = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
"""Seconds between two tries to reach a node that is not there."""
LOOK_S: Final = 2.0
"""Seconds between two looks whether what a connection leads to is gone."""
LAST_S: Final = 30.0
"""Seconds in which the node may take the last bytes of what is gone: as of any tunnel that is served (`dms.net.flow`)."""
PATIENCE_S: Final = 15.0
"""Seconds in which the node says whether a sibling lets a call in: it tries for less long itself."""

Reach = Callable[[Target], Awaitable[socket.socket]]
"""See `Run.connect`."""


async def apart(directory: Path, run: str) -> str:
    """Why this machine does not reach the node; empty: it does."""
    place = place_in(directory)
    if place is None:
        return "the node listens nowhere"
    try:
        (await connect(place, Tied(run))).close()
    except OSError as error:
        return _why(error, place)
    return ""


class Tethered:
    """One per run.

    Args:
        directory: in which the node says where it is.
        run: its name.
    """

    def __init__(self, directory: Path, run: str) -> None:
        self._directory = directory
        self._run = run
        self._reach: asyncio.Future[Reach] = asyncio.get_running_loop().create_future()
        self._connection: socket.socket | None = None
        self._speaks = asyncio.Lock()
        self._numbers = itertools.count()
        self._verdicts: dict[int, asyncio.Future[str]] = {}
        self._tasks = Tasks()

    async def tie(self) -> str:
        """Ties the run to its node from now on, again and again. Gives why this machine cannot; a node that is not there at the moment may yet be."""
        place = place_in(self._directory)
        if place is None:
            return "the node listens nowhere"
        connection = None
        try:
            connection = await connect(place, Tied(self._run))
        except ConnectionRefusedError:
            pass  # it is being started again, perhaps elsewhere
        except OSError as error:
            return _why(error, place)
        self._tasks.start(self._hold(connection), "tether")
        return ""

    def reach_by(self, reach: Reach) -> None:
        """Says how what is ordered is reached: the run has begun."""
        self._reach.set_result(reach)

    async def lead_out(self, _run: str, way: Way, end: socket.socket) -> None:
        """Hands a connection of the job over to the node; see `dms.executors.sandbox.keeper.Lead`."""
        number = next(self._numbers)
        verdict = self._verdicts[number] = asyncio.get_running_loop().create_future()
        try:
            place = place_in(self._directory)
            if place is None or self._connection is None:
                raise UserError("not_listening", "the node is not there; try again", retryable=True)
            there = await connect(place, Calls(self._run, number, way.destination))
            try:
                await self._allowed(verdict)
            except BaseException:
                there.close()
                raise
        except OSError as error:
            break_off(end)
            raise UserError("not_listening", f"the node is not reached: {error}", retryable=True) from error
        except BaseException:
            break_off(end)
            raise
        finally:
            del self._verdicts[number]
        self._tasks.start(carried(end, there), f"to {way.destination}")

    async def close(self) -> None:
        """Breaks off what still flows."""
        await self._tasks.close()

    async def _allowed(self, verdict: asyncio.Future[str]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                refusal = await verdict
        except TimeoutError:
            refusal = f"the node did not answer within {PATIENCE_S:.0f} s"
        if refusal:
            raise UserError("not_listening", refusal, retryable=True)

    async def _hold(self, connection: socket.socket | None) -> None:
        while True:
            if connection is not None:
                self._connection = connection
                try:
                    await self._obey(connection)
                except OSError as error:
                    _logger.info("the node is gone: %s", error)
                finally:
                    self._connection = None
                    connection.close()
            await asyncio.sleep(AGAIN_S)
            connection = await self._tied_again()

    async def _tied_again(self) -> socket.socket | None:
        place = place_in(self._directory)
        if place is not None:
            with suppress(OSError):
                return await connect(place, Tied(self._run))
        return None

    async def _obey(self, connection: socket.socket) -> None:
        while True:
            heard: Lead | Verdict = await hear(connection, Lead | Verdict)  # type: ignore[arg-type]
            match heard:
                case Lead():
                    self._tasks.start(self._lead(connection, heard), f"order {heard.number}")
                case Verdict(number, refusal):
                    waits = self._verdicts.get(number)
                    if waits is not None and not waits.done():
                        waits.set_result(refusal)

    async def _lead(self, tether: socket.socket, asked: Lead) -> None:
        number = asked.number
        try:
            async with asyncio.timeout(SHOW_S):
                reach = await asyncio.shield(self._reach)
            inside = await reach(read_target(asked.target, asked.order))
        except TimeoutError:
            await self._refuse(tether, number, UserError("not_running", "the job has not begun yet", retryable=True))
            return
        except DmsError as error:
            await self._refuse(tether, number, error)
            return
        place = place_in(self._directory)
        try:
            if place is None:
                raise ConnectionError("the node is nowhere")
            there = await connect(place, Led(self._run, number))
        except OSError as error:
            inside.close()
            _logger.warning("what the node has ordered cannot be led there: %s", error)
            return
        await carried(inside, there)

    async def _refuse(self, tether: socket.socket, number: int, error: DmsError) -> None:
        is_ours = isinstance(error, MachineError)
        refused = Refused(number, error.code, error.message[:MAX_LINE], is_ours, error.retryable)
        with suppress(OSError):
            async with self._speaks:
                await say(tether, refused)


async def carried(inside: socket.socket, there: socket.socket) -> None:
    """Carries bytes both ways until both sides have ended theirs, or for a while after the inside has gone wholly: of that TCP tells nothing."""
    ways = (
        asyncio.create_task(_gone(inside.dup())),
        asyncio.create_task(splice(inside, there.dup())),
    )
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        why = next(way.result() for way in done)
    except asyncio.CancelledError:
        why = "the run is over"
        raise
    finally:
        await cancel(ways)
        break_off(there) if why else there.close()


async def _gone(inside: socket.socket) -> str:
    with inside:
        hang_up = select.poll()
        hang_up.register(inside.fileno(), 0)  # which asks for nothing, but that the other end is gone is always told
        while not hang_up.poll(0):  # noqa: ASYNC110 - the loop tells of what can be read, not of this
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(LAST_S)
    return "what it led to is gone"


def _why(error: OSError, place: Place) -> str:
    return f"{place.host}:{place.port} is not reached: {error.strerror or error}"
