"""Who may read of a holder what others brought there.

A content that came for a requester's work is that requester's to pass on: it names the nodes that run further work of its own, and these are served.
Nothing follows from knowing a digest, nor from being somebody's provider: a requester that never had a content here can let nobody at it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from dms_proto.data.marks import large_reads, meant
from dms_proto.fair_memory import FairMemory
from dms_proto.ids import Digest, PeerId
from dms_proto.messages import Serve
from dms_proto.recent import Recent
from dms_proto.work import Task

MOST_CONTENTS: Final = 256
"""Contents of which is remembered who brought them: the newest."""
MOST_REQUESTERS: Final = 8
"""Of each, the latest who did."""
MOST_READERS: Final = 1_024
"""Nodes that are served by somebody's word. Whoever named most makes room."""
MOST_READ: Final = 16
"""Contents that each of them may read: those named last."""


class _Brought(NamedTuple):
    chunks: Digest
    requesters: tuple[PeerId, ...]


class Readers:
    """One per node. Not shared between threads."""

    def __init__(self) -> None:
        self._brought: Recent[Digest, _Brought] = Recent(MOST_CONTENTS)
        self._reads: FairMemory[PeerId, tuple[Digest, ...]] = FairMemory(MOST_READERS)

    def brought(self, requester: PeerId, task: Task) -> None:
        """What a requester's task reads is here now."""
        for read in large_reads(task):
            before = self._brought.get(read.digest) or _Brought(read.chunks, ())
            requesters = tuple(islice(dict.fromkeys((requester, *before.requesters)), MOST_REQUESTERS))
            self._brought.keep(read.digest, _Brought(read.chunks or before.chunks, requesters))

    def serve(self, requester: PeerId, message: Serve) -> None:
        """A requester names a reader of what it brought here. What it means and did not bring is passed over."""
        named = tuple(meant(message.request_id, message.data, self._brought_by(requester)))
        if named:
            reads = dict.fromkeys((*named, *(self._reads.get(message.reader) or ())))
            self._reads.keep(message.reader, requester, requester, tuple(islice(reads, MOST_READ)))

    def may_read(self, reader: PeerId, digest: Digest, files_of: Callable[[Digest], frozenset[Digest]]) -> bool:
        """Whether a node may read a blob: a content that it was named for, the list of its chunks, or what a dataset has (`files_of`)."""
        return any(
            digest == content or digest == self._chunks(content) or digest in files_of(content)
            for content in self._reads.get(reader) or ()
        )

    def _brought_by(self, requester: PeerId) -> list[Digest]:
        found = ((digest, self._brought.get(digest)) for digest in self._brought)
        return [digest for digest, brought in found if brought is not None and requester in brought.requesters]

    def _chunks(self, content: Digest) -> Digest | None:
        brought = self._brought.get(content)
        return brought.chunks if brought is not None else None
