"""What a campaign found, for people and for programs."""

from __future__ import annotations

from typing import Final

from dms.sim.campaign import Failure, Outcome

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
