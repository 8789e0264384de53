"""Following a job to its end: its output becomes ours, ctrl-C cancels it, and a connection that breaks is taken up again.

The job's bytes go to standard output and error as they are, without a word between them. What dms itself has to say goes to standard error, and only
where a person sees it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from dms.cli.blocks import clean
from dms.cli.exit_codes import INTERRUPTED, NOT_RUN
from dms.cli.progress import QUIET_S, Progress
from dms.rpc.api.jobs import (
    AnyJobUpdate,
    JobEnded,
    JobLog,
    JobParams,
    JobPhase,
    JobProgress,
    JobView,
    SlotProgress,
    WatchJobParams,
    read_update,
)
from dms.rpc.client import Client, ConnectionLost
from dms_proto.errors import DmsError
from dms_proto.ids import short
from dms_proto.units import format_credits, format_millis
from dms_proto.work import EndReason

RECONNECT_S: Final = 30.0
"""How long a node may be away (it may be restarting) before its job is left to itself."""
STDERR: Final = 2
POLL_S: Final = 0.2
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
                _say("cancelling; ctrl-C again leaves at once")
                answer()
        except DmsError as error:
            self._has_asked()
            _say(f"could not be cancelled: {error.message}")

    def _has_asked(self) -> None:
        self._is_asking = False
        if self._is_leaving:
            self._leave()

    def _leave(self) -> NoReturn:
        if self._job:
            job = short(self._job)
            _say(f"left; {job} may still be running: dms job show {job} tells, dms job cancel {job} stops it")
        else:
            _say("left before the node had taken the job; if it did take it, dms job list shows it")
        os._exit(INTERRUPTED)  # nothing is to be finished: that is what the second ctrl-C means


class Watcher:
    """Prints what a job does until it is over.

    Args:
        path: of the node's socket.
        job: its full id.
        quiet: say nothing besides the job's own output.
        as_json: print every update as a line of JSON instead.
    """

    def __init__(self, path: Path, job: str, *, quiet: bool, as_json: bool) -> None:
        self._path = path
        self._job = job
        self._quiet = quiet or as_json
        self._waits_for = ""
        self._waiting = threading.Timer(QUIET_S, _say, ("",))  # the one to cancel; this first one is never started
        self._talks = not self._quiet and sys.stderr.isatty()
        self._as_json = as_json
        self._attempts: dict[int, int] = {}
        self._open_lines: set[tuple[int, str]] = set()
        self._count = 1

    def watch(self, node: Client, count: int) -> JobView:
        """Follows the job to its end, coming back after a break.

        Raises:
            DmsError: the node stayed away, or does not know the job.
        """
        self._count = count
        since = 0
        with Progress(f"{short(self._job)}: asking", enabled=self._talks) as progress:
            while True:
                try:
                    for item in node.follow("job", WatchJobParams(self._job, since)):
                        update = read_update(item)
                        since = update.id
                        if isinstance(update, JobEnded):
                            self._show(update, progress)
                            return update.job
                        self._show(update, progress)
                    raise ConnectionLost(
                        "node_not_running", "the job's feed ended before the job", hint=f"dms job show {self._job}"
                    )
                except ConnectionLost:
                    node = self._reconnect(progress)

    def _reconnect(self, progress: Progress) -> Client:
        progress.say(f"{short(self._job)}: waiting for the node to come back")
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                return Client(self._path)
            except DmsError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    def _show(self, update: AnyJobUpdate, progress: Progress) -> None:
        if isinstance(update, JobEnded | SlotProgress):
            self._waiting.cancel()
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(update).decode() + "\n")
            sys.stdout.flush()
            return
        match update:
            case JobProgress():
                progress.say(f"{short(self._job)}: {update.text}")
                self._tell_waiting(update)
            case SlotProgress():
                progress.say(f"{short(self._job)}: {update.phase.value} on {short(update.provider)}")
            case JobLog():
                progress.stop()
                self._write(update)

    def _tell_waiting(self, update: JobProgress) -> None:
        """A job that still waits after a second says for what, to a log file as to a terminal: nobody should have to guess."""
        text = f"{short(self._job)} waits: {update.text}; dms job explain {short(self._job)}"
        if update.phase is JobPhase.WAITING and text == self._waits_for:
            return
        self._waiting.cancel()
        if update.phase is JobPhase.WAITING and not self._quiet:
            self._waits_for = text
            self._waiting = threading.Timer(QUIET_S, _say, (text,))
            self._waiting.daemon = True
            self._waiting.start()

    def _write(self, log: JobLog) -> None:
        previous = self._attempts.get(log.slot, log.attempt)
        self._attempts[log.slot] = log.attempt
        if log.attempt != previous:
            _say(f"slot {log.slot} began again; what it printed before is void")
        stream = sys.stderr.buffer if log.stream == "stderr" else sys.stdout.buffer
        stream.write(log.data if self._count == 1 else self._prefixed(log))
        stream.flush()

    def _prefixed(self, log: JobLog) -> bytes:
        """With several allocations, each line says whose it is."""
        key = (log.slot, log.stream)
        prefix = f"[{log.slot}] ".encode()
        lines = log.data.splitlines(keepends=True)
        text = b"".join(
            line if number == 0 and key in self._open_lines else prefix + line for number, line in enumerate(lines)
        )
        if log.data.endswith(b"\n"):
            self._open_lines.discard(key)
        elif log.data:
            self._open_lines.add(key)
        return text


def exit_code_of(job: JobView) -> int:
    """The job's own exit code: of its first slot that did not end with 0. 125 when a slot never ran."""
    if job.summary.reason is EndReason.COMPLETED:
        return 0
    for slot in job.slots:
        if slot.ending is not None and slot.ending.exit_code > 0:
            return slot.ending.exit_code
    return NOT_RUN


def has_run(job: JobView) -> bool:
    """Whether it got so far that something of it ended with a code of its own or a signal."""
    return any(slot.ending is not None and slot.ending.exit_code >= 0 for slot in job.slots)


def summary_line(job: JobView) -> str:
    """Where it ran, how long and for how much."""
    summary = job.summary
    nodes = sorted({short(slot.attempts[-1].provider) for slot in job.slots if slot.attempts})
    where = f"on {', '.join(nodes)}" if nodes else "nowhere"
    took = format_millis(max(0, summary.ended_at - summary.submitted_at))
    return f"{short(summary.job_id)} ran {where} in {took} for {format_credits(summary.price)}"


def cancel_on_own_connection(path: Path, job: str) -> None:
    """Asks the node to cancel a job, over a connection of its own.

    Raises:
        DmsError: it could not be asked.
    """
    with Client(path, timeout=CANCEL_TIMEOUT_S) as node:
        node.call("job.cancel", JobParams(job))


def _say(text: str) -> None:
    """Straight to the descriptor: a signal may come in the middle of it and has something to say itself, which Python's own streams refuse."""
    os.write(STDERR, f"dms: {clean(text)}\n".encode(errors="replace"))
