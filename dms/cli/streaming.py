"""Following a job to its end: its output becomes ours, and a connection that breaks is taken up again.

The job's bytes go to standard output and error as they are, without a word between them. What dms itself has to say goes to standard error, and only
where a person sees it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dms.cli.exit_codes import NOT_RUN
from dms.cli.interrupts import say
from dms.cli.log_printing import BEGAN_AGAIN, GOES_ON
from dms.cli.patience import Patience
from dms.cli.progress import Progress
from dms.cli.views.words import ending
from dms.rpc.api.jobs import (
    AnyJobUpdate,
    JobEnded,
    JobLog,
    JobPhase,
    JobProgress,
    JobView,
    SlotProgress,
    WatchJobParams,
    read_update,
)
from dms.rpc.client import Client, ConnectionLost
from dms_proto.checkpoints import leaves_checkpoint
from dms_proto.errors import DmsError
from dms_proto.ids import RequestId, short
from dms_proto.units import format_count, format_credits, format_millis
from dms_proto.work import EndReason

RECONNECT_S: Final = 30.0
"""How long a node may be away (it may be restarting) before its job is left to itself."""
POLL_S: Final = 0.2
EARLY_S: Final = 0.01
"""More than a timer may come too early by."""
FAILURES_TOLD: Final = 5
"""Slots that are named when many failed; `dms job show` names all."""


class JobAnswered(msgspec.Struct, frozen=True, tag="answered"):
    """Nothing is run: an earlier job is the answer (`cache`). The first line of JSON, before what that one did.

    Attributes:
        job_id: of the earlier one.
        answered_at: Unix ms when it ended.
    """

    job_id: RequestId
    answered_at: int


def print_line(update: msgspec.Struct) -> None:
    """Prints an update as a line of JSON."""
    sys.stdout.write(msgspec.json.encode(update).decode() + "\n")
    sys.stdout.flush()


class Watcher:
    """Prints what a job does until it is over.

    Args:
        path: of the node's socket.
        job: its full id.
        quiet: say nothing besides the job's own output.
        as_json: print every update as a line of JSON instead.
        came_back: called when the node answers again after it was away.
    """

    def __init__(
        self, path: Path, job: str, *, quiet: bool, as_json: bool, came_back: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._job = job
        self._quiet = quiet or as_json
        self._patience = Patience()
        self._waiting = threading.Lock()
        self._talks = not self._quiet and sys.stderr.isatty()
        self._as_json = as_json
        self._came_back = came_back
        self._attempts: dict[int, int] = {}
        self._read_to: dict[tuple[int, int, str], int] = {}
        self._open_lines: set[tuple[int, str]] = set()
        self._told_doing: set[tuple[int, int]] = set()
        self._at_checkpoint: set[int] = set()
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
                        self._show(update, progress)
                        if isinstance(update, JobEnded):
                            return update.job
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
                node = Client(self._path)
            except DmsError:
                if time.monotonic() > deadline:
                    raise
            else:
                self._came_back()
                return node
            time.sleep(POLL_S)

    def _show(self, update: AnyJobUpdate, progress: Progress) -> None:
        if isinstance(update, JobEnded | SlotProgress):
            with self._waiting:
                self._patience.over()
        if isinstance(update, JobLog):
            update = self._unread(update)
            if not update.data:
                return
        if self._as_json:
            print_line(update)
            return
        match update:
            case JobProgress():
                progress.say(f"{short(self._job)}: {update.text}")
                self._tell_waiting(update)
            case SlotProgress():
                if update.ending is not None and leaves_checkpoint(update.ending):
                    self._at_checkpoint.add(update.slot)
                self._tell_phase(update, progress)
            case JobLog():
                progress.stop()
                self._write(update)

    def _tell_phase(self, update: SlotProgress, progress: Progress) -> None:
        """What a provider does before it can run may take minutes, so a log file has its first line, as a terminal has every one."""
        doing = f": {update.doing}" if update.doing else ""
        text = f"{short(self._job)}: {update.phase.value} on {short(update.provider)}{doing}"
        progress.say(text)
        attempt = (update.slot, update.attempt)
        if doing and not self._quiet and not self._talks and attempt not in self._told_doing:
            self._told_doing.add(attempt)
            say(text)

    def _unread(self, log: JobLog) -> JobLog:
        """What of it is new. A node that was restarted counts its updates anew and tells everything again: a log's offset alone stays what it was."""
        key = (log.slot, log.attempt, log.stream)
        end = log.offset + len(log.data)
        new = min(max(end - self._read_to.get(key, 0), 0), len(log.data))
        self._read_to[key] = max(end, self._read_to.get(key, 0))
        return msgspec.structs.replace(log, offset=end - new, data=log.data[len(log.data) - new :])

    def _tell_waiting(self, update: JobProgress) -> None:
        """A job that waits says for what, to a log file as to a terminal: nobody should have to guess."""
        if update.phase is not JobPhase.WAITING or self._quiet:
            return
        with self._waiting:
            was_due = self._patience.due
            self._patience.waits(
                f"{short(self._job)} waits: {update.text}; dms job explain {short(self._job)}", time.monotonic()
            )
            due = self._patience.due
        if due is not None and was_due is None:
            timer = threading.Timer(due - time.monotonic() + EARLY_S, self._say_waiting)
            timer.daemon = True
            timer.start()

    def _say_waiting(self) -> None:
        with self._waiting:
            text = self._patience.take(time.monotonic())
        if text:
            say(text)

    def _write(self, log: JobLog) -> None:
        previous = self._attempts.setdefault(log.slot, log.attempt)
        if log.attempt < previous:
            return  # void since a later one began
        if log.attempt > previous:
            self._attempts[log.slot] = log.attempt
            say(f"slot {log.slot} {GOES_ON if log.slot in self._at_checkpoint else BEGAN_AGAIN}")
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
    """The job's own exit code: of its first piece that did not end with 0. 125 when one never ran, or nobody knows what it gives."""
    if job.summary.reason is EndReason.COMPLETED:
        return 0
    for slot in job.outcomes:
        if slot.ending is not None and slot.ending.exit_code > 0:
            return slot.ending.exit_code
    return NOT_RUN


def has_run(job: JobView) -> bool:
    """Whether it got so far that something of it ended with a code of its own or a signal."""
    return any(slot.ending is not None and slot.ending.exit_code >= 0 for slot in job.slots)


def failures(job: JobView, where: str) -> list[str]:
    """Which slots of several failed, and how; nothing when none did.

    Args:
        job: that is over.
        where: the command that tells more.
    """
    failed = [
        (slot.index, slot.ending)
        for slot in job.outcomes
        if slot.ending is not None and slot.ending.reason is not EndReason.COMPLETED
    ]
    if not failed:
        return []
    told = [f"slot {index}: {ending(end)}" for index, end in failed[:FAILURES_TOLD]]
    more = [f"and {len(failed) - FAILURES_TOLD} more"] if len(failed) > FAILURES_TOLD else []
    return [f"{len(failed)} of {format_count(len(job.outcomes), 'slot')} failed: {', '.join(told + more)}; {where}"]


def summary_line(job: JobView) -> str:
    """Where it ran, how long and for how much."""
    summary = job.summary
    nodes = sorted({short(slot.attempts[-1].provider) for slot in job.slots if slot.attempts})
    where = f"on {', '.join(nodes)}" if nodes else "nowhere"
    took = format_millis(max(0, summary.ended_at - summary.submitted_at))
    return f"{short(summary.job_id)} ran {where} in {took} for {format_credits(summary.price)}"
