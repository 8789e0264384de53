"""Bounded mailboxes of one inbox: shifts in order, a counted refusal, deadlines that wake, an end that always gets in."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any, NamedTuple

import pytest

from dms_actors.mailbox import BATCH, Inbox, Letter, Mailbox, Shift, Stop


class Envelope(NamedTuple):
    """What pykka puts."""

    message: object


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def box(inbox: Inbox) -> Mailbox:
    return inbox.open("a")


def fill(box: Mailbox, count: int) -> None:
    for number in range(count):
        assert box.offer(Letter(number))


def found(inbox: Inbox) -> list[tuple[Any, list[object]]]:
    """The next shift: whose, and what."""
    delivery = inbox.get()
    assert isinstance(delivery.message, Shift)
    return [(work.mailbox.owner, [letter.message for letter in work.letters]) for work in delivery.message.work]


def test_everything_that_waits_comes_as_one_shift_in_order(inbox: Inbox, box: Mailbox) -> None:
    other = inbox.open("b")
    for number in range(4):
        (box, other)[number % 2].offer(Letter(number))
    assert found(inbox) == [("a", [0, 2]), ("b", [1, 3])]
    assert inbox.empty()


def test_a_shift_is_bounded_and_who_has_more_waits_behind_the_others(inbox: Inbox, box: Mailbox) -> None:
    other = inbox.open("b")
    fill(box, BATCH + 3)
    other.offer(Letter("b"))
    assert found(inbox) == [("a", list(range(BATCH)))]
    assert found(inbox) == [("b", ["b"]), ("a", [BATCH, BATCH + 1, BATCH + 2])]


def test_a_full_mailbox_refuses_and_counts(inbox: Inbox) -> None:
    box = inbox.open("a", 2)
    assert [box.offer(Letter(number)) for number in range(4)] == [True, True, False, False]
    assert box.refused == 2
    assert found(inbox) == [("a", [0, 1])]
    assert box.offer(Letter(4))


def test_the_end_is_never_refused_for_want_of_room(inbox: Inbox) -> None:
    box = inbox.open("a", 1)
    box.offer(Letter(1))
    assert box.offer(Stop())
    assert box.refused == 0


def test_an_actor_is_told_with_which_letters_it_ends(inbox: Inbox, box: Mailbox) -> None:
    for letter in (Letter(1), Stop(), Letter(2)):
        box.offer(letter)
    (work,) = inbox.get().message.work
    assert work.is_last
    assert [letter.message for letter in work.letters] == [1]


def test_an_actor_ends_only_after_all_that_waits_before(inbox: Inbox, box: Mailbox) -> None:
    fill(box, BATCH + 1)
    box.offer(Stop())
    assert [inbox.get().message.work[0].is_last for _ in range(2)] == [False, True]


def test_a_new_actor_can_be_woken_without_a_letter(inbox: Inbox, box: Mailbox) -> None:
    inbox.wake(box)
    assert found(inbox) == [("a", [])]
    assert inbox.empty()


def test_control_messages_of_pykka_come_when_nothing_else_waits(inbox: Inbox, box: Mailbox) -> None:
    inbox.put(Envelope("end"))
    fill(box, 1)
    assert found(inbox) == [("a", [0])]
    assert inbox.get() == Envelope("end")


def test_an_armed_deadline_wakes_without_letters(inbox: Inbox, box: Mailbox) -> None:
    box.arm(0)
    assert found(inbox) == [("a", [])]


def test_each_is_woken_by_its_own_deadline(inbox: Inbox, box: Mailbox) -> None:
    other, never = inbox.open("b"), inbox.open("c")
    never.arm(60_000)
    other.arm(20)
    box.arm(10)
    woken = found(inbox)
    while len(woken) < 2:
        woken += found(inbox)
    assert woken == [("a", []), ("b", [])]


def test_a_deadline_armed_anew_replaces_the_one_before(inbox: Inbox, box: Mailbox) -> None:
    other = inbox.open("b")
    box.arm(0)
    box.arm(60_000)
    other.arm(0)
    other.arm(None)
    fill(box, 1)
    assert found(inbox) == [("a", [0])]
    assert inbox.empty()


def test_messages_come_with_a_deadline_that_is_due(inbox: Inbox, box: Mailbox) -> None:
    box.arm(0)
    fill(box, 1)
    assert found(inbox) == [("a", [0])]
    assert inbox.empty()


def test_a_reader_that_sleeps_is_woken_by_a_message(inbox: Inbox, box: Mailbox) -> None:
    got: list[Any] = []
    box.arm(60_000)
    reader = threading.Thread(target=lambda: got.extend(found(inbox)))
    reader.start()
    box.offer(Letter("here"))
    reader.join(10)
    assert got == [("a", ["here"])]


def test_a_reader_sleeps_towards_a_deadline_that_never_comes(inbox: Inbox, box: Mailbox) -> None:
    """It ended the actors' thread: the owner held capacity back for ever on a node that had nothing else to wait for."""
    got: list[Any] = []
    box.arm(2**60)
    reader = threading.Thread(target=lambda: got.extend(found(inbox)))
    reader.start()
    while not inbox._reader_sleeps and reader.is_alive():
        pass
    box.offer(Letter("here"))
    reader.join(10)
    assert got == [("a", ["here"])]


def test_what_many_threads_put_arrives_once_each_and_in_order_per_thread(inbox: Inbox) -> None:
    boxes = [inbox.open(number) for number in range(3)]

    def put(writer: int) -> None:
        for number in range(500):
            boxes[number % 3].offer(Letter((writer, number)))

    writers = [threading.Thread(target=put, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    got: list[tuple[int, Any]] = []
    while len(got) < 2_000:
        got += [(owner, message) for owner, messages in found(inbox) for message in messages]
    for writer in range(4):
        for owner in range(3):
            numbers = [number for at, (who, number) in got if (at, who) == (owner, writer)]
            assert numbers == list(range(owner, 500, 3))


def test_a_closed_mailbox_gives_back_what_waits_and_lets_nothing_in(inbox: Inbox, box: Mailbox) -> None:
    box.offer(Letter(1))
    box.offer(Stop())
    box.arm(60_000)
    assert [letter.message for letter in box.close()] == [1]
    assert not box.offer(Letter(2))
    assert not box.offer(Stop())
    assert box.refused == 0
    fill(inbox.open("b"), 1)
    assert found(inbox) == [("b", [0])]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_its_length_is_the_number_of_messages_that_wait(box: Mailbox, count: int) -> None:
    fill(box, count)
    assert len(box) == count


def test_deadlines_armed_again_and_again_take_no_more_room(inbox: Inbox, box: Mailbox) -> None:
    for number in range(1_000):
        box.arm(3_600_000 + number)
    assert len(inbox._deadlines) < 200
    box.arm(0)
    assert found(inbox) == [("a", [])]


def test_a_deadline_far_ahead_does_not_keep_an_actor_that_has_ended(inbox: Inbox) -> None:
    class Owner:
        pass

    owner = Owner()
    gone = weakref.ref(owner)
    box = inbox.open(owner)
    box.arm(3_600_000)
    box.close()
    del owner, box
    gc.collect()
    assert gone() is None
