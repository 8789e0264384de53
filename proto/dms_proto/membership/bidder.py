"""What a requester itself knows of a peer that bids."""

from __future__ import annotations

from dms_proto.market.candidates import BidderFacts
from dms_proto.membership.machine import Peer
from dms_proto.membership.ways import micros
from dms_proto.reputation import Evidence, Kind, source_of, standing
from dms_proto.reputation.silence import SetAside
from dms_proto.reputation.sources import UNKNOWN


def bidder_facts(
    known: Peer | None,
    evidence: Evidence,
    now: int,
    *,
    own: bool,
    aside: SetAside | None = None,
    way_us: int = 0,
    answers_ms: int = 0,
) -> BidderFacts:
    """The facts that go into a ranking.

    Args:
        known: what the membership knows of it; None: nothing.
        evidence: how its work for this node went.
        now: Unix ms.
        own: whether the machine belongs to the requester.
        aside: that it was silent lately.
        way_us: how soon it answers requests, in microseconds; 0: not known.
        answers_ms: how long to wait for its answer to a commit; 0: not known.
    """
    probed_us = micros(known.rtt_ms) if known is not None and known.rtt_ms >= 0 else 0
    stands = standing(evidence, now)
    return BidderFacts(
        rtt_us=min(probed_us, way_us) or probed_us or way_us,
        relayed=known is not None and known.relayed,
        own=own,
        successes=evidence.counts.get(Kind.KEPT, 0),
        failures=evidence.counts.get(Kind.FAULT, 0),
        standing=stands.score,
        source=source_of(known.remote) if known is not None else UNKNOWN,
        streak=evidence.streak,
        aside=aside,
        doubt=stands.doubt,
        answers_ms=answers_ms,
    )
