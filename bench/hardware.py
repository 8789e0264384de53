"""How well repeat runs of the capability benchmark agree, and what facts and monitoring cost.

Run as ``python bench/hardware.py [--runs N] [--quick] [--json]``.

Method: N full runs one after another, each in a process of its own as the node does it; CV is the sample standard deviation over the mean. The cost
of looking is CPU time of this process (time.process_time) over 200 looks. Imports are timed in fresh interpreters, median of 5.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dms.hardware.benchmark import TOLERANCE, Benchmark, run_benchmark
from dms.hardware.facts import read_facts
from dms.hardware.gpu import detect
from dms.hardware.monitor import look

INTERVAL_S = 5.0
IMPORTS = ("psutil", "dms.config.paths", "dms.config.loading", "dms.config.identity", "dms.hardware.monitor", "pynvml")


def spread(values: list[float]) -> dict[str, float]:
    mean = statistics.mean(values)
    cv = statistics.stdev(values) / mean if len(values) > 1 and mean else 0.0
    return {"mean": mean, "cv_percent": 100 * cv, "min": min(values), "max": max(values)}


def repeat_runs(runs: int, quick: bool) -> tuple[dict[str, dict[str, float]], list[Benchmark]]:
    results = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        for number in range(runs):
            results.append(asyncio.run(run_benchmark(Path(directory), quick=quick)))
            print(
                f"run {number + 1}/{runs}: score {results[-1].score} in {results[-1].duration_ms} ms", file=sys.stderr
            )
    columns = {"score": [float(result.score) for result in results]}
    columns |= {f"{m.name} {m.unit}": [r.metrics[i].value for r in results] for i, m in enumerate(results[0].metrics)}
    columns["effective cores"] = [result.effective_cores_milli / 1000 for result in results]
    columns["disk write MB/s"] = [result.disk_write for result in results]
    columns["disk sync us"] = [float(result.disk_sync_us) for result in results]
    columns["duration ms"] = [float(result.duration_ms) for result in results]
    return {name: spread(values) for name, values in columns.items()}, results


def cost_ms(call: Any, repeats: int = 200) -> float:
    call()
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats * 1000


def import_ms(module: str) -> float:
    code = f"import time; s = time.perf_counter(); import {module}; print((time.perf_counter() - s) * 1000)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(5)
    ]
    return statistics.median(float(run) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table, results = repeat_runs(arguments.runs, arguments.quick)
    here = Path.cwd()
    scores = [result.score for result in results]
    worst = (max(scores) - min(scores)) / max(scores)
    one_look = cost_ms(lambda: look(here, {os.getpid()}))
    report = {
        "figures": table,
        "score_worst_pair": worst,
        "score_tolerance": TOLERANCE,
        "within_tolerance": worst <= TOLERANCE,
        "trusted_runs": sum(result.trusted for result in results),
        "reasons": sorted({result.reason for result in results if result.reason}),
        "software": results[0].software,
        "facts_ms": cost_ms(lambda: read_facts(here)),
        "gpu_detection_ms": cost_ms(detect, 50),
        "monitor_look_ms": one_look,
        "monitor_cpu_percent_of_a_core": one_look / (INTERVAL_S * 1000) * 100,
        "import_ms": {module: import_ms(module) for module in IMPORTS},
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{'figure':22}{'mean':>12}{'CV %':>8}{'min':>12}{'max':>12}")
    for name, row in table.items():
        print(f"{name:22}{row['mean']:12.1f}{row['cv_percent']:8.2f}{row['min']:12.1f}{row['max']:12.1f}")
    for name, value in report.items():
        if name != "figures":
            print(f"{name}: {value if not isinstance(value, float) else round(value, 4)}")


if __name__ == "__main__":
    main()
