"""The record: identities of one source share what they earn, so that many cost more than they bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import PeerId
from dms_proto.reputation import FULL, HALF_LIFE_MS, NEWCOMER, POINTS, SOURCE_POINTS, Kind, Record, standing
from dms_proto.units import MINUTE


def score(record: Record, peer: str, now: int = 0) -> int:
    return standing(record.of(PeerId(peer)), now).score


def earned(record: Record) -> int:
    """Thousandths of points that all providers hold."""
    return sum(
        amount * POINTS[kind]
        for evidence in record.all().values()
        for kind, amount in evidence.faded(0).items()
        if POINTS[kind] > 0
    )


def crowd(identities: int, each: int, source: str = "8.8.8.0/24") -> Record:
    record = Record()
    for _ in range(each):
        for index in range(identities):
            record.note(PeerId(f"p{index}"), source, Kind.KEPT, 0)
    return record


def test_one_that_works_alone_is_never_held_back() -> None:
    assert score(crowd(1, 1_000), "p0") == FULL * 1_001 // 1_004


@pytest.mark.parametrize(("identities", "each"), [(100, 10), (1_000, 10), (100, 100)])
def test_a_hundred_identities_of_one_source_hold_little_more_than_one_may(identities: int, each: int) -> None:
    record = crowd(identities, each)
    assert earned(record) < 2.1 * SOURCE_POINTS
    alone = crowd(1, each)
    assert score(record, "p0") < score(alone, "p0")
    assert score(record, "p0") < FULL * 6 // 10


def test_a_few_machines_of_one_owner_are_hardly_held_back() -> None:
    record = crowd(4, 100)
    assert all(score(record, f"p{index}") > FULL * 9 // 10 for index in range(4))


def test_identities_of_other_sources_are_not_touched() -> None:
    record = crowd(100, 10)
    for _ in range(10):
        record.note(PeerId("elsewhere"), "9.9.9.0/24", Kind.KEPT, 0)
    assert score(record, "elsewhere") == score(crowd(1, 10), "p0")


def test_a_name_that_moves_takes_along_only_what_counted_where_it_was() -> None:
    record = crowd(100, 10)
    before = record.of(PeerId("p99")).amounts[Kind.KEPT]
    record.note(PeerId("p99"), "9.9.9.0/24", Kind.KEPT, 0)
    assert record.of(PeerId("p99")).amounts[Kind.KEPT] == before + 1_000


def test_what_is_held_against_one_of_a_crowd_counts_whole() -> None:
    record = crowd(100, 10)
    record.note(PeerId("p99"), "8.8.8.0/24", Kind.WRONG, 0)
    assert record.of(PeerId("p99")).amounts[Kind.WRONG] == 1_000
    assert score(record, "p99") < NEWCOMER // 4


def test_a_crowd_that_has_gone_no_longer_stands_in_the_way() -> None:
    record = crowd(100, 10)
    for _ in range(20):
        record.note(PeerId("p0"), "8.8.8.0/24", Kind.KEPT, 8 * HALF_LIFE_MS)
    assert score(record, "p0", 8 * HALF_LIFE_MS) > FULL * 85 // 100


def test_a_new_name_inherits_once_what_was_seen_under_the_old_one() -> None:
    record, old, new = Record(), PeerId("old"), PeerId("new")
    for kind in (Kind.KEPT, Kind.RIGHT, Kind.WRONG, Kind.RIGHT):
        record.note(old, "there", kind, 0)
    before = record.of(old)
    record.inherit(old, new)
    record.inherit(old, new)
    assert record.all() == {new: before}


def test_what_was_seen_under_both_names_is_added_and_the_shorter_streak_counts() -> None:
    record, old, new = Record(), PeerId("old"), PeerId("new")
    for peer, kinds in ((old, [Kind.WRONG, Kind.RIGHT]), (new, [Kind.RIGHT, Kind.RIGHT])):
        for kind in kinds:
            record.note(peer, "there", kind, HALF_LIFE_MS if peer is new else 0)
    record.inherit(old, new)
    evidence = record.of(new)
    assert evidence.counts == {Kind.WRONG: 1, Kind.RIGHT: 3}
    assert evidence.amounts == {Kind.WRONG: 500, Kind.RIGHT: 2_500}
    assert evidence.streak == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.sampled_from(Kind), st.integers(0, 9)),
        max_size=60,
    )
)
def test_folding_the_same_log_gives_the_same_record(seen: list[tuple[str, str, Kind, int]]) -> None:
    first, second = Record(), Record()
    for record in (first, second):
        for peer, source, kind, at in seen:
            record.note(PeerId(peer), source, kind, at * MINUTE)
    assert first.all() == second.all()
