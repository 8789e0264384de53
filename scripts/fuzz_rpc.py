"""Throws frames at a node's local interface: valid calls of every method, spoilt ones, and garbage.

    python scripts/fuzz_rpc.py --frames 1000000 --process-frames 20000 --seed 1

First at the dispatcher of a node in this process (`dms.testing.rpc_fuzz`), then in a smaller number at a node process, over its socket, HTTP and
WebSocket. Every answer must be JSON-RPC without an internal error, and memory must stay flat; the growth after the first fifth is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from random import Random

from dms.testing.rpc_fuzz import Report, fuzz_a_market
from dms.testing.rpc_fuzz_process import fuzz_a_process


def show(what: str, frames: int, report: Report) -> None:
    for name, count in report.outcomes.most_common():
        print(f"{name:20}{count:>10,}")
    print(
        f"{frames:,} frames at {what}: {report.per_second:,.0f} a second, memory grew by {report.grown_mib:.1f} MiB\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Throws frames at a node's local interface.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--process-frames", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for what, fuzz, frames in (
        ("a dispatcher", fuzz_a_market, options.frames),
        ("a node process", fuzz_a_process, options.process_frames),
    ):
        with tempfile.TemporaryDirectory(prefix="dms-fuzz-") as directory:
            show(what, frames, asyncio.run(fuzz(Path(directory), frames, Random(options.seed))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
