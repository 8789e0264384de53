"""Something to look at while a command takes longer than a second. On standard error, and only where a person sees it."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final, Self

from dms.cli.blocks import clean

QUIET_S: Final = 1.0
"""What takes less needs no explanation."""
TICK_S: Final = 0.2


class Progress:
    """Shows `text` and the seconds gone by, from one second on. Use as a context.

    Lives on the command's main thread; a second thread only writes the line, so that blocking calls need not know.
    """

    def __init__(self, text: str, *, enabled: bool = True) -> None:
        self._text = text
        self._enabled = enabled and sys.stderr.isatty()
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._shown = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            self._thread = threading.Thread(target=self._run, daemon=True, name="progress")
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def say(self, text: str) -> None:
        """Changes the text; the clock goes on."""
        with self._lock:
            self._text = text

    def stop(self) -> None:
        """Takes the line away; nothing is shown after this. Idempotent."""
        self._over.set()
        with self._lock:
            self._wipe()

    def _run(self) -> None:
        if self._over.wait(QUIET_S):
            return
        while not self._over.wait(TICK_S):
            with self._lock:
                if not self._over.is_set():
                    self._write()

    def _write(self) -> None:
        elapsed = time.monotonic() - self._started
        sys.stderr.write(f"\r\x1b[2K{clean(self._text)} ({elapsed:.0f} s)")
        sys.stderr.flush()
        self._shown = True

    def _wipe(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
