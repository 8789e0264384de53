"""Which pairs a comparator is asked about, and what follows from what it says and from its failures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.verification.comparing import Grouping, Pair, Said, grouping, split_name

NEAR = 2


def grouped(founders: list[int], fresh: list[int], say: Callable[[Pair], Said]) -> tuple[Grouping, list[Pair]]:
    """What comes of it, and what was asked."""
    asking, asked = grouping(founders, fresh), list[Pair]()
    try:
        pair = next(asking)
        while True:
            asked.append(pair)
            pair = asking.send(say(pair))
    except StopIteration as end:
        return end.value, asked


def near(values: dict[int, int], *spoilt: int) -> Callable[[Pair], Said]:
    """A comparator that takes values for the same that are near, and fails on the spoilt ones."""

    def say(pair: Pair) -> Said:
        return "spoilt" if {*pair} & {*spoilt} else abs(values[pair.left] - values[pair.right]) <= NEAR

    return say


def test_each_answer_joins_the_first_camp_that_takes_it_or_founds_one() -> None:
    found, asked = grouped([], [0, 1, 2, 3], near({0: 10, 1: 12, 2: 13, 3: 14}))
    assert found == Grouping(((0, 1), (2, 3)))
    assert asked == [Pair(0, 1), Pair(0, 2), Pair(0, 3), Pair(2, 3)]


def test_the_camps_there_are_stay_and_are_not_compared_with_each_other_again() -> None:
    found, asked = grouped([0, 2], [5], near({0: 10, 2: 11, 5: 13}))
    assert found == Grouping(((0,), (2, 5)))
    assert asked == [Pair(0, 5), Pair(2, 5)]


def test_an_answer_that_cannot_be_compared_even_with_itself_stands_alone_and_spoils_nothing_else() -> None:
    for spoilt in range(3):
        found, _ = grouped([], [0, 1, 2], near({0: 1, 1: 1, 2: 1}, spoilt))
        rest = tuple(index for index in range(3) if index != spoilt)
        assert sorted(found.camps) == sorted([rest, (spoilt,)])
        assert found.unfit == {spoilt: "spoilt"}
        assert not found.failed


def test_who_collude_in_spoilt_answers_do_not_hinder_the_others() -> None:
    found, _ = grouped([], [0, 1, 2, 3], near(dict.fromkeys(range(4), 1), 0, 1))
    assert found.camps == ((0,), (1,), (2, 3))
    assert set(found.unfit) == {0, 1}


@pytest.mark.parametrize("say", [lambda _pair: "broken", lambda pair: "broken" if pair.left != pair.right else True])
def test_a_comparator_that_fails_on_all_or_on_two_that_it_can_compare_with_themselves_has_failed(
    say: Callable[[Pair], Said],
) -> None:
    found, asked = grouped([], [0, 1, 2], say)
    assert found == Grouping(failed="broken")
    assert len(asked) <= 5


def test_one_that_does_not_take_an_answer_for_the_same_as_itself_cannot_compare_it() -> None:
    found, _ = grouped([], [0, 1], lambda pair: "two" if pair.left != pair.right else pair.left == 0)
    assert found.unfit == {1: "it does not take this answer for the same as itself"}


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=10),
    st.sets(st.integers(0, 9), max_size=9),
)
def test_every_answer_is_in_one_camp_and_is_the_same_as_its_founder(values: list[int], spoilt: set[int]) -> None:
    indexes = list(range(len(values)))
    say = near(dict(enumerate(values)), *spoilt)
    found, asked = grouped([], indexes, say)
    if found.failed:
        assert spoilt.issuperset(indexes)
        return
    assert sorted(index for camp in found.camps for index in camp) == indexes
    assert all(say(Pair(camp[0], index)) is True for camp in found.camps for index in camp[1:])
    assert set(found.unfit) == spoilt & set(indexes)
    founders = [camp[0] for camp in found.camps if camp[0] not in found.unfit]
    apart = [abs(values[one] - values[other]) for one in founders for other in founders if one < other]
    assert all(distance > NEAR for distance in apart)
    assert len(asked) == len(set(asked))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.data())
def test_where_being_the_same_is_transitive_the_camps_do_not_depend_on_the_order(
    values: list[int], data: st.DataObject
) -> None:
    def camps(order: list[int]) -> set[frozenset[int]]:
        found, _ = grouped([], order, lambda pair: values[pair.left] == values[pair.right])
        return {frozenset(camp) for camp in found.camps}

    indexes = list(range(len(values)))
    assert camps(data.draw(st.permutations(indexes))) == camps(indexes)


def test_a_parameter_stands_behind_a_colon() -> None:
    assert split_name("numbers:1e-6:1e-12") == ("numbers", "1e-6:1e-12")
    assert split_name("json") == ("json", "")
