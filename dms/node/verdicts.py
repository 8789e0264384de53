"""Verdicts on results and findings on benchmarks, in words."""

from __future__ import annotations

from dms.rpc.api.benchmarks import BenchmarkView
from dms_proto.ids import short
from dms_proto.market.auction_events import BenchmarkChecked, ResultJudged, ResultsCompared
from dms_proto.units import CORE, format_count


def told_verdict(event: ResultJudged) -> str:
    """Which result holds, and who said so, in a line."""
    wrong = f"; wrong: {', '.join(short(answer.provider) for answer in event.wrong)}" if event.wrong else ""
    if event.accepted is None:
        return f"undecided: {event.why}"
    if not event.right:
        return f"the result of slot {event.accepted} is taken as it is"
    agree = ", ".join(short(answer.provider) for answer in event.right)
    return f"the result of slot {event.accepted} is accepted; {agree} agree{wrong}"


def told_comparison(event: ResultsCompared) -> str:
    """What a comparator has said, in a line."""
    if event.failed:
        return f"{event.comparator} cannot compare the answers: {event.failed}"
    unfit = f"; {format_count(len(event.unfit), 'answer')} cannot be compared" if event.unfit else ""
    compared = format_count(sum(map(len, event.camps)), "answer")
    return f"{event.comparator} finds {format_count(len(event.camps), 'result')} in {compared}{unfit}"


def benchmark_view(event: BenchmarkChecked) -> BenchmarkView:
    """What a spot check found, as it is shown."""
    return BenchmarkView(
        event.provider,
        event.claimed / CORE,
        event.measured / CORE,
        event.at,
        event.checks.good,
        event.checks.short,
        event.kind,
        event.why,
    )


def told_benchmark(event: BenchmarkChecked) -> str:
    """What a spot check found, in a line."""
    return f"{short(event.provider)} {benchmark_view(event)}"
