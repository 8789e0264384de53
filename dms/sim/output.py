"""What was simulated and found, for people and for programs."""

from __future__ import annotations

from typing import Final

from dms.sim.campaign import Failure, Outcome
from dms.sim.city import CityOutcome
from dms_proto.units import HOUR

TRACE_LINES: Final = 60
"""Of a trace, this many last lines are shown to people; JSON has it whole."""


def as_text(outcome: Outcome, total: int, seconds: float) -> str:
    """Some lines: how much was simulated, how requests ended, and the first failure with its smallest plan and trace."""
    rate = outcome.steps / seconds if seconds else 0
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.reasons.items()))
    lines = [
        f"{total} simulations, {outcome.steps} steps in {seconds:.1f} s ({rate:,.0f} steps/s)",
        f"requests ended as {reasons or 'nothing'}",
    ]
    if not outcome.failures:
        return "\n".join([*lines, "every invariant held"])
    named = ", ".join(f"{failure.scenario} seed {failure.seed}" for failure in outcome.failures[:20])
    return "\n".join([*lines, f"{len(outcome.failures)} FAILED: {named}", *_story(outcome.failures[0])])


def _story(failure: Failure) -> list[str]:
    left_out = len(failure.trace) - TRACE_LINES
    return [
        "",
        f"seed {failure.seed}, scenario {failure.scenario}: {failure.invariant}",
        failure.detail,
        "",
        f"smallest plan that still fails: {failure.plan}",
        "",
        f"trace ({left_out} earlier lines are in --json):" if left_out > 0 else "trace:",
        *failure.trace[-TRACE_LINES:],
        "",
        f"again: dms sim --scenario {failure.scenario} --seed {failure.seed}",
    ]


def as_json(outcome: Outcome, total: int, seconds: float) -> dict[str, object]:
    """The same, whole."""
    return {
        "simulations": total,
        "steps": outcome.steps,
        "seconds": round(seconds, 3),
        "reasons": dict(outcome.reasons),
        "failures": [failure._asdict() | {"trace": list(failure.trace)} for failure in outcome.failures],
    }


def city_as_text(outcome: CityOutcome) -> str:
    """Some lines: how much was simulated, what it took, and whether anything broke."""
    report, speed = outcome.report, outcome.for_ms / 1000 / outcome.seconds
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.reasons.items()))
    return "\n".join(
        [
            f"{outcome.nodes} nodes, {outcome.for_ms / HOUR:g} h, {outcome.jobs} jobs: {report.steps} steps in {outcome.seconds:.1f} s "
            f"({speed:,.0f} times as fast as the clock)",
            f"{outcome.messages_per_job:.1f} messages per job, and {outcome.messages_per_node_minute:.1f} per node and minute to know each other",
            f"requests ended as {reasons or 'nothing'}",
            f"BROKEN: {outcome.violation}" if outcome.violation else "every invariant held",
        ]
    )


def city_as_json(outcome: CityOutcome) -> dict[str, object]:
    """The same, with every kind of message."""
    return {
        "nodes": outcome.nodes,
        "simulated_ms": outcome.for_ms,
        "jobs": outcome.jobs,
        "steps": outcome.report.steps,
        "seconds": round(outcome.seconds, 3),
        "cpu_seconds": round(outcome.cpu_seconds, 3),
        "messages": dict(outcome.report.delivered),
        "messages_per_job": round(outcome.messages_per_job, 2),
        "messages_per_node_minute": round(outcome.messages_per_node_minute, 2),
        "reasons": {str(reason): count for reason, count in outcome.report.reasons.items()},
        "violation": outcome.violation,
    }
