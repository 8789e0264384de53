from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.holders import KnownHolders
from dms_proto.ids import PeerId, digest_of
from dms_proto.messages.data import MAX_HOLDERS
from dms_proto.work import DatasetInput, Input, Task

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
TASK = Task("sandbox", inputs=(Input("large", digest_of(b"1"), LISTED_FROM + 1),))
OTHER = Task("sandbox", datasets=(DatasetInput("d", digest_of(b"2"), 100, LISTED_FROM + 1),))


def test_who_had_a_task_that_reads_the_same_comes_first_the_latest_before_the_others():
    known = KnownHolders()
    known.note(A, TASK)
    known.note(B, TASK)
    known.note(C, OTHER)
    assert known.of(TASK) == (B, A)
    known.note(A, TASK)
    assert known.of(TASK, beside=(B, C)) == (A, B, C)
    assert known.of(TASK, beside=(C,), but={A, C}) == (B,)


def test_nobody_is_known_for_what_is_small_or_new():
    known = KnownHolders()
    small = Task("sandbox", inputs=(Input("small", digest_of(b"3"), 3),))
    known.note(A, small)
    assert known.of(small) == ()
    assert known.of(TASK) == ()


def test_a_provider_is_told_of_some_however_many_there_are():
    known = KnownHolders()
    for number in range(100):
        known.note(PeerId(str(number)), TASK)
    assert known.of(TASK) == tuple(str(number) for number in range(99, 99 - MAX_HOLDERS, -1))
