"""Freezing processes where the kernel freezes no groups: by signals that no program can catch or refuse.

A program may see it: its parent, if it waits for children that stop, and a clock that has jumped. One that had stopped itself goes on as well.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dms.executors.limiter import process_tree

MOST_ROUNDS: Final = 200
"""Looks for processes that were forked meanwhile: each look finds all that were there at the one before."""
QUIET_LOOKS: Final = 2
"""So many looks one after the other have to find all of them stopped: one that was not yet may have let another go on that was looked at before."""


def freeze(members: Callable[[], list[int]]) -> None:
    """SIGSTOP to every member, again until no new ones appear and none was let go on by another.

    Raises:
        OSError: it did not come to that.
    """
    seen: set[int] = set()
    quiet = 0
    for _ in range(MOST_ROUNDS):
        moving = [pid for pid in members() if pid not in seen or not process_tree.is_stopped(pid)]
        quiet = 0 if moving else quiet + 1
        if quiet == QUIET_LOOKS:
            return
        _signal(moving, signal.SIGSTOP)
        seen.update(moving)
    raise OSError(0, "its processes fork faster than they can be frozen, or let each other go on")


def thaw(members: Callable[[], list[int]]) -> None:
    """SIGCONT to every member. None that stands still can fork one that is missed."""
    _signal(members(), signal.SIGCONT)


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
