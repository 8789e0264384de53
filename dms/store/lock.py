"""One process per store: a lock file beside the store, held by the kernel for as long as the process lives."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from dms.store.errors import store_error
from dms_proto.errors import MachineError

_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class StoreLock:
    """An exclusive claim on one store file.

    It is a ``flock``: the kernel drops it when the process dies, however it dies, so there is nothing stale to clean up and the file is
    left in place (removing it would let two processes each lock a file of that name). Programs started by the node do not inherit it,
    because Python opens files close-on-exec. The file holds the owner's pid, for people and for the message only.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, store: Path) -> StoreLock:
        """Claims `store`.

        Raises:
            MachineError: `home_in_use`, naming the process that has it; `store_failed` when the lock file cannot be opened.
        """
        path = store.with_name(store.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise store_error(error, store) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise (_in_use(store, owner) if error.errno in _HELD else store_error(error, store)) from error
        return cls(descriptor)

    def release(self) -> None:
        """Gives the claim up. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _in_use(store: Path, owner: str) -> MachineError:
    alive = owner.isdigit() and Path(f"/proc/{owner}").exists()
    who = f"process {owner}" if alive else f"a child that outlived process {owner}" if owner else "another process"
    hint = "stop that node first (`dms down`), or use another home"
    return MachineError("home_in_use", f"{store.parent} is in use by {who}", hint=hint)
