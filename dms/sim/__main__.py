"""``python -m dms.sim``: simulates networks until something breaks; or, with ``--nodes``, one large one at its daily work.

Exit code 0: every invariant held. 1: one broke; of seeds the first failure is printed with its seed, scenario and shortest trace. 2: wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from math import inf

from dms.sim.campaign import run_campaign
from dms.sim.city import EVERY_MS, Progress, run_city
from dms.sim.output import as_json, as_text, city_as_json, city_as_text
from dms_proto.sim.scenarios import SCENARIOS
from dms_proto.units import HOUR, MINUTE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.nodes is not None:
        if options.scenario or options.each:
            parser.error("--nodes simulates a market at its daily work, not a scenario")
        return _city(options)
    work = _work(options)
    started = time.monotonic()
    outcome = run_campaign(work, processes=options.jobs, progress=None if options.json else _progress(len(work)))
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps(as_json(outcome, len(work), seconds), indent=2))
    else:
        print(as_text(outcome, len(work), seconds))
    return 1 if outcome.failures else 0


def _city(options: argparse.Namespace) -> int:
    outcome = run_city(
        options.nodes,
        round(options.hours * HOUR),
        every_ms=round(options.every * MINUTE),
        seed=options.seed if options.seed is not None else options.first,
        progress=None if options.json else _city_progress(),
    )
    print(json.dumps(city_as_json(outcome), indent=2) if options.json else city_as_text(outcome))
    return 1 if outcome.violation else 0


def _work(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Which scenario with which seed: one scenario per seed, in turn, unless told otherwise."""
    names = [options.scenario] if options.scenario else list(SCENARIOS)
    if options.seed is not None:
        return [(name, options.seed) for name in names]
    seeds = range(options.first, options.first + options.seeds)
    if options.each:
        return [(name, seed) for seed in seeds for name in names]
    return [(names[index % len(names)], seed) for index, seed in enumerate(seeds)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dms sim", description="Simulates networks and checks that nothing breaks.")
    parser.add_argument("--seeds", type=_positive, default=200, help="how many; scenarios take turns (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, default=None, help="only this seed, in every scenario or in --scenario")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default=None, help="only this scenario")
    parser.add_argument("--each", action="store_true", help="every seed in every scenario")
    parser.add_argument("--nodes", type=_positive, default=None, help="one market of so many nodes at its daily work")
    parser.add_argument("--hours", type=_above_zero, default=1.0, help="with --nodes: simulated time (default 1)")
    parser.add_argument(
        "--every",
        type=_above_zero,
        default=EVERY_MS / MINUTE,
        metavar="MINUTES",
        help="with --nodes: each node submits a job about once in so long (default 30)",
    )
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _city_progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(over: int, total: int) -> None:
        end = "\n" if over == total else ""
        print(f"\r{over // MINUTE}/{total // MINUTE} minutes simulated", end=end, file=sys.stderr, flush=True)

    return show


def _progress(total: int) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, failed: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{done}/{total} simulated, {failed} failed", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
