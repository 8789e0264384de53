import pytest

from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.marks import mark_of, marks_of, meant
from dms_proto.ids import digest_of, request_id
from dms_proto.messages.data import MAX_MARKS
from dms_proto.work import DatasetInput, Input, Task

JOB, OTHER = (request_id(bytes([n] * 16)) for n in (1, 2))
NAMES = [digest_of(bytes([n])) for n in range(8)]
LARGE = LISTED_FROM + 1


def file(number: int, size: int) -> Input:
    return Input(f"f{number}", NAMES[number], size)


def test_who_holds_a_content_sees_that_it_is_meant_and_how_large_it_is_said_to_be():
    task = Task("sandbox", inputs=(file(0, LARGE),), datasets=(DatasetInput("d", NAMES[1], 100, 3 * LARGE),))
    marks = marks_of(JOB, task)
    assert meant(JOB, marks, NAMES) == {NAMES[0]: LARGE, NAMES[1]: 3 * LARGE}
    assert meant(JOB, marks, NAMES[2:]) == {}


def test_the_marks_of_two_requests_have_nothing_in_common():
    assert mark_of(JOB, NAMES[0]) != mark_of(OTHER, NAMES[0])
    assert meant(OTHER, marks_of(JOB, Task("sandbox", inputs=(file(0, LARGE),))), NAMES) == {}


def test_what_is_small_is_not_marked_and_of_many_the_largest_are():
    task = Task("sandbox", inputs=tuple(file(number, LISTED_FROM - 2 + number) for number in range(8)))
    assert [mark.size for mark in marks_of(JOB, task)] == [LISTED_FROM + n for n in range(5, 5 - MAX_MARKS, -1)]


def test_a_content_that_is_read_in_two_places_is_marked_once():
    twice = (file(0, LARGE), Input("again", NAMES[0], LARGE))
    assert len(marks_of(JOB, Task("sandbox", inputs=twice))) == 1


@pytest.mark.parametrize("task", [Task("sandbox"), Task("sandbox", inputs=(file(0, 1),))])
def test_work_without_data_says_nothing(task):
    assert marks_of(JOB, task) == ()
