"""A process held by a pidfd: whatever happens, a signal never reaches another process that got the same number."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from dms.executors.limiter import process_tree


class Process:
    """Any process of this machine, not only a child. Lives on the node's loop."""

    def __init__(self, pid: int, pidfd: int, on_exit: Callable[[], None]) -> None:
        """Takes over `pidfd`; calls `on_exit` once when the process has ended."""
        self.pid = pid
        self._fd = pidfd
        self._on_exit = on_exit
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._on_readable)

    @classmethod
    def find(cls, pid: int, on_exit: Callable[[], None], *, parent: int = 0, pid_namespace: int = 0) -> Process | None:
        """The running process with that number, provided it is the one meant: by its parent or by the inode of its PID namespace."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if is_same(pid, parent=parent, pid_namespace=pid_namespace) and not _is_readable(pidfd):
            return cls(pid, pidfd, on_exit)
        os.close(pidfd)
        return None

    def fileno(self) -> int:
        """The pidfd that holds it."""
        return self._fd

    def listen(self, on_exit: Callable[[], None]) -> None:
        """Calls `on_exit` instead."""
        self._on_exit = on_exit

    @property
    def is_known_ended(self) -> bool:
        """Whether the loop has been told that it is gone; costs nothing."""
        return self._ended.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone; for the first process of a PID namespace: whether all in it are."""
        if not self._ended.is_set() and _is_readable(self._fd):
            self._on_readable()
        return self._ended.is_set()

    def kill(self) -> None:
        """SIGKILL."""
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def terminate_all(self) -> None:
        """SIGTERM to its process group, and to direct children that have left it."""
        if self.has_ended:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        for child in process_tree.children(self.pid):
            with suppress(ProcessLookupError):
                if os.getpgid(child) != self.pid:
                    os.kill(child, signal.SIGTERM)

    async def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        if self.has_ended:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self._ended.is_set()

    def close(self) -> None:
        """Lets go of it. Idempotent."""
        if self._fd >= 0:
            if not self._ended.is_set():
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._ended.set()
        self._on_exit()


def is_same(pid: int, *, parent: int = 0, pid_namespace: int = 0) -> bool:
    """Whether the process that has that number now is the one with that parent and that PID namespace (0: not asked)."""
    fields = process_tree.stat(pid)
    if not process_tree.is_alive(fields) or (parent and process_tree.parent_in(fields) != parent):
        return False
    if not pid_namespace:
        return True
    with suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == pid_namespace  # noqa: PTH116 - a kernel name, not a path
    return False


def _is_readable(fd: int) -> bool:
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
