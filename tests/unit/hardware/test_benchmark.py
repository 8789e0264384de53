from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.benchmark import Benchmark, Metric, distrust, score_of
from dms.hardware.kernels import KERNELS, rate


def metric(ratio: float, name: str = "x") -> Metric:
    return Metric(name, ratio * 10, "MB/s", 10.0)


def test_the_reference_core_scores_a_thousand() -> None:
    assert score_of(tuple(Metric(k.name, k.reference, k.unit, k.reference) for k in KERNELS)) == 1000


def test_doubling_any_one_metric_counts_the_same() -> None:
    base = [1.0, 3.0, 0.2]
    scores = {score_of(tuple(metric(r * (2 if i == j else 1)) for i, r in enumerate(base))) for j in range(3)}
    assert len(scores) == 1


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.floats(1.001, 10))
def test_a_faster_metric_never_lowers_the_score(ratios: list[float], factor: float) -> None:
    before = score_of(tuple(metric(ratio) for ratio in ratios))
    assert score_of((metric(ratios[0] * factor), *(metric(ratio) for ratio in ratios[1:]))) >= before


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_the_score_lies_between_the_slowest_and_the_fastest_metric(ratios: list[float]) -> None:
    score = score_of(tuple(metric(ratio) for ratio in ratios))
    assert round(1000 * min(ratios)) - 1 <= score <= round(1000 * max(ratios)) + 1


def test_nothing_measured_scores_nothing() -> None:
    assert score_of(()) == 0
    assert score_of((metric(1.0), metric(0.0))) == 0


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
