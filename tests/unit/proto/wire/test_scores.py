"""Scores: misdeeds add up, decay, mute and are forgiven; the table stays bounded whoever is invented."""

from __future__ import annotations

import pytest

from dms.testing.samples import PROVIDER, REQUESTER, TOPIC
from dms_proto.ids import PeerId
from dms_proto.wire import Offence, OpeningContext, RefusalCode, RefusedFrame, ReplayWindow, Scores, misdeed
from dms_proto.wire.scores import MUTE_AT, POINTS

A, B = PeerId("A"), PeerId("B")
HALF_LIFE = 1_000
ON_STREAM = OpeningContext(PROVIDER.peer_id, REQUESTER.peer_id, ReplayWindow(), ReplayWindow())
ON_TOPIC = OpeningContext(PROVIDER.peer_id, REQUESTER.peer_id, ReplayWindow(), ReplayWindow(), topic=TOPIC)


def needed(offence: Offence) -> int:
    """How many at once mute."""
    return -(-MUTE_AT // POINTS[offence])


@pytest.mark.parametrize("offence", Offence)
def test_one_too_many_mutes_and_says_so_once(offence: Offence) -> None:
    scores = Scores(HALF_LIFE)
    told = [scores.blame(A, offence, 0) for _ in range(needed(offence) + 3)]
    assert told == [False] * (needed(offence) - 1) + [True, False, False, False]
    assert scores.is_muted(A, 0)
    assert not scores.is_muted(B, 0)


def test_forgiven_after_a_half_life_with_half_of_the_points_left() -> None:
    scores = Scores(HALF_LIFE)
    for _ in range(needed(Offence.FORGED)):
        scores.blame(A, Offence.FORGED, 0)
    assert scores.is_muted(A, HALF_LIFE - 1)
    assert not scores.is_muted(A, HALF_LIFE)
    assert scores.points(A, HALF_LIFE) == MUTE_AT // 2
    again = [scores.blame(A, Offence.FORGED, HALF_LIFE) for _ in range(needed(Offence.FORGED) // 2)]
    assert again == [False, True]


def test_what_is_done_while_muted_adds_nothing() -> None:
    scores = Scores(HALF_LIFE)
    for now in range(HALF_LIFE - 1):
        scores.blame(A, Offence.FORGED, now // 10)
    assert not scores.is_muted(A, HALF_LIFE + 10)


def test_seldom_offences_never_mute() -> None:
    scores = Scores(HALF_LIFE)
    assert not any(scores.blame(A, Offence.FORGED, turn * HALF_LIFE) for turn in range(1_000))


def test_a_clock_set_back_mutes_nobody_for_long() -> None:
    scores = Scores(HALF_LIFE)
    for _ in range(needed(Offence.FORGED)):
        scores.blame(A, Offence.FORGED, 10**12)
    assert not scores.is_muted(A, 0)


def test_invented_peers_do_not_grow_the_table_nor_crowd_out_who_did_most() -> None:
    scores = Scores(HALF_LIFE, most=8)
    for _ in range(needed(Offence.FORGED)):
        scores.blame(A, Offence.FORGED, 0)
    for number in range(1_000):
        scores.blame(PeerId(f"invented {number}"), Offence.FLOODED, 0)
        assert len(scores) <= 8
    assert scores.is_muted(A, 0)


def test_who_sent_a_direct_frame_is_to_blame_for_it() -> None:
    refused = RefusedFrame(RefusalCode.BAD_SIGNATURE, kind="Bid", sender=B)
    assert misdeed(refused, ON_STREAM) == (REQUESTER.peer_id, Offence.FORGED)


def test_who_handed_gossip_on_is_not_to_blame_its_proven_author_is() -> None:
    assert misdeed(RefusedFrame(RefusalCode.BAD_SIGNATURE, kind="BidRequest", sender=B), ON_TOPIC) is None
    proven = RefusedFrame(RefusalCode.BAD_BODY, kind="BidRequest", sender=B, is_proven=True)
    assert misdeed(proven, ON_TOPIC) == (B, Offence.MALFORMED)


def test_a_bid_request_that_comes_both_ways_is_no_replay() -> None:
    assert misdeed(RefusedFrame(RefusalCode.DUPLICATE, kind="BidRequest", sender=B), ON_STREAM) is None
    assert misdeed(RefusedFrame(RefusalCode.DUPLICATE, kind="Commit", sender=B), ON_STREAM) is not None


@pytest.mark.parametrize("code", [RefusalCode.NEWER_VERSION, RefusalCode.UNKNOWN_KIND, RefusalCode.FROM_FUTURE])
def test_a_newer_version_and_a_wrong_clock_are_no_offence(code: RefusalCode) -> None:
    assert misdeed(RefusedFrame(code), ON_STREAM) is None


def test_a_new_name_sheds_neither_points_nor_a_mute() -> None:
    scores = Scores(HALF_LIFE)
    for _ in range(needed(Offence.FORGED)):
        scores.blame(A, Offence.FORGED, 0)
    scores.blame(B, Offence.FORGED, 0)

    scores.inherit(A, B, 0)
    scores.inherit(A, B, 0)

    assert scores.is_muted(B, HALF_LIFE - 1)
    assert (scores.is_muted(A, 0), scores.points(A, 0), scores.points(B, 0)) == (False, 0, MUTE_AT)
    assert not scores.is_muted(B, HALF_LIFE)


def test_points_of_both_names_add_up() -> None:
    scores = Scores(HALF_LIFE)
    scores.blame(A, Offence.FORGED, 0)
    scores.blame(B, Offence.FORGED, HALF_LIFE)
    scores.inherit(A, B, HALF_LIFE)
    assert scores.points(B, HALF_LIFE) == POINTS[Offence.FORGED] * 3 // 2
