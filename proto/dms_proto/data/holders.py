"""What a requester knows of who holds its data: the nodes that ran its work, which fetched what that reads, and those that share a dataset."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import islice
from typing import Final

from dms_proto.data.marks import large_reads
from dms_proto.ids import Digest, PeerId
from dms_proto.messages.data import MAX_HOLDERS
from dms_proto.recent import Recent
from dms_proto.work import Task

MOST_CONTENTS: Final = 1_024
"""Contents whose holders are remembered: the newest."""
MOST_HOLDERS: Final = 2 * MAX_HOLDERS
"""Holders of one content that are remembered: the newest. Some are asked in vain, since they have removed it."""


class KnownHolders:
    """One per node. Not shared between threads."""

    def __init__(self) -> None:
        self._of: Recent[Digest, tuple[PeerId, ...]] = Recent(MOST_CONTENTS)

    def note(self, holder: PeerId, task: Task) -> None:
        """A node was given a task, and had a while to fetch what it reads."""
        for read in large_reads(task):
            self.note_one(holder, read.digest)

    def note_one(self, holder: PeerId, digest: Digest) -> None:
        """A node has a content, or has said so."""
        self._of.keep(digest, _first(MOST_HOLDERS, (holder, *(self._of.get(digest) or ()))))

    def of(self, task: Task, beside: Iterable[PeerId] = (), but: Container[PeerId] = ()) -> Sequence[PeerId]:
        """Who may have what a task reads, likeliest first; `beside`: further ones, after those that are known."""
        known = [holder for read in large_reads(task) for holder in self._of.get(read.digest) or ()]
        return _first(MAX_HOLDERS, (holder for holder in (*known, *beside) if holder not in but))


def _first(most: int, holders: Iterable[PeerId]) -> tuple[PeerId, ...]:
    return tuple(islice(dict.fromkeys(holders), most))
