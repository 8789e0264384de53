"""How a run ended, decided from what was observed. Pure."""

from __future__ import annotations

import re
import signal
from typing import Final

import msgspec

from dms.executors.limiter import Allowance, Reading
from dms_proto.units import format_bytes, format_millis
from dms_proto.work import Ending, EndReason, Usage

SIGNAL_BASE: Final = 128
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
KILLED: Final = SIGNAL_BASE + signal.SIGKILL
_EXEC_FAILED: Final = re.compile(r"bwrap: execvp (?P<what>.*): (?P<why>[^:]*)")
_TOO_LONG: Final = "Argument list too long"
_MAX_DETAIL: Final = 300


class Observed(msgspec.Struct, frozen=True):
    """Everything known about a run that is over.

    Attributes:
        exit_code: as bubblewrap reported it; None when the program never ran (or bubblewrap was killed).
        killed: why the node killed it or asked it to stop, and the detail; None when it did not.
        overdue: the launcher ended it because its wall time was over while no node was there.
        complaint: what stands in stderr; bubblewrap's own words when `exit_code` is None.
        last: final reading of its group.
    """

    exit_code: int | None
    killed: tuple[EndReason, str] | None
    overdue: bool
    complaint: str
    last: Reading


def judge(seen: Observed, allowance: Allowance, usage: Usage) -> Ending:
    """The one reason of the end. A limit the job ran into comes before the exit code it then had."""
    code = -1 if seen.exit_code is None else seen.exit_code
    if seen.killed is not None:
        return Ending(seen.killed[0], code, seen.killed[1], usage)
    # Where memory is only polled a process may have been refused more, and given up, before anybody saw it over its limit.
    gave_up = code > 0 and seen.last.memory_peak_bytes > allowance.memory_bytes
    if seen.last.oom_kills or gave_up:
        return Ending(EndReason.OUT_OF_MEMORY, code, over_memory(allowance, seen.last), usage)
    if seen.overdue:
        return Ending(EndReason.WALL_TIME, code, over_time(allowance), usage)
    if seen.exit_code is None:
        return _never_ran(seen.complaint, usage)
    return _by_exit_code(code, allowance, usage)


def over_memory(allowance: Allowance, reading: Reading) -> str:
    """Detail of OUT_OF_MEMORY."""
    return f"memory limit {format_bytes(allowance.memory_bytes)}, used {format_bytes(reading.memory_peak_bytes)}"


def over_time(allowance: Allowance) -> str:
    """Detail of WALL_TIME."""
    return f"wall time limit {format_millis(allowance.wall_ms)} reached"


def over_output(allowance: Allowance, written: int) -> str:
    """Detail of OUTPUT_LIMIT."""
    return f"output limit {format_bytes(allowance.log_bytes)}, wrote {format_bytes(written)}"


def over_disk(allowance: Allowance, used: int) -> str:
    """Detail of DISK_LIMIT."""
    return f"disk limit {format_bytes(allowance.disk_bytes)}, used {format_bytes(used)}"


def _by_exit_code(code: int, allowance: Allowance, usage: Usage) -> Ending:
    match code - SIGNAL_BASE:
        case _ if code == 0:
            return Ending(EndReason.COMPLETED, 0, "", usage)
        case signal.SIGXFSZ:
            return Ending(EndReason.DISK_LIMIT, code, f"a file over {format_bytes(allowance.disk_bytes)}", usage)
        case signal.SIGXCPU:
            return Ending(EndReason.WALL_TIME, code, "CPU time limit reached", usage)
        case number if number in _SIGNALS:
            return Ending(EndReason.KILLED_BY_SIGNAL, code, f"killed by {_SIGNALS[number]}", usage)
    return Ending(EndReason.EXIT_NONZERO, code, f"exit code {code}", usage)


def _never_ran(complaint: str, usage: Usage) -> Ending:
    line = complaint.strip().splitlines()[-1][:_MAX_DETAIL] if complaint.strip() else ""
    if failed := _EXEC_FAILED.fullmatch(line):
        code = NOT_FOUND if failed["why"] == "No such file or directory" else NOT_EXECUTABLE
        return Ending(EndReason.BAD_PROGRAM, code, f"{failed['what']}: {failed['why']}", usage)
    if line.startswith("launcher: ") and _TOO_LONG in line:
        return Ending(EndReason.BAD_PROGRAM, NOT_EXECUTABLE, "command and environment are too long", usage)
    return Ending(EndReason.PROVIDER_FAULT, -1, f"the sandbox failed: {line or 'it ended without a word'}", usage)


_SIGNALS: Final = {int(number): number.name for number in signal.Signals}
