"""``python -m dms.sim``: simulates networks until something breaks.

Exit code 0: every seed held. 1: a seed failed; the first failure is printed with its seed, scenario and shortest trace. 2: wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from dms.sim.campaign import Failure, Outcome, run_campaign
from dms_proto.sim.scenarios import SCENARIOS

TRACE_LINES = 60
"""Of a trace, this many last lines are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    names = [options.scenario] if options.scenario else list(SCENARIOS)
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    work = (
        [(name, seed) for seed in seeds for name in names]
        if options.seed is not None or options.each
        else _spread(names, seeds)
    )
    started = time.monotonic()
    outcome = run_campaign(work, processes=options.jobs, progress=None if options.json else _progress(len(work)))
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps(_as_json(outcome, len(work), seconds), indent=2))
    else:
        _print(outcome, len(work), seconds)
    return 1 if outcome.failures else 0


def _spread(names: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """One scenario per seed, all scenarios in turn."""
    return [(names[index % len(names)], seed) for index, seed in enumerate(seeds)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dms sim", description="Simulates whole networks and checks that nothing breaks."
    )
    parser.add_argument(
        "--seeds", type=_positive, default=200, help="how many seeds; scenarios take turns (default 200)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, default=None, help="only this seed, in every scenario or in --scenario")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default=None, help="only this scenario")
    parser.add_argument("--each", action="store_true", help="every seed in every scenario")
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _progress(total: int):  # type: ignore[no-untyped-def]
    if not sys.stderr.isatty():
        return None

    def show(done: int, failed: int) -> None:
        print(
            f"\r{done}/{total} simulated, {failed} failed",
            end="" if done < total else "\n",
            file=sys.stderr,
            flush=True,
        )

    return show


def _print(outcome: Outcome, total: int, seconds: float) -> None:
    rate = outcome.steps / seconds if seconds else 0
    print(f"{total} simulations, {outcome.steps} steps in {seconds:.1f} s ({rate:,.0f} steps/s)")
    print("requests ended as " + ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.reasons.items())))
    if not outcome.failures:
        print("every invariant held")
        return
    print(f"{len(outcome.failures)} FAILED: " + ", ".join(f"{f.scenario} seed {f.seed}" for f in outcome.failures[:20]))
    first = outcome.failures[0]
    print(f"\nseed {first.seed}, scenario {first.scenario}: {first.invariant}\n{first.detail}\n")
    print(f"smallest plan that still fails: {first.plan}\n\ntrace:")
    print("\n".join(first.trace[-TRACE_LINES:]))
    print(f"\nagain: dms sim --scenario {first.scenario} --seed {first.seed}")


def _as_json(outcome: Outcome, total: int, seconds: float) -> dict[str, object]:
    return {
        "simulations": total,
        "steps": outcome.steps,
        "seconds": round(seconds, 3),
        "reasons": dict(outcome.reasons),
        "failures": [_failure(failure) for failure in outcome.failures],
    }


def _failure(failure: Failure) -> dict[str, object]:
    return {
        "scenario": failure.scenario,
        "seed": failure.seed,
        "invariant": failure.invariant,
        "detail": failure.detail,
        "plan": failure.plan,
        "trace": list(failure.trace[-TRACE_LINES:]),
    }


if __name__ == "__main__":
    sys.exit(main())
