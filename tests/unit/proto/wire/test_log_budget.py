"""The log budget: whoever asks, however much, strangers cause no more to be written than their shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import PeerId
from dms_proto.units import HOUR, MIB
from dms_proto.wire.log_budget import BURSTS_A_DAY, PEER_PART, SOURCE_PART, LogBudget, Used

DAY = 24 * HOUR
SHARE = 64 * MIB
A, B = PeerId("a"), PeerId("b")


def used_up(budget: LogBudget, peer: PeerId, source: str, now: int, size: int = 1_000) -> int:
    """Writes until there is no room; gives how much."""
    written = 0
    while budget.has_room(peer, source, now):
        budget.wrote(peer, source, size, now)
        written += size
    return written


def test_one_peer_gets_an_eighth_of_the_day_and_a_quarter_of_that_at_once() -> None:
    budget = LogBudget(SHARE)
    at_once = used_up(budget, A, "here", 0)
    assert at_once <= SHARE // PEER_PART // BURSTS_A_DAY + 1_000
    assert at_once + sum(used_up(budget, A, "here", hour * HOUR) for hour in range(1, 25)) <= SHARE // PEER_PART * 1.26


def test_the_others_of_a_source_share_its_quarter_and_other_sources_are_not_touched() -> None:
    budget = LogBudget(SHARE)
    written = sum(used_up(budget, PeerId(f"sybil {n}"), "there", 0) for n in range(100))
    assert written <= SHARE // SOURCE_PART // BURSTS_A_DAY + 100 * 1_000
    assert not budget.has_room(B, "there", 0)
    assert budget.has_room(B, "here", 0)


def test_all_strangers_of_any_number_of_sources_share_the_whole() -> None:
    budget = LogBudget(SHARE)
    written = sum(used_up(budget, PeerId(f"sybil {n}"), f"source {n}", 0) for n in range(100))
    assert written <= SHARE // BURSTS_A_DAY + 100 * 1_000
    assert not budget.has_room(B, "here", 0)
    assert budget.has_room(B, "here", HOUR)


def test_who_wrote_more_than_there_was_waits_until_it_is_gained_back() -> None:
    budget = LogBudget(SHARE)
    budget.wrote(A, "here", SHARE // PEER_PART // BURSTS_A_DAY + SHARE // PEER_PART // 24, 0)
    assert not budget.has_room(A, "here", HOUR - 1_000)
    assert budget.has_room(A, "here", HOUR + 60_000)


def test_invented_peers_and_sources_do_not_grow_it() -> None:
    budget = LogBudget(SHARE, most=64)
    for n in range(10_000):
        budget.wrote(PeerId(f"sybil {n}"), f"source {n}", 1, 0)
    assert len(budget) <= 2 * 64


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, MIB), st.integers(0, HOUR)),
        max_size=60,
    )
)
def test_over_any_time_no_share_is_exceeded_by_more_than_one_message(said: list[tuple[int, int, int, int]]) -> None:
    """Law: burst, and what was gained, and one message, for a peer, for a source, for all."""
    budget, now = LogBudget(SHARE), 0
    of_peer, of_source, of_all = dict[int, int](), dict[int, int](), 0
    for number, where, size, pause in said:
        peer, source = PeerId(f"{where}/{number}"), str(where)
        now += pause
        if not budget.has_room(peer, source, now):
            continue
        budget.wrote(peer, source, size, now)
        of_peer[where * 10 + number] = of_peer.get(where * 10 + number, 0) + size
        of_source[where] = of_source.get(where, 0) + size
        of_all += size
    gained = 1 / BURSTS_A_DAY + now / DAY
    assert all(sent <= SHARE / PEER_PART * gained + MIB for sent in of_peer.values())
    assert all(sent <= SHARE / SOURCE_PART * gained + MIB for sent in of_source.values())
    assert of_all <= SHARE * gained + MIB


def test_a_new_name_does_not_take_away_a_debt_of_its_own() -> None:
    budget = LogBudget(SHARE)
    budget.has_room(A, "there", 0)  # of which nothing is used
    budget.wrote(B, "here", SHARE // PEER_PART, 0)
    budget.inherit(A, B)
    assert not budget.has_room(B, "elsewhere", 0)


def test_nor_does_the_debt_of_an_earlier_name_go() -> None:
    budget = LogBudget(SHARE)
    budget.wrote(A, "there", SHARE // PEER_PART, 0)
    budget.has_room(B, "here", HOUR // 2)
    budget.inherit(A, B)
    assert not budget.has_room(B, "elsewhere", HOUR // 2)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, SHARE), st.booleans()), max_size=20
    ),
    st.integers(0, 30 * HOUR),
)
def test_one_that_begins_with_what_another_had_used_has_as_much_left(
    said: list[tuple[str, str, int, bool]], later: int
) -> None:
    one, other = LogBudget(SHARE), LogBudget(SHARE)
    for peer, source, size, is_gossiped in said:
        one.wrote(PeerId(peer), source, size, HOUR, is_gossiped=is_gossiped)
    other.restore(one.used(HOUR))
    assert other.used(HOUR) == one.used(HOUR)
    assert other.used(HOUR + later) == one.used(HOUR + later)


def test_what_was_written_since_empties_the_budget_of_all_and_puts_it_no_further_into_debt() -> None:
    budget = LogBudget(SHARE)
    budget.restore(Used(0, 100), {A: 1_000}, 2 * SHARE)
    assert budget.used(0) == Used(0, budget.burst, {A: 1_000})


def test_a_clock_that_was_set_back_over_a_restart_gives_nothing_back_and_locks_nobody_out() -> None:
    budget = LogBudget(SHARE)
    budget.restore(Used(DAY, 0, {A: SHARE // PEER_PART // BURSTS_A_DAY}))
    assert not budget.has_room(A, "here", 0)
    assert budget.has_room(A, "here", HOUR)
