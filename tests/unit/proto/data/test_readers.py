import pytest

from dms.testing.samples import PROVIDER, REQUESTER, STRANGER
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.marks import marks_of
from dms_proto.data.readers import MOST_READ, Readers
from dms_proto.ids import Digest, digest_of, request_id
from dms_proto.messages import Serve
from dms_proto.work import DatasetInput, Input, Task

JOB = request_id(bytes(16))
FILE, LIST, DATASET, PART, SMALL = (digest_of(bytes([n])) for n in range(5))
LARGE = LISTED_FROM + 1
TASK = Task(
    "sandbox",
    inputs=(Input("large", FILE, LARGE, chunks=LIST), Input("small", SMALL, 5)),
    datasets=(DatasetInput("d", DATASET, 100, LARGE),),
)
ME, READER, OTHER = REQUESTER.peer_id, PROVIDER.peer_id, STRANGER.peer_id


def files_of(digest: Digest) -> frozenset[Digest]:
    return frozenset({PART}) if digest == DATASET else frozenset()


def word(task: Task = TASK) -> Serve:
    return Serve(JOB, READER, marks_of(JOB, task))


def readable(readers: Readers, reader: str = READER) -> set[Digest]:
    return {digest for digest in (FILE, LIST, DATASET, PART, SMALL) if readers.may_read(reader, digest, files_of)}


def test_whom_its_requester_names_reads_what_is_large_and_nobody_else():
    readers = Readers()
    readers.brought(ME, TASK)
    assert not readable(readers)
    readers.serve(ME, word())
    assert readable(readers) == {FILE, LIST, DATASET, PART}
    assert not readable(readers, OTHER)
    assert not readable(readers, ME)


def test_who_did_not_bring_it_lets_nobody_at_it():
    readers = Readers()
    readers.brought(ME, TASK)
    readers.serve(OTHER, word())
    readers.serve(READER, word())
    assert not readable(readers)


def test_what_was_named_before_it_was_brought_is_not_read():
    readers = Readers()
    readers.serve(ME, word())
    readers.brought(ME, TASK)
    assert not readable(readers)


def test_several_who_brought_the_same_may_each_pass_it_on():
    readers = Readers()
    readers.brought(ME, TASK)
    readers.brought(OTHER, TASK)
    readers.serve(ME, word())
    assert readable(readers) == {FILE, LIST, DATASET, PART}


def test_only_what_is_named_is_read():
    readers = Readers()
    readers.brought(ME, TASK)
    readers.serve(ME, word(Task("sandbox", inputs=TASK.inputs)))
    assert readable(readers) == {FILE, LIST}


@pytest.mark.parametrize("count", [MOST_READ + 3])
def test_what_a_node_may_read_is_bounded(count: int):
    readers = Readers()
    names = [digest_of(bytes([9, number])) for number in range(count)]
    for name in names:
        task = Task("sandbox", inputs=(Input("f", name, LARGE),))
        readers.brought(ME, task)
        readers.serve(ME, word(task))
    assert [readers.may_read(READER, name, files_of) for name in names] == [False] * 3 + [True] * MOST_READ
