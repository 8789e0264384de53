"""The node's side of the warden (`warden_main`): started with the first container, it outlives the node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_PROGRAM: Final = Path(__file__).with_name("warden_main.py")


class Warden:
    """Lives on the node's loop."""

    def __init__(self, socket: str, home: str, notes: Path, log: Path) -> None:
        """Starts nothing yet.

        Args:
            socket: the engine's.
            home: as in the labels of its containers.
            notes: what is noted of those that stood still; see `notes`.
            log: where the process writes what it has to complain about.
        """
        self._arguments = (socket, home, str(notes))
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id, or 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Starts the process, if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            # A session of its own: what ends the node's is not meant for who looks after its jobs.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={},
                cwd="/",
                start_new_session=True,
            )

    def close(self) -> None:
        """Leaves it to itself: it ends when nothing runs any more. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        process.returncode = process.poll() or 0  # it stays by design: subprocess shall not warn about it
