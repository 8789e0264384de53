"""The capability benchmark: how fast one core is, how many really run at once, how fast the disk takes data. At most 10 s.

It runs in a process of its own (`benchmark_worker`), so the node answers meanwhile, and tells its progress. Rates are per CPU second, best of
slices spread over the whole run, so a busy neighbour costs slices and not the result. What was measured on a machine too busy to be measured is
not trusted, and says why: an expected outcome, so a value and no exception.

A score is the owner's claim, as every self-measurement; buyers look after it with spot checks (`dms_proto.verification.spot_work`), which do the same
work as the kernel that the score comes from.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dms.hardware.kernels import CHAIN

METHOD: Final = "dms-kernels"
VERSION: Final = 2
"""Raised when kernels, references or the way of measuring change; scores of different versions are not compared."""
TOLERANCE: Final = 0.05
"""Repeat runs on an otherwise quiet machine agree in `score` within this share of the larger one (measured: bench/hardware.py)."""
MAX_SECONDS: Final = 10.0
MAX_WAIT_S: Final = 45.0
"""Longest wait for another benchmark on the same machine; not part of `MAX_SECONDS` and `duration_ms`."""
MIN_IDLE_PERMILLE: Final = 700
"""With more than 30 % of the machine in others' hands, caches, memory and clock are theirs too, and the figures say little."""
MAX_STEAL_PERMILLE: Final = 100
_KILL_AFTER: Final = MAX_WAIT_S + 2 * MAX_SECONDS
"""Seconds; a worker that honours `MAX_SECONDS` by the clock never lives so long, unless the machine stalls."""


class Metric(msgspec.Struct, frozen=True):
    """One raw figure. `value` and `reference` are in `unit`; `spread_permille`: how far the median slice lies below the best; `slices`: how many."""

    name: str
    value: float
    unit: str
    reference: float = 0.0
    spread_permille: int = 0
    slices: int = 0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far it is: `permille` of the whole, and what it is doing."""

    permille: int
    step: str


class Benchmark(msgspec.Struct, frozen=True, tag="benchmark"):
    """What was measured, how, and when.

    Attributes:
        method: `METHOD`.
        version: of the method.
        at_ms: Unix time of the end.
        duration_ms: how long it took.
        quick: a shorter run for tests and demonstrations: the same method, a wider spread.
        score: one core, thousandths of the reference core, by the work of a spot check; 0 when that was not measured.
        effective_cores_milli: how many such cores ran at once, thousandths.
        metrics: the raw figures.
        disk_write: sequential writing to the node's home, synced, MB/s; 0 when not measured.
        disk_sync_us: median time of a 4 KiB durable write, microseconds; 0 when not measured.
        idle_permille: of the machine just before.
        others_permille: of the machine's CPU during the run, used by other programs.
        steal_permille: of the time during the run, kept by the hypervisor.
        load_milli: load average just before.
        software: versions that influence the figures.
        trusted: whether the machine was quiet enough to publish the score.
        reason: why not, or empty.
    """

    method: str = METHOD
    version: int = VERSION
    at_ms: int = 0
    duration_ms: int = 0
    quick: bool = False
    score: int = 0
    effective_cores_milli: int = 0
    metrics: tuple[Metric, ...] = ()
    disk_write: float = 0.0
    disk_sync_us: int = 0
    idle_permille: int = 0
    others_permille: int = 0
    steal_permille: int = 0
    load_milli: int = 0
    software: str = ""
    trusted: bool = False
    reason: str = ""


def score_of(metrics: tuple[Metric, ...]) -> int:
    """The rate of `kernels.CHAIN` over its reference, in thousandths; 0 where it is not among the metrics."""
    chain = next((metric for metric in metrics if metric.name == CHAIN.name), None)
    return round(1000 * chain.value / chain.reference) if chain is not None else 0


def distrust(idle_permille: int, others_permille: int, steal_permille: int) -> str:
    """Why figures measured under these conditions should not be published; empty when they may."""
    if idle_permille < MIN_IDLE_PERMILLE:
        return (
            f"the machine was {idle_permille / 10:.0f} % idle before the run, {MIN_IDLE_PERMILLE / 10:.0f} % are needed"
        )
    if others_permille > 1000 - MIN_IDLE_PERMILLE:
        return f"other programs used {others_permille / 10:.0f} % of the machine during the run"
    if steal_permille > MAX_STEAL_PERMILLE:
        return f"the hypervisor kept {steal_permille / 10:.0f} % of the time during the run"
    return ""


async def run_benchmark(
    directory: Path, *, quick: bool = False, on_progress: Callable[[Progress], None] | None = None
) -> Benchmark:
    """Measures this machine in a separate process. Cancelling it ends that process.

    Args:
        directory: where the disk is measured; what is written there (at most 64 MiB) is removed.
        quick: under 1.5 s instead of under 10 s.
        on_progress: called on the loop, a few times per second.

    Returns:
        The result; untrusted with the reason if the process failed.
    """
    command = [sys.executable, "-m", "dms.hardware.benchmark_worker", str(directory), *(["--quick"] if quick else [])]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_KILL_AFTER):
            result, errors = await asyncio.gather(_follow(process, on_progress), _last_line(process))
            await process.wait()
    except TimeoutError:
        return Benchmark(
            quick=quick, reason=f"the benchmark was killed after {_KILL_AFTER:.0f} s: the machine hardly runs"
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return result or Benchmark(quick=quick, reason=f"the benchmark ended with {process.returncode}: {errors}")


async def _follow(
    process: asyncio.subprocess.Process, on_progress: Callable[[Progress], None] | None
) -> Benchmark | None:
    assert process.stdout is not None
    decoder = msgspec.json.Decoder(Progress | Benchmark)
    result: Benchmark | None = None
    async for line in process.stdout:
        said = decoder.decode(line)
        if isinstance(said, Benchmark):
            result = said
        elif on_progress is not None:
            on_progress(said)
    return result


async def _last_line(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    last = b""
    async for line in process.stderr:
        last = line
    return last.decode(errors="replace").strip()[:200]
