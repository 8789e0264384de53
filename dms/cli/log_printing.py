"""Printing logs, from wherever they are read, once or as they grow.

One log is printed byte by byte. Of several, whole lines are, each with a word before it that says whose it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from dms.cli.context import Io
from dms.rpc.api.allocations import AllocationLogParams, AllocationReadParams, LogPart
from dms.rpc.api.jobs import JobLogParams
from dms.rpc.client import Client
from dms_proto.errors import UserError
from dms_proto.units import format_count, parse_millis

POLL_S: Final = 0.2
LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line that are waited for; of a longer one the rest counts as another."""


class AllocationLog:
    """The log of one allocation.

    Args:
        node: where it is read.
        method: by which.
        params: which one, and from where on.
    """

    def __init__(self, node: Client, method: str, params: AllocationLogParams | AllocationReadParams) -> None:
        self._node = node
        self._method = method
        self._params = params
        self.name = ""

    def read(self) -> LogPart:
        """The next part."""
        part = self._node.call(self._method, self._params, LogPart)
        self._params = msgspec.structs.replace(self._params, offset=part.next_offset)
        return part


class JobLog:
    """The log of one slot of a job; of another attempt, when the slot begins again.

    Args:
        node: where it is read.
        params: of which job, and from where on.
        slot: which slot.
        count: how many the job has.
    """

    def __init__(self, node: Client, params: JobLogParams, slot: int, count: int) -> None:
        self._node = node
        self._params = msgspec.structs.replace(params, slot=slot)
        self._attempt = 0
        self.name = f"slot {slot}" if count > 1 else ""
        self.slot = slot

    def read(self) -> LogPart:
        """The next part."""
        part = self._node.call("job.logs", self._params, LogPart)
        if self._attempt and part.attempt > self._attempt:
            part = self._node.call("job.logs", msgspec.structs.replace(self._params, offset=0), LogPart)
        self._attempt = part.attempt
        self._params = msgspec.structs.replace(self._params, offset=part.next_offset)
        return part


def print_logs(io: Io, logs: Sequence[AllocationLog | JobLog], *, follow: bool) -> None:
    """Prints all there is, and, if asked to, what comes until all of them are complete."""
    printing = [_Printing(io, log, by_line=len(logs) > 1) for log in logs]
    while printing:
        has_come = [one.step() for one in printing]
        printing = [one for one in printing if not one.is_complete]
        if not any(has_come):
            if not follow:
                break
            if printing:
                time.sleep(POLL_S)
    for one in printing:
        one.finish()


def since_ms(when: str | None) -> int:
    """What somebody calls a time, in Unix ms; 0 for none.

    Raises:
        UserError: `bad_argument`.
    """
    if when is None:
        return 0
    now = time.time_ns() // 1_000_000
    if when == "now":
        return now
    try:
        return max(1, now - parse_millis(when))
    except ValueError:
        pass
    try:
        return max(1, int(datetime.fromisoformat(when).timestamp() * 1000))
    except (ValueError, OverflowError):
        what = f"--since {when!r} is no span such as 10m, no time such as 2026-11-28T01:30, and not now"
        raise UserError("bad_argument", what) from None


BEGAN_AGAIN: Final = "began again; what it printed before is void"
GOES_ON: Final = "goes on from its last checkpoint"


class _Printing:
    """One log on its way to standard output."""

    def __init__(self, io: Io, log: AllocationLog | JobLog, *, by_line: bool) -> None:
        self._io = io
        self._log = log
        self._lines = _Lines(f"[{log.slot}] ".encode()) if by_line and isinstance(log, JobLog) else None
        self._attempt = 0
        self.is_complete = False

    def step(self) -> bool:
        """Prints the next part; whether there was anything."""
        part = self._log.read()
        if self._attempt and part.attempt > self._attempt:
            self._write(self._lines.rest() if self._lines else b"")
            self._remark(GOES_ON if part.goes_on else BEGAN_AGAIN)
        self._attempt = part.attempt
        if part.missing:
            self._write(self._lines.rest() if self._lines else b"")
            first = part.offset - part.missing if part.data else part.offset
            many = format_count(part.missing, "byte")
            self._remark(f"{many} from byte {first} on did not arrive here before the node was lost")
        self._write(self._lines.take(part.data) if self._lines else part.data)
        self.is_complete = part.complete
        if part.complete:
            self.finish()
        return bool(part.data)

    def finish(self) -> None:
        """Prints what was held back."""
        if self._lines:
            self._write(self._lines.rest())

    def _write(self, data: bytes) -> None:
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def _remark(self, text: str) -> None:
        self._io.remark(f"{self._log.name}: {text}" if self._log.name else text)


class _Lines:
    """Makes whole lines with a prefix out of bytes."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._open = b""

    def take(self, data: bytes) -> bytes:
        """The lines that are whole now."""
        *whole, self._open = (self._open + data).split(b"\n")
        text = b"".join(b"%b%b\n" % (self._prefix, line) for line in whole)
        return text + self.rest() if len(self._open) > LONGEST_LINE else text

    def rest(self) -> bytes:
        """The last line, as if it had ended."""
        line, self._open = self._open, b""
        return b"%b%b\n" % (self._prefix, line) if line else b""
