"""Starts proxies, from the node. Light: the proxy's process imports it too."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from dms.egress.proxy import Bounds

END_S: Final = 5.0
"""Seconds that one may go on when its run is over."""


class Order(msgspec.Struct, frozen=True):
    """What a proxy is told.

    Attributes:
        bounds: where to it may lead.
        control: descriptor on which it gets the socket at which the job connects.
        run: descriptor of the run's outer process, with which it ends.
        meter: descriptor of its file.
        log: descriptor of the job's log.
        uid: the user it becomes; 0 to stay.
    """

    bounds: Bounds
    control: int
    run: int
    meter: int
    log: int
    uid: int = 0


class Companion:
    """A process beside a run, outside of its sandbox. It ends by itself, with the run it serves.

    Attributes:
        inner: the end of a socket that is for the starter inside the sandbox.
    """

    _process: subprocess.Popen[bytes]
    inner: socket.socket

    def _start(
        self, arguments: Sequence[str], fds: Sequence[int], complaints: Path, stdin: int = subprocess.DEVNULL
    ) -> None:
        """Starts it in a Python of its own, with these descriptors and nothing of the node's besides."""
        with complaints.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=fds,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={},
                cwd="/",
                start_new_session=True,
            )

    async def wait_ended(self) -> None:
        """Waits for its end, once the run is over; one that goes on is killed."""
        try:
            await asyncio.to_thread(self._process.wait, END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def let_go(self) -> None:
        """Leaves it running, for as long as its run does."""
        self._process.returncode = self._process.poll() or 0


class ProxyProcess(Companion):
    """A running `python -m dms.egress`."""

    def __init__(self, bounds: Bounds, *, run: int, meter: int, log: int, uid: int, complaints: Path) -> None:
        """Starts it; arguments as in `Order`, all descriptors stay the caller's. `complaints`: where it writes what goes wrong.

        Raises:
            OSError: it cannot be started.
        """
        ours, self.inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            order = Order(bounds, ours.fileno(), run, meter, log, uid)
            fds = [order.control, run, meter, log]
            self._start(["-P", "-m", "dms.egress"], fds, complaints, subprocess.PIPE)
        assert self._process.stdin is not None
        with self._process.stdin as told:
            told.write(msgspec.json.encode(order))
