"""Fetching a blob from a peer into the store, once: what is under way under the same digest is waited for."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from dms.store.blobs import BlobStore
from dms_actors.ports import Network
from dms_proto.ids import Digest, PeerId

_under_way: WeakValueDictionary[tuple[BlobStore, Digest], asyncio.Lock] = WeakValueDictionary()


async def fetch_blob(network: Network, blobs: BlobStore, provider: PeerId, digest: Digest, size: int) -> None:
    """Fetches a blob unless it is here. Two transfers of the same would write into one file, since each resumes what the other has begun.

    Raises:
        DmsError: it cannot be had, or not be stored; what arrived is kept for the next try.
    """
    lock = _under_way.setdefault((blobs, digest), asyncio.Lock())
    async with lock:
        if blobs.use(digest) is None:
            into = blobs.partial_path(digest)
            await network.fetch(provider, digest, size, into)
            blobs.adopt(into, digest)
