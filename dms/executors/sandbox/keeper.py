"""The node's side of what keeps the names of jobs (`keeper_main`): starts them, and takes the connections that they hand over."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dms.egress.starting import Companion
from dms.executors.sandbox import door, keeper_main
from dms.readable import readable
from dms.tasks import Tasks
from dms_proto.errors import DmsError
from dms_proto.rules import MAX_LINE
from dms_proto.siblings import Way, read_way

log = logging.getLogger(__name__)

DOOR: Final = "names.door"
"""The Unix socket, in the state directory of the executors, at which keepers find the node."""
ASKED_S: Final = 5.0
"""Seconds in which a keeper says what it wants."""
REST_S: Final = 0.5
"""Seconds before the next try, where too many files are open."""
_MAX_ASKED: Final = 256
_PROGRAM: Final = Path(__file__).with_name("keeper_main.py")


class KeeperProcess(Companion):
    """A running `keeper_main.py`."""

    def __init__(self, name: str, ways: Sequence[Way], *, run: int, log: int, state: Path) -> None:
        """Starts it; all descriptors stay the caller's.

        Args:
            name: of the run.
            ways: in the order in which their sockets come.
            run: pidfd of the run's outer process.
            log: descriptor of the job's standard error.
            state: the executors' directory: of the node's door, and for what goes wrong.

        Raises:
            OSError: it cannot be started.
        """
        ours, self.inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        destinations = ",".join(way.destination for way in ways)
        arguments = [str(ours.fileno()), str(run), str(log), str(state / DOOR), name, destinations]
        with ours:
            fds = [ours.fileno(), run, log]
            self._start(["-I", "-S", str(_PROGRAM), *arguments], fds, state / "names.log")


Lead = Callable[[str, Way, socket.socket], Awaitable[None]]
"""Takes a connection over from a run, by its name; breaks it off and raises a `DmsError` if there is no way."""


class Keepers:
    """Hears all keepers of a machine. One per node; lives on its loop."""

    def __init__(self, lead: Lead) -> None:
        self._lead = lead
        self._door: socket.socket | None = None
        self._served = Tasks()
        self._resting: asyncio.TimerHandle | None = None
        self._is_full = False

    def listen(self, state: Path) -> None:
        """Takes connections from now on; `state`: the executors' directory.

        Raises:
            OSError: no room or no permission.
        """
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, suffix = DOOR.split(".")
        self._door = door.listen(state, name, suffix)
        self._door.setblocking(False)
        self._take()

    async def close(self) -> None:
        """Takes no more."""
        if self._door is not None:
            self._stop_taking()
            self._door.close()
        await self._served.close()

    def _accept(self) -> None:
        assert self._door is not None
        try:
            keeper = self._door.accept()[0]
        except OSError as error:
            if error.errno in keeper_main.FULL:
                self._rest(error)
            return  # else it went away
        self._is_full = False
        self._served.start(self._serve(keeper), "from a keeper")

    def _rest(self, why: OSError) -> None:
        """Takes none for a while: what waits would be reported for ever."""
        if not self._is_full:
            log.warning("connections of jobs to their siblings wait: %s; the node needs more open files", why.strerror)
        self._is_full = True
        self._stop_taking()
        self._resting = asyncio.get_running_loop().call_later(REST_S, self._take)

    def _take(self) -> None:
        assert self._door is not None
        asyncio.get_running_loop().add_reader(self._door.fileno(), self._accept)

    def _stop_taking(self) -> None:
        assert self._door is not None
        asyncio.get_running_loop().remove_reader(self._door.fileno())
        if self._resting is not None:
            self._resting.cancel()

    async def _serve(self, keeper: socket.socket) -> None:
        with keeper:
            keeper.setblocking(False)
            try:
                name, way, end = await _asked(keeper)
            except (OSError, TimeoutError, ValueError) as error:
                log.warning("what keeps the names of a job is not understood: %s", error)
                return
            try:
                await self._lead(name, way, end)
            except DmsError as error:
                log.debug("%s is not led to %s: %s", name, way.destination, error.message)
                with suppress(OSError):
                    keeper.send(error.message[:MAX_LINE].encode())


async def _asked(keeper: socket.socket) -> tuple[str, Way, socket.socket]:
    """Of which run is a connection, and where shall it lead.

    Raises:
        OSError, TimeoutError, ValueError: nobody says.
    """
    async with asyncio.timeout(ASKED_S):
        await readable(keeper.fileno())
    data, handed, _, _ = socket.recv_fds(keeper, _MAX_ASKED, 1)
    if not handed:
        raise ValueError(f"no connection came with {data!r}")
    end = socket.socket(fileno=handed[0])
    try:
        end.setblocking(False)
        name, _, destination = data.decode().partition(" ")
        return name, read_way(destination), end
    except BaseException:
        end.close()
        raise
