"""The bounded mailbox: batches in order, a counted refusal, a deadline that wakes, control messages that always get in."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest
from pykka import ActorDeadError
from pykka.messages import _ActorStop

from dms_actors.mailbox import BATCH, Batch, Mailbox, MailboxFull


class Letter(NamedTuple):
    message: object
    reply_to: Any = None


class Reply:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def set_exception(self, exc_info: tuple[type[BaseException], BaseException, Any]) -> None:
        self.error = exc_info[1]


STOP = Letter(_ActorStop())


def messages(delivery: Any) -> list[object]:
    assert isinstance(delivery.message, Batch)
    return [letter.message for letter in delivery.message.envelopes]


def test_everything_that_waits_comes_as_one_batch_in_order() -> None:
    box = Mailbox()
    for number in range(5):
        assert box.offer(Letter(number))
    assert messages(box.get()) == [0, 1, 2, 3, 4]
    assert box.empty()


def test_a_batch_is_bounded() -> None:
    box = Mailbox()
    for number in range(BATCH + 3):
        box.offer(Letter(number))
    assert messages(box.get()) == list(range(BATCH))
    assert messages(box.get()) == [BATCH, BATCH + 1, BATCH + 2]


def test_a_full_mailbox_refuses_and_counts() -> None:
    box = Mailbox(capacity=2)
    assert [box.offer(Letter(number)) for number in range(4)] == [True, True, False, False]
    assert box.refused == 2
    assert messages(box.get()) == [0, 1]
    assert box.offer(Letter(4))


def test_a_question_that_finds_no_room_is_answered_so() -> None:
    box, reply = Mailbox(capacity=0), Reply()
    box.put(Letter("question", reply))
    assert isinstance(reply.error, MailboxFull)


def test_a_control_message_is_never_refused_for_want_of_room() -> None:
    box = Mailbox(capacity=1)
    box.offer(Letter(1))
    assert box.offer(STOP)
    assert box.refused == 0


def test_a_control_message_never_shares_a_batch() -> None:
    box = Mailbox()
    for letter in (Letter(1), STOP, Letter(2)):
        box.offer(letter)
    assert messages(box.get()) == [1]
    assert box.get() is STOP
    assert messages(box.get()) == [2]


def test_an_armed_deadline_wakes_with_an_empty_batch() -> None:
    box = Mailbox()
    box.arm(0)
    assert messages(box.get()) == []


def test_messages_come_before_a_deadline_that_is_due() -> None:
    box = Mailbox()
    box.arm(0)
    box.offer(Letter(1))
    assert messages(box.get()) == [1]


def test_a_reader_that_sleeps_is_woken_by_a_message() -> None:
    box, got = Mailbox(), list[object]()
    box.arm(60_000)
    reader = threading.Thread(target=lambda: got.extend(messages(box.get())))
    reader.start()
    box.offer(Letter("here"))
    reader.join(10)
    assert got == ["here"]


def test_what_many_threads_put_arrives_once_each_and_in_order_per_thread() -> None:
    box = Mailbox()

    def put(writer: int) -> None:
        for number in range(500):
            box.offer(Letter((writer, number)))

    writers = [threading.Thread(target=put, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    got: list[Any] = []
    while len(got) < 2_000:
        box.arm(10_000)
        batch = messages(box.get())
        assert batch, "nothing came for ten seconds"
        got += batch
    for writer in range(4):
        assert [number for who, number in got if who == writer] == list(range(500))


def test_a_closed_mailbox_gives_back_what_waits_and_lets_nothing_in() -> None:
    box, reply = Mailbox(), Reply()
    box.offer(Letter(1))
    box.offer(STOP)
    assert [letter.message for letter in box.close()] == [1, STOP.message]
    assert box.empty()
    assert not box.offer(Letter(2))
    assert not box.offer(STOP)
    box.put(Letter("question", reply))
    assert isinstance(reply.error, ActorDeadError)
    assert box.refused == 0


@pytest.mark.parametrize("count", [0, 1, 7])
def test_its_length_is_the_number_of_messages_that_wait(count: int) -> None:
    box = Mailbox()
    for number in range(count):
        box.offer(Letter(number))
    assert len(box) == count
    assert box.empty() == (count == 0)
