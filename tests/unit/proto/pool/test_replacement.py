"""The strategies choose the victims that the textbooks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.pool.optimum import optimal, replayed
from dms_proto.pool.replacement import Seat, Strategy, in_order, spared

SILBERSCHATZ = ["7", "0", "1", "2", "0", "3", "0", "4", "2", "3", "0", "3", "2", "1", "2", "0", "1", "7", "0", "1"]
"""Operating System Concepts, 10.4: three frames."""
STALLINGS = ["2", "3", "2", "1", "5", "2", "4", "5", "3", "2", "5", "2"]
"""Operating Systems, figure 8.14: three frames."""
ARPACI_DUSSEAU = ["0", "1", "2", "0", "1", "3", "0", "3", "1", "2", "1"]
"""Operating Systems: Three Easy Pieces, 22.3: three frames."""
BELADY = ["1", "2", "3", "4", "1", "2", "5", "1", "2", "3", "4", "5"]

pages = st.lists(st.sampled_from("abcdefgh"), max_size=60)


@pytest.mark.parametrize(
    ("string", "frames", "strategy", "faults"),
    [
        (SILBERSCHATZ, 3, Strategy.FIFO, 15),
        (SILBERSCHATZ, 3, Strategy.LRU, 12),
        (STALLINGS, 3, Strategy.FIFO, 9),
        (STALLINGS, 3, Strategy.LRU, 7),
        (STALLINGS, 3, Strategy.CLOCK, 8),
        (ARPACI_DUSSEAU, 3, Strategy.FIFO, 7),
        (ARPACI_DUSSEAU, 3, Strategy.LRU, 5),
        (BELADY, 3, Strategy.LRU, 10),
        (BELADY, 4, Strategy.LRU, 8),
    ],
)
def test_a_strategy_has_the_faults_of_the_textbook(
    string: list[str], frames: int, strategy: Strategy, faults: int
) -> None:
    assert replayed(string, frames, strategy).faults == faults


@pytest.mark.parametrize(
    ("string", "frames", "faults"),
    [(SILBERSCHATZ, 3, 9), (STALLINGS, 3, 6), (ARPACI_DUSSEAU, 3, 5), (BELADY, 3, 7), (BELADY, 4, 6)],
)
def test_who_knows_the_future_has_the_faults_of_the_textbook(string: list[str], frames: int, faults: int) -> None:
    assert optimal(string, frames).faults == faults


def test_the_victims_are_those_of_the_textbook_in_its_order() -> None:
    assert replayed(SILBERSCHATZ, 3, Strategy.FIFO).victims == tuple("701230423012")
    assert replayed(SILBERSCHATZ, 3, Strategy.LRU).victims == tuple("712304032")
    assert optimal(SILBERSCHATZ, 3).victims == tuple("710432")
    assert replayed(STALLINGS, 3, Strategy.CLOCK).victims == tuple("23154")


def test_the_least_used_goes_and_of_equals_the_one_not_used_for_longest() -> None:
    assert replayed(["a", "a", "b", "c", "d", "b", "c"], 3, Strategy.LFU).victims == tuple("bcd")


def test_more_frames_can_mean_more_faults_for_the_oldest_first() -> None:
    """Belady's anomaly."""
    assert replayed(BELADY, 3, Strategy.FIFO).faults == 9
    assert replayed(BELADY, 4, Strategy.FIFO).faults == 10


@given(string=pages, frames=st.integers(1, 7))
def test_more_frames_never_mean_more_faults_for_lru_and_the_optimum(string: list[str], frames: int) -> None:
    assert replayed(string, frames + 1, Strategy.LRU).faults <= replayed(string, frames, Strategy.LRU).faults
    assert optimal(string, frames + 1).faults <= optimal(string, frames).faults


@given(string=pages, frames=st.integers(1, 8), strategy=st.sampled_from(Strategy))
def test_nobody_does_better_than_who_knows_the_future(string: list[str], frames: int, strategy: Strategy) -> None:
    best, ours = optimal(string, frames), replayed(string, frames, strategy)
    assert len(set(string)) <= best.faults <= ours.faults <= len(string)
    assert len(ours.victims) == max(0, ours.faults - frames)


@given(string=pages, frames=st.integers(1, 8))
def test_the_clock_is_a_hand_that_goes_round_a_ring_of_frames(string: list[str], frames: int) -> None:
    assert replayed(string, frames, Strategy.CLOCK).victims == _by_hand(string, frames)


def _by_hand(string: list[str], frames: int) -> tuple[str, ...]:
    ring: list[list[object]] = []
    victims, hand = [], 0
    for page in string:
        found = next((slot for slot in ring if slot[0] == page), None)
        if found is not None:
            found[1] = True
        elif len(ring) < frames:
            ring.append([page, True])
        else:
            while ring[hand][1]:
                ring[hand][1] = False
                hand = (hand + 1) % frames
            victims.append(str(ring[hand][0]))
            ring[hand] = [page, True]
            hand = (hand + 1) % frames
    return tuple(victims)


def test_of_several_victims_the_hand_spares_whom_it_passes() -> None:
    used = (True, False, True, False, True)
    ring = [
        Seat(name, at, at, 1, at, referenced) for at, (name, referenced) in enumerate(zip("abcde", used, strict=True))
    ]
    assert [seat.name for seat in in_order(Strategy.CLOCK, ring)] == list("bdace")
    assert spared(Strategy.CLOCK, ring, {"b"}) == ("a",)
    assert spared(Strategy.CLOCK, ring, {"b", "d"}) == ("a", "c")
    assert spared(Strategy.CLOCK, ring, {"b", "d", "a"}) == ("c", "e")
    assert spared(Strategy.CLOCK, ring, {"d"}) == (
        "a",
        "c",
    )  # b was not used, and stays all the same: it keeps its place
    assert spared(Strategy.LRU, ring, {"b"}) == ()
