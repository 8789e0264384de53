"""Datasets of other nodes: found by asking the peers, named in jobs by their whole id.

A large one stays where it is: its manifest comes, and the providers of a job are told who holds the files. A small one comes here.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Final

from dms.node.arrivals import fetch_blob
from dms.node.datasets import Datasets
from dms.node.inputs import Sources, fetch_missing
from dms.node.post import NodePost
from dms.store.blobs import BlobStore
from dms_actors.ports import Network
from dms_proto.capability import Resources
from dms_proto.data.chunks import LISTED_FROM, Content
from dms_proto.data.manifest import Manifest, short_id
from dms_proto.data.marks import mark_of
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import Digest, PeerId, RequestId, request_id
from dms_proto.messages import DatasetHeld, DatasetWanted
from dms_proto.units import GIB, format_count
from dms_proto.work import DatasetInput, Task

MOST_ASKED: Final = 64
"""Peers that are asked for a dataset; where more are connected, some of them."""
ANSWER_S: Final = 3.0
"""Seconds in which the first answer has to come."""
MORE_S: Final = 0.2
"""Seconds in which others may answer after it."""


class Finding:
    """One per node. Lives on the loop.

    Args:
        network: whose peers are asked.
        post: to ask by.
        blobs: where manifests and small datasets go.
        datasets: those of this node, which others ask for.
        held_by: is told of each holder of a large dataset.
    """

    def __init__(
        self,
        network: Network,
        post: NodePost,
        blobs: BlobStore,
        datasets: Datasets,
        held_by: Callable[[PeerId, Digest], None],
    ) -> None:
        self._network = network
        self._post = post
        self._blobs = blobs
        self._datasets = datasets
        self._held_by = held_by
        self._asked: dict[RequestId, _Question] = {}

    async def bring(self, named: Sequence[str]) -> None:
        """Makes known here what is needed of datasets that a job names and other nodes share. What else is named is passed over.

        Raises:
            UserError: `not_found`: nobody shares one.
            PeerError: one could not be fetched.
            MachineError: one could not be stored.
        """
        for digest in dict.fromkeys(map(self._datasets.elsewhere, named)):
            if digest is not None:
                await self._bring(digest)

    def asked_for(self, peer: PeerId, question: DatasetWanted) -> None:
        """Answers a peer, where the dataset is shared here."""
        if (found := self._datasets.shared(question.request_id, question.mark)) is not None:
            self._post.send_now(peer, DatasetHeld(question.request_id, found.size))

    def heard(self, peer: PeerId, answer: DatasetHeld) -> None:
        """Takes an answer from one that was asked."""
        if (question := self._asked.get(answer.request_id)) is not None and peer in question.asked:
            question.sizes[peer] = answer.size
            question.is_answered.set()

    async def _bring(self, digest: Digest) -> None:
        if await asyncio.to_thread(self._is_here, digest):
            return
        sizes = await self._sizes(digest)
        holders, manifest = await self._manifest(digest, sizes)
        if manifest.size > LISTED_FROM:
            for holder in holders:
                self._held_by(holder, digest)
        else:
            dataset = DatasetInput("data", digest, self._blobs.size(digest), manifest.size)
            task = Task("", datasets=(dataset,), resources=Resources(disk_bytes=GIB))
            sources = Sources(holders[0], holders[1:], self._network, self._blobs, self._datasets, Counter())
            await fetch_missing(task, sources, lambda _line: None)

    def _is_here(self, digest: Digest) -> bool:
        manifest = self._datasets.manifest(digest)
        return manifest is not None and all(self._blobs.path(blob) is not None for blob in manifest.blobs)

    async def _sizes(self, digest: Digest) -> Mapping[PeerId, int]:
        """Who says that it shares a dataset, and how long its manifest is."""
        links = list(self._network.links())
        asked = random.sample(links, min(MOST_ASKED, len(links)))
        id_ = request_id(os.urandom(16))
        question = self._asked[id_] = _Question(frozenset(asked))
        try:
            for peer in asked:
                self._post.send_now(peer, DatasetWanted(id_, mark_of(id_, digest)))
            async with asyncio.timeout(ANSWER_S if asked else 0):
                await question.is_answered.wait()
            await asyncio.sleep(MORE_S)
        except TimeoutError:
            what = f"dataset {short_id(digest)} is not kept here, and of {format_count(len(asked), 'connected node')} none shares it"
            raise UserError("not_found", what, hint="dms data add PATH --shared, where it is") from None
        finally:
            del self._asked[id_]
        return question.sizes

    async def _manifest(self, digest: Digest, sizes: Mapping[PeerId, int]) -> tuple[Sequence[PeerId], Manifest]:
        """The manifest, and who has it: not all say the same of it, and what it is shows when it is here."""
        failed: DmsError = PeerError("bad_job", f"{digest} is no manifest of a dataset", retryable=False)
        for size, peers in groupby(sorted(sizes, key=sizes.__getitem__), key=sizes.__getitem__):
            holders = tuple(peers)
            try:
                await fetch_blob(self._network, self._blobs, holders, Content(digest, size))
            except PeerError as error:
                failed = error
                continue
            manifest = await asyncio.to_thread(self._datasets.manifest, digest)
            if manifest is not None:
                return holders, manifest
        raise failed


class _Question:
    """One that was asked of peers."""

    def __init__(self, asked: frozenset[PeerId]) -> None:
        self.asked = asked
        self.sizes: dict[PeerId, int] = {}
        self.is_answered = asyncio.Event()
