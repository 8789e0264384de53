"""What this node has of the data that requests tell of, so that its bids can say it.

Large contents and datasets are known since they came here; after a restart the large contents that lie in the store, and the datasets that are
kept. What is not known is not claimed. How much of it is there is looked at when a request means it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from dms.node.datasets import Datasets
from dms.store.blobs import BlobStore
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.marks import large_reads, meant
from dms_proto.ids import Digest
from dms_proto.messages import BidRequest
from dms_proto.work import Task

MOST: Final = 256
"""Contents looked through for each request: a quarter of a millisecond."""
MOST_FILES: Final = 1_000
"""Files of a dataset that are looked for. Further ones are not claimed."""


class Holdings:
    """One per node. Told of on the loop, asked on the actors' thread: what is asked is replaced whole.

    Args:
        blobs: the store, as it is at the start.
        datasets: those that are kept.
    """

    def __init__(self, blobs: BlobStore, datasets: Datasets) -> None:
        self._blobs = blobs
        self._datasets = datasets
        large = sorted((kept for kept in blobs.kept() if kept.size > LISTED_FROM), reverse=True)
        self._known: tuple[Digest, ...] = tuple(kept.digest for kept in large[:MOST])

    def note(self, task: Task) -> None:
        """What a task reads is here now."""
        large = (wanted.digest for wanted in task.inputs if wanted.size > LISTED_FROM)
        self._known = _newest((*large, *(dataset.digest for dataset in task.datasets)), self._known)

    def of(self, request: BidRequest) -> int:
        """Bytes of a request's data that are here."""
        if not request.data:
            return 0
        known = _newest((dataset.digest for dataset in self._datasets.kept), self._known)
        found = meant(request.request_id, request.data, known)
        return sum(min(size, self._here(digest)) for digest, size in found.items())

    def missing(self, task: Task) -> int:
        """Bytes of the large things that a task reads which are not here, as far as is known. Blocks on the disk."""
        return sum(max(0, read.size - self._here(read.digest)) for read in large_reads(task))

    def _here(self, digest: Digest) -> int:
        size = self._blobs.size(digest)
        if self._datasets.is_bound(digest):
            return 0
        if size > LISTED_FROM:
            return size
        # What is smaller is known for a dataset: this is its manifest.
        manifest = self._datasets.manifest(digest)
        files = manifest.files if manifest is not None else ()
        return sum(self._blobs.size(file.digest) for file in islice(files, MOST_FILES))


def _newest(new: Iterable[Digest], known: Iterable[Digest]) -> tuple[Digest, ...]:
    return tuple(islice(dict.fromkeys((*new, *known)), MOST))
