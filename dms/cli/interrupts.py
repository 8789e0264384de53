"""The person has had enough: a signal cancels the job, a second one leaves it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from dms.cli.blocks import clean
from dms.cli.exit_codes import INTERRUPTED
from dms.rpc.api.jobs import JobParams
from dms.rpc.client import Client
from dms_proto.errors import DmsError
from dms_proto.ids import short

STDERR: Final = 2
CANCEL_TIMEOUT_S: Final = 5.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What happens when the person has had enough: the first signal asks to cancel, the second leaves at once.

    The handler does the work itself, on a connection of its own, so that reading the job's output is never torn in the middle. However soon the
    second one comes, the job is cancelled: it leaves when the node has been asked, not before.

    Args:
        path: of the node's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._job = ""
        self._is_asking = False
        self._is_leaving = False
        self._owes_cancel = False
        self.received = 0

    @property
    def exit_code(self) -> int | None:
        """130 after ctrl-C, 128 + N after signal N, None if there was none."""
        return 128 + self.received if self.received else None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Takes over the signals for a while."""
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def arm(self, job: str) -> None:
        """From here on there is a job to cancel, by its full id; one asked for earlier is cancelled now."""
        self._is_asking = self.received > 0
        self._job = job
        if self.received:
            self._ask()

    def ask_again(self) -> None:
        """For when the node is back: asks what it could not be asked while it was away."""
        if self._owes_cancel:
            self._owes_cancel = False
            self._ask()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self._is_asking = bool(self._job)  # before the next line: a second signal may come between any two
            self.received = number
            if self._job:
                self._ask()
            return
        self._is_leaving = True
        if not self._is_asking:
            self._leave()

    def _ask(self) -> None:
        """The second signal may come anywhere in here, and is handled in the middle of it."""
        self._is_asking = True
        try:
            with Client(self._path, timeout=CANCEL_TIMEOUT_S) as node:
                answer = node.ask("job.cancel", JobParams(self._job))
                self._has_asked()
                say("cancelling; ctrl-C again leaves at once")
                answer()
        except DmsError as error:
            self._owes_cancel = error.code == "node_not_running"
            self._has_asked()
            later = "; it will be when the node is back, ctrl-C again leaves at once" if self._owes_cancel else ""
            say(f"{short(self._job)} could not be cancelled: {error.message}{later}")

    def _has_asked(self) -> None:
        self._is_asking = False
        if self._is_leaving:
            self._leave()

    def _leave(self) -> NoReturn:
        if self._job:
            job = short(self._job)
            say(f"left; {job} may still be running: dms job show {job} tells, dms job cancel {job} stops it")
        else:
            say("left before the node had taken the job; if it did take it, dms job list shows it")
        os._exit(INTERRUPTED)  # nothing is to be finished: that is what the second ctrl-C means


def cancel_on_own_connection(path: Path, job: str) -> None:
    """Asks the node to cancel a job, over a connection of its own.

    Raises:
        DmsError: it could not be asked.
    """
    with Client(path, timeout=CANCEL_TIMEOUT_S) as node:
        node.call("job.cancel", JobParams(job))


def say(text: str) -> None:
    """A line of our own on standard error.

    Straight to the descriptor: a signal may come in the middle of it and has something to say itself, which Python's own streams refuse.
    """
    os.write(STDERR, f"dms: {clean(text)}\n".encode(errors="replace"))
