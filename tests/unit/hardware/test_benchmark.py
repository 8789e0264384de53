from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from dms.hardware.benchmark import Benchmark, Metric, distrust, score_of
from dms.hardware.kernels import CHAIN, KERNELS, rate
from dms_proto.verification.spot_work import ROUND, arguments, rounds_for, score_in


def metric(ratio: float, name: str = "x") -> Metric:
    return Metric(name, ratio * 10, "MB/s", 10.0)


def test_the_reference_core_scores_a_thousand() -> None:
    assert score_of(tuple(Metric(k.name, k.reference, k.unit, k.reference) for k in KERNELS)) == 1000


def test_only_what_a_spot_check_measures_counts_for_the_score() -> None:
    assert score_of((metric(2.0, CHAIN.name), metric(9.0), metric(0.1, "y"))) == 2000
    assert score_of((metric(9.0),)) == score_of(()) == 0


@pytest.mark.parametrize("round_us", [3_000, 12_100, 60_000])
def test_what_the_benchmark_finds_a_spot_check_finds(round_us: int) -> None:
    claimed = score_of((Metric(CHAIN.name, 1_000_000 / round_us, CHAIN.unit, CHAIN.reference),))
    rounds = rounds_for(claimed)
    assert score_in(rounds, rounds * round_us // 1000) == pytest.approx(claimed, rel=0.01)


def test_the_benchmark_times_what_a_spot_check_asks_for() -> None:
    program: dict[str, Any] = {}
    exec(ROUND, program)
    seed = hashlib.sha256(b"seed").digest()
    twice = program["a_round"](program["a_round"](seed))
    printed = subprocess.run([sys.executable, *arguments(b"seed", 2)], capture_output=True, check=True).stdout
    assert printed == twice.hex().encode() + b"\n"


@pytest.mark.parametrize(
    ("idle", "others", "steal", "says"),
    [
        (1000, 0, 0, ""),
        (700, 300, 100, ""),
        (699, 0, 0, "70 % idle before the run"),
        (1000, 301, 0, "other programs used 30 %"),
        (1000, 0, 101, "hypervisor kept 10 %"),
    ],
)
def test_a_disturbed_run_is_not_trusted_and_says_why(idle: int, others: int, steal: int, says: str) -> None:
    reason = distrust(idle, others, steal)
    assert (says in reason) if says else reason == ""


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_does_work_at_a_rate(kernel: object) -> None:
    work = kernel.prepare()  # type: ignore[attr-defined]
    assert work() > 0
    assert rate(work, 0.0) > 0


def test_the_rate_counts_all_work_over_at_least_the_asked_time() -> None:
    calls = []

    def work() -> int:
        calls.append(1)
        return sum(range(1000)) * 0 + 7

    per_second = rate(work, 0.01)
    assert per_second <= 7 * len(calls) / 0.01


def test_a_result_survives_its_encoding() -> None:
    result = Benchmark(at_ms=5, score=900, metrics=(metric(1.5),), trusted=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=Benchmark) == result
    assert msgspec.json.decode(msgspec.json.encode(result), type=Benchmark) == result
