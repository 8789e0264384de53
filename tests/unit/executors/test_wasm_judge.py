from __future__ import annotations

import msgspec
import pytest

from dms.executors.wasm.judge import judge_of
from dms_proto.units import MIB
from dms_proto.work import Ending, EndReason, Usage


def judge(ending: Ending, **report: object) -> Ending:
    return judge_of(64 * MIB, 1000)(ending, msgspec.json.encode(report) if report else b"")


def exited(code: int, reason: EndReason = EndReason.EXIT_NONZERO) -> Ending:
    return Ending(reason if code else EndReason.COMPLETED, code, "", Usage(wall_ms=5))


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"end": "exit", "code": 0}, EndReason.COMPLETED),
        ({"end": "exit", "code": 3}, EndReason.EXIT_NONZERO),
        ({"end": "out_of_fuel", "code": 134}, EndReason.OUT_OF_FUEL),
        ({"end": "deadline", "code": 134}, EndReason.WALL_TIME),
        ({"end": "memory", "code": 134}, EndReason.OUT_OF_MEMORY),
        ({"end": "bad", "code": 126}, EndReason.BAD_PROGRAM),
        ({"end": "trap", "code": 134}, EndReason.EXIT_NONZERO),
        ({"end": "trap", "code": 134, "memory": 60 * MIB}, EndReason.OUT_OF_MEMORY),
    ],
)
def test_the_workers_report_names_the_reason(report: dict[str, object], reason: EndReason) -> None:
    code = int(str(report["code"]))
    ending = judge(exited(code), **report, fuel=77)
    assert (ending.reason, ending.exit_code, ending.usage.fuel) == (reason, code, 77)
    assert ending.usage.wall_ms == 5


@pytest.mark.parametrize(
    "reason", [EndReason.CANCELLED, EndReason.OUT_OF_MEMORY, EndReason.OUTPUT_LIMIT, EndReason.PROVIDER_FAULT]
)
def test_what_the_node_saw_itself_comes_before_the_report(reason: EndReason) -> None:
    ending = judge(exited(137, reason), end="exit", code=0, fuel=5)
    assert ending.reason is reason


def test_a_worker_without_a_report_is_the_providers_fault() -> None:
    assert judge(exited(1)).reason is EndReason.PROVIDER_FAULT
    assert judge(exited(0)).reason is EndReason.PROVIDER_FAULT


def test_a_worker_killed_by_a_signal_is_what_it_is() -> None:
    assert judge(exited(139, EndReason.KILLED_BY_SIGNAL)).reason is EndReason.KILLED_BY_SIGNAL


@pytest.mark.parametrize("result", [b"{", b'{"end":"won","code":0}', b'{"end":"exit"}', b"\xff" * 100])
def test_a_report_that_is_none_is_ignored(result: bytes) -> None:
    assert judge_of(MIB, 0)(exited(0), result).reason is EndReason.PROVIDER_FAULT


@pytest.mark.parametrize("fuel", [-5, 1 << 62])
def test_fuel_beyond_any_sense_is_cut(fuel: int) -> None:
    assert 0 <= judge(exited(0), end="exit", code=0, fuel=fuel).usage.fuel <= 1 << 53
