"""The node's side of the launcher process: started when first needed, started again when it died."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from dms.executors.limiter import Group
from dms.executors.sandbox.launcher_main import receive
from dms.executors.sandbox.process import Process
from dms_proto.errors import MachineError

CLOSE_WAIT_S: Final = 2.0
_PROGRAM: Final = Path(__file__).with_name("launcher_main.py")


class Order(msgspec.Struct, frozen=True):
    """What a spare process shall become.

    Attributes:
        argv: of bubblewrap; its descriptors are numbered as in the list sent along.
        mounts: directories or files to make reachable for `uid` at `MOUNT_ROOT`/0, 1, ….
        rlimits: resource limits (number, value).
        uid: user and group to become; 0 to stay.
        record: first line of the status file.
    """

    argv: Sequence[str]
    mounts: Sequence[str]
    rlimits: Sequence[tuple[int, int]]
    uid: int
    record: dict[str, Any]


class Claim(msgspec.Struct, frozen=True):
    """What the launcher has to know of a run.

    Attributes:
        pid: its outer process.
        deadline_ms: Unix time at which the launcher ends it if the node is gone.
        meter: 1 when the launcher shall report CPU time, for lack of a cgroup.
    """

    pid: int
    deadline_ms: int
    meter: int


class Spare:
    """A process that waits for its order, in its group already. Owns its descriptors."""

    def __init__(self, pid: int, pidfd: int, orders: socket.socket, group: Group) -> None:
        self.process = Process(pid, pidfd, lambda: None)
        self.group = group
        self._orders = orders

    def send(self, order: Order, fds: Sequence[int]) -> None:
        """Gives the order. `fds` become its descriptors 0, 1, 2, … and stay the caller's to close.

        Raises:
            MachineError: `sandbox_failed`: it is dead, or the order is too long.
        """
        try:
            socket.send_fds(self._orders, [msgspec.json.encode(order)], list(fds))
        except OSError as error:
            raise MachineError("sandbox_failed", f"the order could not be sent: {error.strerror}") from error

    def dismiss(self) -> None:
        """Closes the socket: an idle spare ends; one that was given its order while this node lived does not notice. Idempotent."""
        self._orders.close()


class Launcher:
    """Lives on the node's loop."""

    def __init__(self, log: Path, *, outlives: bool = True) -> None:
        """Starts nothing yet.

        Args:
            log: where the process writes what it has to complain about.
            outlives: whether runs go on when this process dies.
        """
        self._log = log
        self._outlives = outlives
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[int, int]]] = {}
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
                [sys.executable, "-I", "-S", str(_PROGRAM), *self._arguments(theirs)],
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

    def _arguments(self, control: socket.socket) -> tuple[str, ...]:
        return str(control.fileno()), str(os.getpid()), str(int(self._outlives))

    async def spare(self, group: Group) -> Spare:
        """Forks a process that joins `group` and waits.

        Raises:
            MachineError: `sandbox_failed`.
        """
        self.start()
        number, self._next_id = self._next_id, self._next_id + 1
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        joins: list[int] = []
        try:
            joins += [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in group.join]
            await self._send({"op": "spare", "id": number}, [theirs.fileno(), *joins])
            pid, pidfd = await answer
        except OSError as error:
            ours.close()
            raise MachineError("sandbox_failed", f"no process could be prepared: {error}", retryable=True) from error
        except BaseException:
            ours.close()
            raise
        finally:
            self._waiting.pop(number, None)
            theirs.close()
            for fd in joins:
                os.close(fd)
        return Spare(pid, pidfd, ours, group)

    async def claim(self, claim: Claim, status: int) -> None:
        """Tells the launcher to look after a run. A launcher that died is not an error: the next one is there for later runs."""
        with suppress(OSError):
            await self._send({"op": "claim", **msgspec.structs.asdict(claim)}, [status])

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

    async def _send(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        while self._socket is not None:
            try:
                socket.send_fds(self._socket, [json.dumps(message).encode()], list(fds))
            except BlockingIOError:
                await asyncio.sleep(0.001)  # its queue is full of forks; each takes about a millisecond
            except OSError:
                self._lost()
                raise
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
            answer.set_result((reply["pid"], fds[0]))

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
