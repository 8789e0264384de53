from __future__ import annotations

import signal

import pytest

from dms.executors.limiter import Allowance, Reading
from dms.executors.sandbox import verdict
from dms.executors.sandbox.verdict import Observed
from dms_proto.units import MIB
from dms_proto.work import Ending, EndReason, Usage

ALLOWANCE = Allowance(1000, 64 * MIB, 10, 20 * MIB, MIB, 60_000)
USAGE = Usage(wall_ms=5)


def judge(
    exit_code: int | None,
    *,
    killed: tuple[EndReason, str] | None = None,
    overdue: bool = False,
    complaint: str = "",
    oom_kills: int = 0,
    peak_bytes: int = 64 * MIB,
) -> Ending:
    last = Reading(memory_peak_bytes=peak_bytes, oom_kills=oom_kills)
    return verdict.judge(Observed(exit_code, killed, overdue, complaint, last), ALLOWANCE, USAGE)


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (0, EndReason.COMPLETED),
        (1, EndReason.EXIT_NONZERO),
        (126, EndReason.EXIT_NONZERO),
        (127, EndReason.EXIT_NONZERO),
        (128, EndReason.EXIT_NONZERO),
        (200, EndReason.EXIT_NONZERO),
        (255, EndReason.EXIT_NONZERO),
        (128 + signal.SIGKILL, EndReason.KILLED_BY_SIGNAL),
        (128 + signal.SIGSEGV, EndReason.KILLED_BY_SIGNAL),
        (128 + signal.SIGXFSZ, EndReason.DISK_LIMIT),
        (128 + signal.SIGXCPU, EndReason.WALL_TIME),
    ],
)
def test_an_exit_code_means_what_shells_mean_by_it(exit_code: int, reason: EndReason) -> None:
    ending = judge(exit_code)
    assert (ending.reason, ending.exit_code) == (reason, exit_code)
    assert bool(ending.detail) == (exit_code != 0)
    assert ending.usage == USAGE


def test_the_nodes_own_reason_comes_first() -> None:
    ending = judge(0, killed=(EndReason.CANCELLED, "stopped"), oom_kills=1, overdue=True)
    assert (ending.reason, ending.exit_code, ending.detail) == (EndReason.CANCELLED, 0, "stopped")


def test_a_program_that_gives_up_over_its_memory_is_out_of_memory_though_nobody_saw_it_there() -> None:
    ending = judge(1, peak_bytes=64 * MIB + 1)

    assert (ending.reason, ending.exit_code) == (EndReason.OUT_OF_MEMORY, 1)
    assert judge(0, peak_bytes=64 * MIB + 1).reason is EndReason.COMPLETED


def test_a_kill_for_memory_counts_even_if_the_program_survived_it() -> None:
    ending = judge(0, oom_kills=1)
    assert ending.reason is EndReason.OUT_OF_MEMORY
    assert ending.detail == "memory limit 64 MiB, used 64 MiB"


def test_what_the_launcher_ended_was_over_its_time() -> None:
    assert judge(None, overdue=True).reason is EndReason.WALL_TIME


@pytest.mark.parametrize(
    ("complaint", "reason", "exit_code"),
    [
        ("bwrap: execvp nosuch: No such file or directory\n", EndReason.BAD_PROGRAM, 127),
        ("bwrap: execvp ./a: b: No such file or directory\n", EndReason.BAD_PROGRAM, 127),
        ("bwrap: execvp ./x: Permission denied\n", EndReason.BAD_PROGRAM, 126),
        ("bwrap: execvp ./x: Exec format error\n", EndReason.BAD_PROGRAM, 126),
        ("launcher: [Errno 7] Argument list too long: '/usr/bin/bwrap'\n", EndReason.BAD_PROGRAM, 126),
        ("bwrap: setting up uid map: Permission denied\n", EndReason.PROVIDER_FAULT, -1),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", EndReason.PROVIDER_FAULT, -1),
        ("launcher: [Errno 13] Permission denied: '/usr/bin/bwrap'", EndReason.PROVIDER_FAULT, -1),
        ("", EndReason.PROVIDER_FAULT, -1),
    ],
)
def test_who_is_to_blame_for_a_program_that_never_ran(complaint: str, reason: EndReason, exit_code: int) -> None:
    ending = judge(None, complaint=complaint)
    assert (ending.reason, ending.exit_code) == (reason, exit_code)
    assert ending.detail


def test_a_program_cannot_blame_the_provider_by_its_own_words() -> None:
    assert judge(1, complaint="bwrap: setting up uid map: Permission denied").reason is EndReason.EXIT_NONZERO
