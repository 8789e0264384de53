"""Datasets of other nodes: found by asking the peers, named in jobs by their whole id.

A large one stays where it is: its manifest comes, and the providers of a job are told who holds the files. A small one comes here.

Who holds a large one is in memory alone. So the peers are asked again when a provider wants to know and nobody was found of late; for all providers
at once, and not again at once where nobody was found: a job has many, and peers mute who asks without end.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from dms.node.datasets import Datasets
from dms.node.hearsay import first_right
from dms.node.inputs import Sources, fetch_missing
from dms.node.post import NodePost
from dms.node.questions import Questions
from dms.store.blobs import BlobStore
from dms_actors.ports import Network
from dms_proto.capability import Resources
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.holders import MOST_CONTENTS, KnownHolders
from dms_proto.data.manifest import short_id
from dms_proto.data.marks import mark_of
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import Digest, PeerId, RequestId, request_id
from dms_proto.messages import DatasetHeld, DatasetWanted
from dms_proto.recent import Recent
from dms_proto.units import GIB, format_count
from dms_proto.work import DatasetInput, Task

MOST_ASKED: Final = 64
"""Peers that are asked for a dataset; where more are connected, some of them."""
ANSWER_S: Final = 3.0
"""Seconds in which the first answer has to come."""
SOON_S: Final = 1.0
"""The same, where a provider waits for our answer, less long than `holders.ANSWER_S`."""
MORE_S: Final = 0.2
"""Seconds in which others may answer after it."""
LATELY_S: Final = 60.0
"""Seconds in which who was found to share a dataset is not looked for again."""
IN_VAIN_S: Final = 5.0
"""The same, where nobody was found."""


class Finding:
    """One per node. Lives on the loop.

    Args:
        network: whose peers are asked.
        post: to ask by.
        blobs: where manifests and small datasets go.
        datasets: those of this node, which others ask for.
        holders: gets told who shares a large dataset.
    """

    def __init__(
        self,
        network: Network,
        post: NodePost,
        blobs: BlobStore,
        datasets: Datasets,
        holders: KnownHolders,
    ) -> None:
        self._network = network
        self._post = post
        self._blobs = blobs
        self._datasets = datasets
        self._holders = holders
        self._questions: Questions[RequestId, DatasetHeld] = Questions()
        self._known_until: Recent[Digest, float] = Recent(MOST_CONTENTS)
        """Until when it is not asked again who shares a large dataset, on the loop's clock."""
        self._looking: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

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

    async def find_again(self, task: Task) -> None:
        """Finds who shares the large datasets that a task reads and that are not here, unless somebody was found of late."""
        large = [dataset.digest for dataset in task.datasets if dataset.total > LISTED_FROM]
        await asyncio.gather(*map(self._find_again, large))

    def asked_for(self, peer: PeerId, question: DatasetWanted) -> None:
        """Answers a peer, where the dataset is shared here."""
        if (found := self._datasets.shared(question.request_id, question.mark)) is not None:
            self._post.send_now(peer, DatasetHeld(question.request_id, found.size))

    def heard(self, peer: PeerId, answer: DatasetHeld) -> None:
        """Takes an answer from one that was asked."""
        self._questions.heard(answer.request_id, peer, answer)

    async def _find_again(self, digest: Digest) -> None:
        looking = self._looking.setdefault(digest, asyncio.Lock())
        async with looking:
            if asyncio.get_running_loop().time() < (self._known_until.get(digest) or 0.0):
                return
            if not await asyncio.to_thread(self._is_here, digest):
                sizes = await self._sizes(digest, self._peers(), SOON_S)
                self._note(digest, self._right(digest, sizes))

    def _right(self, digest: Digest, sizes: Mapping[PeerId, int]) -> Sequence[PeerId]:
        """Who says of a manifest that is here what it is."""
        return [peer for peer, size in sizes.items() if size == self._blobs.size(digest)]

    def _note(self, digest: Digest, holders: Collection[PeerId]) -> None:
        for holder in holders:
            self._holders.note_one(holder, digest)
        self._known_until.keep(digest, asyncio.get_running_loop().time() + (LATELY_S if holders else IN_VAIN_S))

    async def _bring(self, digest: Digest) -> None:
        if await asyncio.to_thread(self._is_here, digest):
            return
        asked = self._peers()
        sizes = await self._sizes(digest, asked, ANSWER_S)
        if not sizes:
            what = f"dataset {short_id(digest)} is not kept here, and of {format_count(len(asked), 'connected node')} none shares it"
            raise UserError("not_found", what, hint="dms data add PATH --shared, where it is")
        await first_right(self._network, self._blobs, digest, sizes)
        manifest = await asyncio.to_thread(self._datasets.manifest, digest)
        if manifest is None:
            raise PeerError("bad_job", f"{digest} is no manifest of a dataset", retryable=False)
        holders = self._right(digest, sizes)
        if manifest.size > LISTED_FROM:
            self._note(digest, holders)
        else:
            dataset = DatasetInput("data", digest, self._blobs.size(digest), manifest.size)
            task = Task("", datasets=(dataset,), resources=Resources(disk_bytes=GIB))
            sources = Sources(holders[0], holders[1:], self._network, self._blobs, self._datasets, Counter())
            await fetch_missing(task, sources, lambda _line: None)

    def _is_here(self, digest: Digest) -> bool:
        manifest = self._datasets.manifest(digest)
        return manifest is not None and all(self._blobs.path(blob) is not None for blob in manifest.blobs)

    def _peers(self) -> Sequence[PeerId]:
        links = list(self._network.links())
        return random.sample(links, min(MOST_ASKED, len(links)))

    async def _sizes(self, digest: Digest, peers: Sequence[PeerId], first_s: float) -> Mapping[PeerId, int]:
        """Who of some peers says that it shares a dataset, and how long its manifest is."""
        id_ = request_id(os.urandom(16))
        send = partial(self._post.send_now, message=DatasetWanted(id_, mark_of(id_, digest)))
        answers = await self._questions.ask(id_, peers, send, first_s, MORE_S)
        return {peer: answer.size for peer, answer in answers.items()}
