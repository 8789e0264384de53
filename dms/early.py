"""The time before a program can handle anything: while it imports, ctrl-C ends it in silence instead of with a traceback. Imports next to nothing."""

from __future__ import annotations

import os
import signal
from types import FrameType

TYPE_CHECKING = False  # as in `typing`, which alone would take longer than all the rest here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

INTERRUPTED = 130


def leave_on_ctrl_c() -> None:
    """From here until `begun`, ctrl-C ends the process with 130. Main thread only."""
    signal.signal(signal.SIGINT, _leave)


def begun(handler: Callable[[int, FrameType | None], object] = signal.default_int_handler) -> None:
    """From here on `handler` handles ctrl-C, unless somebody else does by now. Idempotent."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, handler)


def interrupt_or_leave(number: int, frame: FrameType | None) -> None:
    """Handles ctrl-C in a program that imports on the way: it ends one that imports, and else interrupts it.

    Raises:
        KeyboardInterrupt: outside of imports.
    """
    at = frame
    while at is not None:
        if at.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, frame)
        at = at.f_back
    raise KeyboardInterrupt


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)  # an exception in the middle of an import may be told as a defect of that module
