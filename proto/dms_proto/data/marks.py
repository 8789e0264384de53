"""What a request tells of the data its work will read, and what is told to nobody by it.

A bid request is heard by many, and a digest is what gets a content out of a node's store. So it names contents by marks: only who holds a content
can see that it is meant, and the marks of two requests have nothing in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from dms_proto.data.chunks import LISTED_FROM, NO_LIST
from dms_proto.ids import Digest, RequestId
from dms_proto.messages import DataMark
from dms_proto.messages.data import MARK_BYTES, MAX_MARKS
from dms_proto.work import Task

MARK_DOMAIN: Final = b"dms/data/1\0"


def mark_of(request_id: RequestId, digest: Digest) -> bytes:
    """What stands for a content in a request."""
    return hashlib.sha256(MARK_DOMAIN + request_id.encode() + digest.encode()).digest()[:MARK_BYTES]


def marks_of(request_id: RequestId, task: Task) -> tuple[DataMark, ...]:
    """What stands for the largest things that a task reads."""
    return tuple(DataMark(mark_of(request_id, read.digest), read.size) for read in large_reads(task))


class LargeRead(NamedTuple):
    """A content that takes a while to fetch.

    Attributes:
        size: bytes; of a dataset all its files together.
        digest: of it; of a dataset its id.
        chunks: of the list of its chunks, or empty.
    """

    size: int
    digest: Digest
    chunks: Digest = NO_LIST


def large_reads(task: Task) -> Sequence[LargeRead]:
    """The largest things that a task reads, datasets and inputs, at most `MAX_MARKS`; largest first."""
    read = [LargeRead(dataset.total, dataset.digest) for dataset in task.datasets]
    read += [LargeRead(wanted.size, wanted.digest, wanted.chunks) for wanted in task.inputs]
    largest = {(each.size, each.digest): each for each in sorted(read, reverse=True) if each.size > LISTED_FROM}
    return tuple(largest.values())[:MAX_MARKS]


def meant(request_id: RequestId, marks: Iterable[DataMark], known: Iterable[Digest]) -> Mapping[Digest, int]:
    """Which of the known contents a request means, and how many bytes it says that they have."""
    sizes = {mark.mark: mark.size for mark in marks}
    named = ((digest, sizes.get(mark_of(request_id, digest))) for digest in known)
    return {digest: size for digest, size in named if size is not None}
