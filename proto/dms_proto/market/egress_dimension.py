"""Dimensions of the ways out: one verdict per destination that a job needs, and one on how much may flow there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dms_proto.capability import Capability
from dms_proto.egress import Egress, is_within
from dms_proto.market.changes import Change, floor_bytes, show_bytes
from dms_proto.market.verdicts import DimensionVerdict, Verdict, bad, good
from dms_proto.units import format_bytes


def egress_test(required: Egress) -> Callable[[Capability], bool] | None:
    """Whether each destination is allowed."""
    if not required.destinations:
        return None
    return lambda offered: all(is_within(one, offered.egress.destinations) for one in required.destinations)


def judge_egress(required: Egress, offered: Egress) -> Iterator[DimensionVerdict]:
    """One verdict per destination, under ``egress:HOST:PORT``. What else is allowed is not told to who asks."""
    for want in required.destinations:
        dimension = f"egress:{want}"
        if is_within(want, offered.destinations):
            yield good(dimension, equal=want in offered.destinations)
        else:
            observed = (
                "its owner does not allow it" if offered.destinations else "its owner lets no job connect anywhere"
            )
            nearest = str(Change(dimension, 0, "none"))
            yield bad(dimension, f"a way out to {want}", observed, nearest, verdict=Verdict.WORSE)


def egress_bytes_test(required: Egress) -> Callable[[Capability], bool] | None:
    """Whether as much may flow. Who lets a job out nowhere need not say how much."""
    want = required.most_bytes
    if not required.destinations:
        return None
    return lambda offered: not _leads_out(required, offered.egress) or want <= offered.egress.most_bytes


def _leads_out(required: Egress, offered: Egress) -> bool:
    return any(is_within(one, offered.destinations) for one in required.destinations)


def judge_egress_bytes(required: Egress, offered: Egress) -> Iterator[DimensionVerdict]:
    """The verdict on the amount."""
    want, most = required.most_bytes, offered.most_bytes
    if not required.destinations:
        return
    if not _leads_out(required, offered) or want <= most:
        yield good("egress_bytes", equal=want == most)
    else:
        words = format_bytes if format_bytes(want) != format_bytes(most) else show_bytes
        nearest = str(Change("egress_bytes", floor_bytes(most))) if most else ""
        yield bad("egress_bytes", f"{words(want)} to and from elsewhere", f"at most {words(most)}", nearest)
