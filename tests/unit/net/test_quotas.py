"""Quotas of a peer and of its source: one identity more brings no more, and coming again brings nothing."""

from __future__ import annotations

from collections import Counter

from dms.net.config import RateLimit
from dms.net.quotas import SOURCE_PEERS, Quota
from dms_proto.wire.scores import Offence

LIMIT = RateLimit(frames_per_s=10, frames_burst=20, bytes_per_s=1_000, bytes_burst=2_000)


def test_a_peer_above_its_own_limit_floods() -> None:
    quota = Quota(LIMIT)
    told = [quota.judge("a", "here", 1, 1.0) for _ in range(25)]
    assert told == [None] * 20 + [Offence.FLOODED] * 5


def test_a_hundred_identities_of_one_source_get_what_two_do_and_another_source_is_not_touched() -> None:
    quota = Quota(LIMIT)
    told = Counter(quota.judge(f"sybil {number}", "there", 1, 1.0) for number in range(100) for _ in range(10))
    assert told == {None: 20 * SOURCE_PEERS, Offence.CROWDED: 1_000 - 20 * SOURCE_PEERS}
    assert quota.judge("a", "here", 1, 1.0) is None


def test_bytes_of_a_source_count_as_well_as_its_items() -> None:
    quota = Quota(LIMIT)
    told = [quota.judge(f"sybil {number}", "there", 1_500, 1.0) for number in range(4)]
    assert told == [None, None, Offence.CROWDED, Offence.CROWDED]


def test_a_source_is_heard_again_as_time_passes() -> None:
    quota = Quota(LIMIT)
    for number in range(100):
        quota.judge(f"sybil {number}", "there", 1, 1.0)
    assert quota.judge("neighbour", "there", 1, 1.0) is Offence.CROWDED
    assert quota.judge("neighbour", "there", 1, 2.0) is None


def test_invented_peers_do_not_grow_it_and_those_that_are_quiet_are_forgotten_first() -> None:
    quota = Quota(LIMIT, most=8)
    for _ in range(20):
        quota.judge("busy", "here", 1, 1.0)
    for number in range(100):
        quota.judge(f"sybil {number}", "there", 0, 1.0 + number)
        quota.judge("busy", "here", 1, 1.0 + number)
        for _ in range(10):
            quota.judge("busy", "here", 1, 1.0 + number)
    assert len(quota) <= 16
    assert quota.judge("busy", "here", 1, 100.0) is Offence.FLOODED
