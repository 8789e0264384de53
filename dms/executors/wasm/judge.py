"""How a module ended, from what the worker reported and what the sandbox saw. Pure.

The report comes from inside the sandbox: it may be missing, torn or a lie. A lie can only be about the job itself; what the node saw on its own (a
limit it enforced, a cancellation) comes first.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from dms.executors.sandbox.program import Judge
from dms_proto.units import MAX_QUANTITY, format_bytes
from dms_proto.untrusted import read_json
from dms_proto.work import Ending, EndReason

NEARLY_FULL: Final = 0.9
"""A module that traps with more than this share of its memory used is taken to have failed for lack of it: a refused `memory.grow` is only a
value."""
_OWN: Final = frozenset(
    {EndReason.COMPLETED, EndReason.EXIT_NONZERO, EndReason.KILLED_BY_SIGNAL, EndReason.DISK_LIMIT, EndReason.WALL_TIME}
)
"""What the sandbox concludes from the worker's exit code alone."""


class Report(msgspec.Struct, frozen=True):
    """The worker's last words.

    Attributes:
        end: what happened: the module ended, trapped, ran out of fuel, time or memory, or was none.
        code: exit code.
        detail: the trap's or compiler's message.
        fuel: used.
        memory: bytes of linear memory at the end.
    """

    end: Literal["exit", "trap", "out_of_fuel", "deadline", "memory", "bad"]
    code: int
    detail: str = ""
    fuel: int = 0
    memory: int = 0


def judge_of(memory_limit: int, fuel_limit: int) -> Judge:
    """The judge of one task."""

    def judge(ending: Ending, result: bytes) -> Ending:
        try:
            report = read_json(result, Report)
        except msgspec.DecodeError:
            return _without_report(ending)
        fuel = max(0, min(report.fuel, MAX_QUANTITY))
        usage = msgspec.structs.replace(ending.usage, fuel=fuel)
        ending = msgspec.structs.replace(ending, usage=usage)
        if ending.reason not in _OWN or (ending.reason is EndReason.WALL_TIME and ending.exit_code != report.code):
            return ending
        reason, detail = _reason(report, memory_limit, fuel_limit)
        return msgspec.structs.replace(ending, reason=reason, detail=detail)

    return judge


def _reason(report: Report, memory_limit: int, fuel_limit: int) -> tuple[EndReason, str]:
    if report.end == "trap":
        return _of_trap(report, memory_limit)
    limit = format_bytes(memory_limit)
    if report.end == "exit" and report.code == 0:
        return EndReason.COMPLETED, ""
    return {
        "exit": (EndReason.EXIT_NONZERO, f"exit code {report.code}"),
        "out_of_fuel": (EndReason.OUT_OF_FUEL, f"fuel limit {fuel_limit}, used {report.fuel}"),
        "deadline": (EndReason.WALL_TIME, "wall time limit reached"),
        "memory": (EndReason.OUT_OF_MEMORY, f"memory limit {limit}: {report.detail}"),
        "bad": (EndReason.BAD_PROGRAM, report.detail),
    }[report.end]


def _of_trap(report: Report, memory_limit: int) -> tuple[EndReason, str]:
    if report.memory > NEARLY_FULL * memory_limit:
        used = f"memory limit {format_bytes(memory_limit)}, used {format_bytes(report.memory)}"
        return EndReason.OUT_OF_MEMORY, f"{used}; {report.detail}"
    return EndReason.EXIT_NONZERO, report.detail


def _without_report(ending: Ending) -> Ending:
    """The worker ended without a word: killed, crashed, or it could not even begin."""
    if ending.reason in (EndReason.COMPLETED, EndReason.EXIT_NONZERO):
        return msgspec.structs.replace(
            ending, reason=EndReason.PROVIDER_FAULT, detail=f"the worker failed with exit code {ending.exit_code}"
        )
    return ending
