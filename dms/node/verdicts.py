"""Verdicts on results, in words."""

from __future__ import annotations

from dms_proto.ids import short
from dms_proto.market.auction_state import ResultJudged


def told_verdict(event: ResultJudged) -> str:
    """Which result holds, and who said so, in a line."""
    wrong = f"; wrong: {', '.join(short(answer.provider) for answer in event.wrong)}" if event.wrong else ""
    if event.accepted is None:
        return f"undecided: {event.why}"
    if not event.right:
        return f"the result of slot {event.accepted} is taken as it is"
    agree = ", ".join(short(answer.provider) for answer in event.right)
    return f"the result of slot {event.accepted} is accepted; {agree} agree{wrong}"
