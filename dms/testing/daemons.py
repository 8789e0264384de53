"""Daemons that tests start."""

from __future__ import annotations

import subprocess
from typing import Final

END_S: Final = 20
"""Seconds for a daemon to end when asked to."""


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a daemon; one that does not end in time is killed."""
    process.terminate()
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
