"""The replay window: exact within its bounds, and beyond them on the safe side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import MessageId, PeerId
from dms_proto.wire import ReplayWindow, Seen

A, B, C = PeerId("A"), PeerId("B"), PeerId("C")


def id_(number: int) -> MessageId:
    return MessageId(number.to_bytes(16, "big"))


def take(window: ReplayWindow, sender: PeerId, number: int, *, sent: int = 0, until: int = 100, now: int = 0) -> Seen:
    seen = window.check(sender, id_(number), sent, now)
    if seen is Seen.NEW:
        window.record(sender, id_(number), sent, until, now)
    return seen


def test_an_id_is_new_once() -> None:
    window = ReplayWindow()
    assert take(window, A, 1) is Seen.NEW
    assert take(window, A, 1) is Seen.DUPLICATE


def test_two_senders_may_use_the_same_id() -> None:
    window = ReplayWindow()
    assert take(window, A, 1) is Seen.NEW
    assert take(window, B, 1) is Seen.NEW


def test_checking_remembers_nothing() -> None:
    window = ReplayWindow()
    assert window.check(A, id_(1), 0, 0) is Seen.NEW
    assert window.check(A, id_(1), 0, 0) is Seen.NEW
    assert len(window) == 0
    assert not window.knows(A)


def test_recording_twice_counts_once() -> None:
    window = ReplayWindow()
    window.record(A, id_(1), 0, 100, 0)
    window.record(A, id_(1), 0, 100, 0)
    assert len(window) == 1


def test_ids_are_forgotten_when_their_envelope_has_expired() -> None:
    window = ReplayWindow()
    take(window, A, 1, until=100)
    take(window, A, 2, sent=101, until=200, now=101)
    assert len(window) == 1


def test_a_full_share_forgets_what_expires_first_and_raises_the_floor_over_it() -> None:
    window = ReplayWindow(per_sender=2)
    take(window, A, 1, sent=10, until=50)
    take(window, A, 2, sent=20, until=40)
    take(window, A, 3, sent=30, until=90)  # pushes out 2, which was sent at 20
    assert take(window, A, 2, sent=20) is Seen.STALE
    assert take(window, A, 9, sent=20) is Seen.STALE
    assert take(window, A, 1, sent=10) is Seen.DUPLICATE
    assert take(window, A, 4, sent=31) is Seen.NEW


def test_the_floor_of_one_sender_is_not_that_of_another() -> None:
    window = ReplayWindow(per_sender=1)
    take(window, A, 1, sent=10)
    take(window, A, 2, sent=20)
    assert take(window, B, 1, sent=5) is Seen.NEW


def test_when_all_is_full_the_busiest_sender_pays() -> None:
    window = ReplayWindow(total=4)
    take(window, B, 1, sent=1)
    for number in range(3):
        take(window, A, number, sent=10 + number)
    take(window, C, 1, sent=1)
    assert len(window) <= 4
    assert take(window, B, 1, sent=1) is Seen.DUPLICATE
    assert take(window, A, 0, sent=10) is Seen.STALE


def test_there_is_room_for_so_many_senders_until_one_has_nothing_left_to_remember() -> None:
    window = ReplayWindow(senders=1)
    take(window, A, 1, until=100)
    assert take(window, B, 1, now=100) is Seen.NO_ROOM
    assert take(window, A, 2, until=100, now=100) is Seen.NEW
    assert take(window, B, 1, until=9_000, now=2_000) is Seen.NEW
    assert window.sender_count == 1


def test_a_floor_never_sinks() -> None:
    window = ReplayWindow(per_sender=1)
    take(window, A, 1, sent=20, until=50)
    take(window, A, 2, sent=21, until=90)  # pushes out 1: the floor is 20
    take(window, A, 3, sent=30, until=99)  # pushes out 2: 21
    window.record(A, id_(4), 10, 40, 0)  # checked before it sank below the floor; pushed out at once
    assert take(window, A, 1, sent=20, until=50) is Seen.STALE
    assert take(window, A, 5, sent=15, until=60) is Seen.STALE


def test_a_floor_is_kept_as_long_as_what_is_under_it_could_be_shown() -> None:
    window = ReplayWindow(total=1, senders=2)
    take(window, A, 1, until=9_000)
    take(window, B, 1, until=9_000)  # room for one id: A's is pushed out, its floor stays
    assert take(window, C, 1, until=9_000, now=5_000) is Seen.NO_ROOM
    assert take(window, A, 1, until=9_000, now=5_000) is Seen.STALE
    assert take(window, C, 1, until=12_000, now=9_001) is Seen.NEW


def test_sweeping_goes_on_after_the_clock_went_back() -> None:
    window = ReplayWindow(senders=2)
    take(window, A, 1, until=60_000, now=50_000)
    take(window, B, 1, until=50_010, now=50_000)
    assert take(window, C, 1, until=60_000, now=50_005) is Seen.NO_ROOM  # swept; the next may follow at 51,005
    assert take(window, C, 1, until=60_000, now=51_005) is Seen.NEW
    window = ReplayWindow(senders=1)
    take(window, A, 1, until=60_000, now=59_000)
    assert take(window, B, 1, now=59_000) is Seen.NO_ROOM
    window.record(A, id_(2), 0, 100, 60_001)  # drops what expired under the fast clock
    assert take(window, B, 1, until=500, now=200) is Seen.NEW


def test_a_clock_that_went_back_neither_raises_nor_forgets() -> None:
    window = ReplayWindow(senders=2)
    take(window, A, 1, until=10_000, now=9_000)
    take(window, B, 1, until=10_000, now=9_000)
    assert window.check(C, id_(1), 0, 9_000) is Seen.NO_ROOM
    assert window.check(C, id_(1), 0, 10) is Seen.NO_ROOM
    assert take(window, A, 1, now=10) is Seen.DUPLICATE


ENVELOPES = st.tuples(
    st.sampled_from((A, B, C)),
    st.integers(0, 12),  # id, on purpose often the same
    st.integers(0, 30),  # age when it arrives, in seconds as all that follow
    st.integers(1, 60),  # lifetime
    st.integers(0, 25),  # time until the next
)


@given(
    envelopes=st.lists(ENVELOPES, max_size=60),
    per_sender=st.integers(1, 5),
    total=st.integers(1, 8),
    senders=st.integers(1, 3),
)
def test_nothing_is_accepted_twice_in_its_lifetime_and_the_bounds_hold(
    envelopes: list[tuple[PeerId, int, int, int, int]], per_sender: int, total: int, senders: int
) -> None:
    window = ReplayWindow(per_sender=per_sender, total=total, senders=senders)
    shown: dict[
        tuple[PeerId, int], tuple[int, int]
    ] = {}  # each id belongs to one envelope: what was signed stays as it is
    accepted: set[tuple[PeerId, int]] = set()
    now = 10**6
    for sender, number, *seconds in envelopes:
        age, lifetime, pause = (each * 1_000 for each in seconds)
        sent, until = shown.setdefault((sender, number), (now - age, now - age + lifetime))
        if until >= now and take(window, sender, number, sent=sent, until=until, now=now) is Seen.NEW:
            assert (sender, number) not in accepted
            accepted.add((sender, number))
        assert len(window) == sum(len(each.ids) for each in window._senders.values())
        assert len(window) <= total
        assert window.sender_count <= senders
        assert all(len(each.ids) <= per_sender for each in window._senders.values())
        now += pause


@given(numbers=st.lists(st.integers(0, 50), max_size=60))
def test_within_the_bounds_it_is_a_set(numbers: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for number in numbers:
        assert take(window, A, number) is (Seen.DUPLICATE if number in seen else Seen.NEW)
        seen.add(number)
