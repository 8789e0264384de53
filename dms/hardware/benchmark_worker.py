"""The process that measures: ``python -m dms.hardware.benchmark_worker DIRECTORY [--quick]``.

Writes one JSON object per line to stdout: `Progress` while it works, then one `Benchmark`. Slices of all kernels take turns, so a disturbance of a
second costs each kernel a slice and none all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import ssl
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from dms.hardware.benchmark import MAX_WAIT_S, Benchmark, Metric, Progress, distrust, score_of
from dms.hardware.cgroups import read_limits
from dms.hardware.disk_probe import measure_disk
from dms.hardware.kernels import KERNELS, SHA256, Kernel, rate
from dms.hardware.stat import CpuTicks, read_ticks


class Plan(msgspec.Struct, frozen=True):
    """How long each part takes, in seconds; `slices` per kernel. The parts add up to less than the limit even when a core is shared by two."""

    slices: int
    slice_s: float
    kernels_wall_s: float
    all_cores_s: float
    watch_s: float
    disk_s: float


FULL: Final = Plan(slices=10, slice_s=0.08, kernels_wall_s=6.5, all_cores_s=0.4, watch_s=0.4, disk_s=0.7)
QUICK: Final = Plan(slices=3, slice_s=0.02, kernels_wall_s=1.0, all_cores_s=0.08, watch_s=0.1, disk_s=0.1)
_ALL_CORE_TRIES: Final = 2
_POLL_S: Final = 0.1


def measure(directory: Path, plan: Plan, tell: Callable[[Progress], None]) -> Benchmark:
    """Runs the whole benchmark in this process, after any other that is under way on this machine (four nodes starting together, say)."""
    with _turn(tell):
        return _measure(directory, plan, tell)


def _measure(directory: Path, plan: Plan, tell: Callable[[Progress], None]) -> Benchmark:
    start = time.monotonic()
    tell(Progress(0, "watching the idle machine"))
    idle, load = _idle_permille(plan.watch_s), os.getloadavg()[0]
    before, own_before = read_ticks(), time.process_time()
    metrics = _time_kernels(plan, tell)
    others, steal = _disturbance(before, read_ticks(), time.process_time() - own_before)
    tell(Progress(800, "all cores"))
    single = next((metric.value for metric in metrics if metric.name == SHA256.name), 0.0)
    effective = _effective_cores_milli(SHA256, single, plan.all_cores_s)
    tell(Progress(900, "disk"))
    disk_write, disk_sync_us = measure_disk(directory, plan.disk_s)
    reason = distrust(idle, others, steal)
    return Benchmark(
        at_ms=int(time.time() * 1000),
        duration_ms=int((time.monotonic() - start) * 1000),
        quick=plan is QUICK,
        score=score_of(metrics),
        effective_cores_milli=effective,
        metrics=metrics,
        disk_write=disk_write,
        disk_sync_us=disk_sync_us,
        idle_permille=idle,
        others_permille=others,
        steal_permille=steal,
        load_milli=round(load * 1000),
        software=f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}",
        trusted=not reason,
        reason=reason,
    )


@contextlib.contextmanager
def _turn(tell: Callable[[Progress], None]) -> Iterator[None]:
    """Holds the machine's turn to measure. After `MAX_WAIT_S` it measures anyway; then the disturbance shows in the result.

    The turn is a lock on the interpreter's own file: all nodes on a machine can read it, and nothing has to be made, owned or removed.
    """
    with Path(sys.executable).resolve().open("rb") as file:
        end = time.monotonic() + MAX_WAIT_S
        while time.monotonic() < end:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell(Progress(0, "waiting for another benchmark on this machine"))
                time.sleep(_POLL_S)
            except OSError:  # a file system without locks
                break
        yield


def _time_kernels(plan: Plan, tell: Callable[[Progress], None]) -> tuple[Metric, ...]:
    works = [(kernel, kernel.prepare()) for kernel in KERNELS]
    rates: dict[str, list[float]] = {kernel.name: [] for kernel in KERNELS}
    for _, work in works:
        work()  # first touch of buffers, first use of code
    deadline = time.monotonic() + plan.kernels_wall_s
    for turn in range(plan.slices):
        tell(Progress(50 + 750 * turn // plan.slices, f"one core, turn {turn + 1} of {plan.slices}"))
        for kernel, work in works:
            rates[kernel.name].append(rate(work, plan.slice_s) / kernel.scale)
        if time.monotonic() > deadline:  # a contended machine: fewer slices rather than more seconds
            break
    return tuple(_metric(kernel, rates[kernel.name]) for kernel in KERNELS)


def _metric(kernel: Kernel, rates: list[float]) -> Metric:
    best = max(rates)
    spread = round(1000 * (best - statistics.median(rates)) / best)
    return Metric(kernel.name, round(best, 3), kernel.unit, kernel.reference, spread, len(rates))


def _effective_cores_milli(kernel: Kernel, single: float, seconds: float) -> int:
    """How many times the single-thread rate all cores give together, by the wall clock; the better of two tries."""
    threads = len(os.sched_getaffinity(0))
    quota = read_limits().cpu_millicores or threads * 1000
    best = max(_together(kernel, threads, seconds) for _ in range(_ALL_CORE_TRIES))
    return min(round(1000 * best / single), threads * 1000, quota) if single else 0


def _together(kernel: Kernel, threads: int, seconds: float) -> float:
    """Work per second of wall time by `threads` at once. hashlib lets go of the interpreter lock on blocks this large."""
    done, barrier = [0] * threads, threading.Barrier(threads + 1)
    end = 0.0

    def run(index: int) -> None:
        work = kernel.prepare()
        barrier.wait()
        while time.monotonic() < end:
            done[index] += work()

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    start = time.monotonic()
    end = start + seconds
    barrier.wait()
    for worker in workers:
        worker.join()
    return sum(done) / kernel.scale / (time.monotonic() - start)


def _idle_permille(seconds: float) -> int:
    before = read_ticks()
    time.sleep(seconds)
    passed = read_ticks() - before
    return 1000 * passed.idle // passed.total if passed.total else 1000


def _disturbance(before: CpuTicks, after: CpuTicks, own_seconds: float) -> tuple[int, int]:
    """(others, steal) in thousandths of the machine's CPU time between the two readings."""
    passed = after - before
    if not passed.total:
        return 0, 0
    own = own_seconds * os.sysconf("SC_CLK_TCK")
    others = max(0.0, passed.busy - own)
    return min(1000, round(1000 * others / passed.total)), min(1000, 1000 * passed.steal // passed.total)


def main() -> int:
    """Process edge: measures and prints. The node reads stdout; a person running it by hand can, too."""
    parser = argparse.ArgumentParser(prog="python -m dms.hardware.benchmark_worker")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    def tell(what: Progress | Benchmark) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
        sys.stdout.buffer.flush()

    tell(measure(arguments.directory, QUICK if arguments.quick else FULL, tell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
