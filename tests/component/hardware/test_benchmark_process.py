"""The benchmark as the node runs it: in a process of its own, on the real machine."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from pathlib import Path

import pytest

from dms.hardware.benchmark import METHOD, VERSION, Benchmark, Progress, run_benchmark
from dms.hardware.kernels import KERNELS

GENEROUS = 3.0
"""Quick runs on a machine shared with other tests may differ by this factor; bench/hardware.py measures the real spread of full runs."""


@pytest.mark.slow
async def test_three_quick_runs_agree_and_say_how_and_when_they_measured(tmp_path: Path) -> None:
    results = [await run_benchmark(tmp_path, quick=True) for _ in range(3)]
    for result in results:
        assert (result.method, result.version, result.quick) == (METHOD, VERSION, True)
        assert result.at_ms > 1_700_000_000_000
        assert {metric.name for metric in result.metrics} == {kernel.name for kernel in KERNELS}
        assert all(metric.value > 0 and metric.slices >= 1 for metric in result.metrics)
        assert 0 < result.effective_cores_milli <= len(os.sched_getaffinity(0)) * 1000
        assert result.trusted == (result.reason == "")
    scores = [result.score for result in results]
    assert max(scores) <= GENEROUS * min(scores)
    assert _names(tmp_path) == []


@pytest.mark.slow
async def test_benchmarks_started_together_take_turns(tmp_path: Path) -> None:
    results = await asyncio.gather(*(run_benchmark(tmp_path, quick=True) for _ in range(3)))
    intervals = sorted((result.at_ms - result.duration_ms, result.at_ms) for result in results)
    for (_, end), (start, _) in pairwise(intervals):
        assert start >= end - 20  # both ends are rounded to clock milliseconds


@pytest.mark.slow
async def test_progress_is_told_in_order_and_the_loop_stays_free(tmp_path: Path) -> None:
    told: list[Progress] = []
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    result = await run_benchmark(tmp_path, quick=True, on_progress=told.append)
    counter.cancel()
    assert result.score > 0
    shares = [progress.permille for progress in told]
    assert shares == sorted(shares)
    assert len(set(shares)) >= 2, "how many there are depends on how busy the machine is"
    assert 0 <= shares[0] <= shares[-1] < 1000
    assert turns > 100


async def test_a_benchmark_that_fails_is_an_untrusted_result_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemError('broken on purpose')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = await run_benchmark(tmp_path, quick=True)
    assert (result.trusted, result.score) == (False, 0)
    assert "broken on purpose" in result.reason


async def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    started = asyncio.Event()
    others = _children()  # of other tests in this process
    children: set[int] = set()

    def note(_progress: Progress) -> None:
        children.update(_children() - others)
        started.set()

    task = asyncio.create_task(run_benchmark(tmp_path, on_progress=note))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children
    assert not children & _children()


async def test_where_the_disk_cannot_be_measured_the_rest_still_is() -> None:
    result = await run_benchmark(Path("/proc"), quick=True)
    assert result.score > 0
    assert (result.disk_write, result.disk_sync_us) == (0.0, 0)


def _children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_an_untouched_result_is_no_result() -> None:
    assert Benchmark().score == 0
    assert not Benchmark().trusted


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]
