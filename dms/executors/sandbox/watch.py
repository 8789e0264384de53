"""Tells runs at once when one of their files has grown: one inotify watch on the directory they share."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

_logger: Final = logging.getLogger(__name__)

_IN_MODIFY: Final = 0x2
_IN_NONBLOCK: Final = os.O_NONBLOCK
_IN_CLOEXEC: Final = os.O_CLOEXEC
_EVENT: Final = struct.Struct("iIII")
_POLL_S: Final = 0.02
"""Without inotify (its instances are limited per user, 128 by default) every run is looked at this often."""


class DirectoryWatch:
    """Calls back on the node's loop, by run name: file names up to their last dot."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listeners: dict[str, Callable[[], None]] = {}
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts watching. Idempotent."""
        if self._fd >= 0 or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(self._directory), _IN_MODIFY) >= 0:
            loop.add_reader(self._fd, self._on_readable)
            return
        _logger.warning(
            "no inotify (%s): output is looked for every %d ms instead",
            os.strerror(ctypes.get_errno()),
            _POLL_S * 1000,
        )
        self._close_fd()
        self._timer = loop.call_later(_POLL_S, self._on_timer)

    def add(self, name: str, listener: Callable[[], None]) -> None:
        """Calls `listener` after every growth of a file of `name`; several growths may be one call."""
        self._listeners[name] = listener

    def discard(self, name: str) -> None:
        """Calls no more."""
        self._listeners.pop(name, None)

    def close(self) -> None:
        """Stops watching. Idempotent."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
        self._close_fd()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        changed: dict[str, None] = {}
        offset = 0
        while offset < len(data):
            _, _, _, length = _EVENT.unpack_from(data, offset)
            name = data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0").decode(errors="replace")
            offset += _EVENT.size + length
            if not name:  # the kernel's queue overflowed: anything may have changed
                changed.update(dict.fromkeys(self._listeners))
            changed[name.rpartition(".")[0]] = None
        for run in changed:
            if listener := self._listeners.get(run):
                listener()

    def _on_timer(self) -> None:
        for listener in list(self._listeners.values()):
            listener()
        self._timer = asyncio.get_running_loop().call_later(_POLL_S, self._on_timer)

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
