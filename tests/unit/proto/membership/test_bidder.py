"""What a requester knows of a bidder: the way to it, and its standing."""

from __future__ import annotations

from dms_proto.ids import PeerId
from dms_proto.membership.bidder import bidder_facts
from dms_proto.membership.machine import Membership, PeerConnected, decide, evolve
from dms_proto.reputation import NEWCOMER, NOTHING_KNOWN, Kind, noted, standing
from dms_proto.reputation.sources import UNKNOWN

PEER = PeerId("peer")


def test_a_stranger_is_a_newcomer_from_nowhere() -> None:
    facts = bidder_facts(None, NOTHING_KNOWN, 0, own=False)
    assert (facts.standing, facts.source, facts.rtt_us, facts.successes) == (NEWCOMER, UNKNOWN, 0, 0)


def test_the_source_is_where_the_connection_comes_from_not_what_the_peer_claims() -> None:
    members = Membership(PeerId("me"))
    for event in decide(members, PeerConnected(PEER, ("/ip4/9.9.9.9/tcp/1",), remote="8.8.8.8"), 0).events:
        members = evolve(members, event)
    assert bidder_facts(members.peers[PEER], NOTHING_KNOWN, 0, own=False).source == "8.8.8.0/24"


def test_evidence_becomes_counts_and_a_standing() -> None:
    evidence = noted(noted(NOTHING_KNOWN, Kind.KEPT, 0), Kind.FAULT, 0)
    facts = bidder_facts(None, evidence, 0, own=True)
    assert (facts.successes, facts.failures, facts.own) == (1, 1, True)
    assert facts.standing == standing(evidence, 0).score
