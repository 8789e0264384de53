"""What a run leaves on disk so that it survives the node: its output, and a status file that tells how it goes.

::

    STATE/runs/ALLOCATION.status   JSON lines: our record, then what bubblewrap and the launcher report
    STATE/runs/ALLOCATION.stdout
    STATE/runs/ALLOCATION.stderr
    STATE/runs/ALLOCATION.result   written by a worker inside (wasm), or by what starts the command
    STATE/runs/ALLOCATION.door     the way in (see `door`), for a job that declares ports
    STATE/runs/ALLOCATION.exec     likewise, for a job that lets commands be run beside it
    STATE/runs/ALLOCATION.egress   what went through the proxy (`dms.egress.meter`), for a job that may connect to elsewhere

All runs share one directory so that one inotify watch serves them all. Jobs hold descriptors of their own output only; the directory is in no
sandbox.
"""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.egress.meter import read_barred, read_total
from dms.executors.sandbox import door
from dms_proto.egress import Barred
from dms_proto.tunnels import Target

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
METER: Final = "egress"
_RESULT: Final = "result"
MOST_RESULT: Final = 64 * 1024
"""Bytes of a result that are read."""
_SUFFIXES: Final = ("status", "stdout", "stderr", _RESULT, door.SUFFIX, door.EXEC_SUFFIX, METER)
_AT_ONCE: Final = 64 * 1024


class Record(msgspec.Struct, frozen=True):
    """The first line of a status file.

    Attributes:
        executor: whose run it is.
        boot: the kernel's boot id; process ids mean nothing after a reboot.
        started_ms: Unix time.
        directory: the job's.
        uid: the user the job runs as, 0 for the node's own.
        groups: paths of its cgroups.
        monitor: process id of the outer bubblewrap.
    """

    executor: str
    boot: str
    started_ms: int
    directory: str
    uid: int = 0
    groups: tuple[str, ...] = ()
    monitor: int = 0


class Status(msgspec.Struct, frozen=True, rename="kebab"):
    """All lines of a status file together; what was not reported yet is None.

    Attributes:
        frozen_at: Unix ms since which it stands still; 0 while it goes on.
        frozen_ms: for how long it stood still before that, in all.
    """

    child_pid: int | None = None
    pid_namespace: int | None = None
    exit_code: int | None = None
    cpu_us: int | None = None
    max_rss: int | None = None
    overdue: bool = False
    frozen_at: int = 0
    frozen_ms: int = 0

    @property
    def tells_the_end(self) -> bool:
        """Whether it says how the run ended."""
        return self.exit_code is not None or self.overdue


class RunFiles:
    """The files of one run. Descriptors are opened once, close-on-exec, and shared with the launcher."""

    def __init__(self, directory: Path, name: str) -> None:
        """Names the files; nothing is touched.

        Raises:
            ValueError: `name` would not be a plain file name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not the name of a run: {name!r}")
        self.name = name
        self._directory = directory
        self._fds: dict[str, int] = {}
        self._known: dict[str, object] = {}
        self._status = Status()
        self._read_to = 0

    def create(self) -> None:
        """Makes them, empty; whatever an earlier run of that name left is gone.

        Raises:
            OSError: no room or no permission.
        """
        try:
            self._open(os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            self.close()
            self.remove()
            self._open(os.O_CREAT | os.O_EXCL)

    def open(self) -> bool:
        """Opens existing ones. False: there are none."""
        try:
            self._open(0)
        except FileNotFoundError:
            self.close()
            return False
        return True

    def fd(self, suffix: str) -> int:
        """The open descriptor of one file."""
        return self._fds[suffix]

    def size(self, suffix: str) -> int:
        """Bytes in one file now."""
        return os.fstat(self._fds[suffix]).st_size

    def written(self) -> int:
        """Bytes that the job has written by now and that are not in its directory: its output, and what its result is longer than one may be."""
        result = self.size(_RESULT) if _RESULT in self._fds else 0
        return self.size("stdout") + self.size("stderr") + max(0, result - MOST_RESULT)

    def read(self, suffix: str, offset: int, length: int) -> bytes:
        """Bytes of one file."""
        return os.pread(self._fds[suffix], length, offset)

    def egress_bytes(self) -> int:
        """What went through the proxy by now."""
        return read_total(self._fds[METER]) if METER in self._fds else 0

    def barred(self) -> tuple[Barred, ...]:
        """What the proxy has refused by now."""
        return read_barred(self._fds[METER]) if METER in self._fds else ()

    def modified(self, suffix: str) -> float:
        """Unix time at which one file was last written."""
        return os.fstat(self._fds[suffix]).st_mtime

    def status(self) -> Status:
        """What is known by now."""
        while complete := (data := self._next()).rfind(b"\n") + 1:
            self._read_to += complete
            self._take(data[:complete])
        return self._status

    def _next(self) -> bytes:
        return os.pread(self._fds["status"], _AT_ONCE, self._read_to)

    def note_freeze(self, frozen_at: int, frozen_ms: int, deadline_ms: int) -> None:
        """Writes down that it stands still, or goes on, for who adopts it; and for the launcher when its time is over now (Unix ms).

        Raises:
            OSError: no room.
        """
        line = {"frozen-at": frozen_at, "frozen-ms": frozen_ms, "deadline-ms": deadline_ms}
        os.write(self._fds["status"], json.dumps(line).encode() + b"\n")

    def record(self) -> Record | None:
        """Whose run it is; None while that was not written."""
        self.status()
        return msgspec.convert(self._known, Record) if "executor" in self._known else None

    def _take(self, lines: bytes) -> None:
        """Lines that are foreign or unknown are passed over: bubblewrap may write other members in later versions."""
        for line in lines.splitlines():
            with suppress(msgspec.DecodeError):
                found = msgspec.json.decode(line)
                self._known.update(found if isinstance(found, dict) else {})
        self._status = msgspec.convert(self._known, Status)

    def close(self) -> None:
        """Closes the descriptors. Idempotent."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}

    def remove(self) -> None:
        """Deletes the files. Idempotent."""
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{self.name}.{suffix}")  # noqa: PTH108 - on every job's path

    def add(self, suffix: str) -> int:
        """Creates one more file and gives its descriptor."""
        self._fds[suffix] = os.open(self._path(suffix), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fds[suffix]

    def open_door(self) -> socket.socket:
        """A socket that listens for who wants in; whoever accepts is to be given it, and then it is to be closed here.

        Raises:
            OSError: no room or no permission.
        """
        return door.listen(self._directory, self.name)

    def open_exec_door(self) -> socket.socket:
        """The same for who brings a command."""
        return door.listen(self._directory, self.name, door.EXEC_SUFFIX)

    async def connect(self, target: Target) -> socket.socket:
        """See `door.connect`."""
        return await door.connect(self._directory, self.name, target)

    def _open(self, flags: int) -> None:
        for suffix in ("stdout", "stderr", "status"):
            # Appending: a job that holds the descriptor cannot place bytes anywhere but at the end.
            self._fds[suffix] = os.open(self._path(suffix), flags | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if not flags:
            for suffix in (_RESULT, METER):
                with suppress(FileNotFoundError):
                    self._fds[suffix] = os.open(self._path(suffix), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)

    def _path(self, suffix: str) -> str:
        return f"{self._directory}/{self.name}.{suffix}"


def names(directory: Path) -> set[str]:
    """The runs that have files."""
    return {entry.stem for entry in directory.glob("*.*") if entry.suffix.lstrip(".") in _SUFFIXES}


def boot_id() -> str:
    """Identifies this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
