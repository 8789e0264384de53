"""What a request tells of the data its work will read, and what is told to nobody by it.

A bid request is heard by many, and a digest is what gets a content out of a node's store. So it names contents by marks: only who holds a content
can see that it is meant, and the marks of two requests have nothing in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from dms_proto.data.chunks import LISTED_FROM
from dms_proto.ids import Digest, RequestId
from dms_proto.messages import DataMark
from dms_proto.messages.kinds import MARK_BYTES, MAX_MARKS
from dms_proto.work import Task

MARK_DOMAIN: Final = b"dms/data/1\0"


def mark_of(request_id: RequestId, digest: Digest) -> bytes:
    """What stands for a content in a request."""
    return hashlib.sha256(MARK_DOMAIN + request_id.encode() + digest.encode()).digest()[:MARK_BYTES]


def marks_of(request_id: RequestId, task: Task) -> tuple[DataMark, ...]:
    """The largest things that a task reads: datasets, and inputs so large that fetching them takes a while."""
    read = [(dataset.total, dataset.digest) for dataset in task.datasets]
    read += [(wanted.size, wanted.digest) for wanted in task.inputs]
    large = sorted(((size, digest) for size, digest in set(read) if size > LISTED_FROM), reverse=True)
    return tuple(DataMark(mark_of(request_id, digest), size) for size, digest in large[:MAX_MARKS])


def meant(request_id: RequestId, marks: Iterable[DataMark], known: Iterable[Digest]) -> Mapping[Digest, int]:
    """Which of the known contents a request means, and how many bytes it says that they have."""
    sizes = {mark.mark: mark.size for mark in marks}
    named = ((digest, sizes.get(mark_of(request_id, digest))) for digest in known)
    return {digest: size for digest, size in named if size is not None}
