"""The node's side of the launcher process: started when first needed, started again when it died."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from dms.executors.sandbox.launcher_main import receive
from dms.executors.sandbox.process import Process
from dms_proto.errors import MachineError

MAX_MESSAGE: Final = 192 * 1024
"""Below the usual socket buffer of 208 KiB, and above any command line worth sending."""
CLOSE_WAIT_S: Final = 2.0
_PROGRAM: Final = Path(__file__).with_name("launcher_main.py")


class LaunchRequest(msgspec.Struct, frozen=True):
    """One sandbox to start.

    Attributes:
        argv: of bubblewrap; its descriptors are numbered as in the list sent along.
        mounts: directories or files to make reachable for `uid` at `MOUNT_ROOT`/0, 1, ….
        joins: how many of the last descriptors are cgroup files to write "0" into.
        rlimits: resource limits (number, value).
        uid: user and group to become; 0 to stay.
        deadline_ms: Unix time at which the launcher ends the run if the node is gone.
        record: first line of the status file.
        meter: 1 when the launcher shall report CPU time, for lack of a cgroup.
    """

    argv: Sequence[str]
    joins: int
    rlimits: Sequence[tuple[int, int]]
    uid: int
    deadline_ms: int
    record: dict[str, Any]
    meter: int = 0
    mounts: Sequence[str] = ()


class Launched(msgspec.Struct, frozen=True):
    """bubblewrap's outer process; whoever gets this owns `pidfd`."""

    pid: int
    pidfd: int


class Launcher:
    """Lives on the node's loop."""

    def __init__(self, log: Path) -> None:
        """Starts nothing yet.

        Args:
            log: where the process writes what it has to complain about.
        """
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[Launched]] = {}
        self._next_id = 1

    @property
    def pid(self) -> int:
        """Process id, or 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Starts the process, if it does not run: about 10 ms, off the path of the first job."""
        if self._socket is not None:
            return
        if self._process is not None:
            self._process.wait(timeout=1)  # its socket is closed: it is dead or dying
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, self._log.open("ab") as log:
            # A session of its own, and none of the node's streams: ctrl-C at the node's terminal is not meant for the jobs, and who reads
            # the node's output to its end shall not wait for them.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
                cwd="/",
                start_new_session=True,
            )
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)

    async def launch(self, request: LaunchRequest, fds: Sequence[int]) -> Launched:
        """Starts a sandbox. `fds` become its descriptors 0, 1, 2, … and stay the caller's to close.

        Raises:
            MachineError: `sandbox_failed`.
        """
        self.start()
        assert self._socket is not None
        number, self._next_id = self._next_id, self._next_id + 1
        message = json.dumps({"id": number, **msgspec.structs.asdict(request)}).encode()
        if len(message) > MAX_MESSAGE:
            raise MachineError("sandbox_failed", f"command and environment are longer than {MAX_MESSAGE} bytes")
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            await self._send(message, fds)
            launched: Launched = await answer
            return launched
        except OSError as error:
            self._lost()
            raise MachineError("sandbox_failed", f"the launcher does not answer: {error}", retryable=True) from error
        finally:
            self._waiting.pop(number, None)

    async def close(self, *, wait: bool) -> None:
        """Lets the process go. It ends by itself once no run is left.

        Args:
            wait: whether no run is left, so that its end is worth waiting for.
        """
        process, self._process = self._process, None
        self._lost()
        if process is None:
            return
        if wait and process.poll() is None:
            held = Process(process.pid, os.pidfd_open(process.pid), lambda: None)
            await held.wait(CLOSE_WAIT_S)
            held.close()
        process.returncode = process.poll() or 0  # where it stays, by design, subprocess shall not warn about it

    async def _send(self, message: bytes, fds: Sequence[int]) -> None:
        while self._socket is not None:
            try:
                socket.send_fds(self._socket, [message], list(fds))
            except BlockingIOError:
                await asyncio.sleep(0.001)  # its queue is full of starts; each takes about a millisecond
            else:
                return
        raise ConnectionResetError("closed")

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            data, fds = receive(self._socket)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self._lost()
            return
        reply = json.loads(data)
        answer = self._waiting.get(reply["id"])
        if answer is None or answer.done():  # the asker was cancelled; the run's files still lead to what was started
            for fd in fds:
                os.close(fd)
        elif "error" in reply:
            answer.set_exception(MachineError("sandbox_failed", f"the launcher failed: {reply['error']}"))
        else:
            answer.set_result(Launched(reply["pid"], fds[0]))

    def _lost(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if self._process is not None:
            self._process.poll()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(
                    MachineError("sandbox_failed", "the launcher died while starting the run", retryable=True)
                )
