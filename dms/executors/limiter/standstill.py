"""Halting processes without a kernel that freezes groups: by signals that no program can catch or refuse.

A program may see it: its parent, if it waits for children that stop, and a clock that has jumped. One that had halted itself goes on as well.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MOST_ROUNDS: Final = 200
"""Looks for processes that were forked meanwhile: each look finds all that were there at the one before."""


def halt(members: Callable[[], list[int]]) -> None:
    """SIGSTOP to every member, again until no new ones appear.

    Raises:
        OSError: new ones appeared for too long.
    """
    halted: set[int] = set()
    for _ in range(MOST_ROUNDS):
        fresh = [pid for pid in members() if pid not in halted]
        if not fresh:
            return
        _signal(fresh, signal.SIGSTOP)
        halted.update(fresh)
    raise OSError(0, "its processes fork faster than they can be halted")


def go_on(members: Callable[[], list[int]]) -> None:
    """SIGCONT to every member. None that stands still can fork one that is missed."""
    _signal(members(), signal.SIGCONT)


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
