"""Fetching a blob from peers into the store, once: what is under way under the same digest is waited for.

Each chunk of a large blob is verified as it arrives, where the list of its chunks is known: the list is fetched first, as a blob of its own.
A link that is cut is waited out, and what arrived is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from dms.store.blobs import PART, BlobStore
from dms_actors.ports import Network
from dms_proto.data.chunks import LISTED_FROM, Content, list_bytes
from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS
from dms_proto.errors import DmsError, PeerError
from dms_proto.ids import Digest, PeerId
from dms_proto.units import SECOND, format_count

log = logging.getLogger(__name__)

PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before a blob is asked for again, by how often it was in vain one time after the other. Then it counts as not to be had."""

BLOCK: Final = 512
"""Bytes of what `st_blocks` counts."""

_under_way: WeakValueDictionary[tuple[BlobStore, Digest], asyncio.Lock] = WeakValueDictionary()


async def fetch_blob(
    network: Network,
    blobs: BlobStore,
    holders: Sequence[PeerId],
    wanted: Content,
    came: Counter[PeerId] | None = None,
) -> None:
    """Fetches a blob unless it is here. Two transfers of the same would write into one file, since each resumes what the other has begun.

    Args:
        network: to fetch it by.
        blobs: where it goes.
        holders: who may have it.
        wanted: what it is.
        came: gets counted in how many bytes of each holder were kept.

    Raises:
        DmsError: it cannot be had, or not be stored; what arrived is kept for the next try. Or it is here, and has another size: by the size
            that was said, room was found for it.
    """
    has_list = bool(wanted.chunks) and wanted.size > LISTED_FROM
    if blobs.use(wanted.digest) is None and has_list:
        await fetch_blob(network, blobs, holders, Content(wanted.chunks, list_bytes(wanted.size)), came)
    lock = _under_way.setdefault((blobs, wanted.digest), asyncio.Lock())
    async with lock:
        if blobs.use(wanted.digest) is None:
            into = blobs.partial_path(wanted.digest)
            chunks = blobs.use(wanted.chunks) if has_list else None

            async def fetch() -> tuple[PeerId, ...]:
                return await network.fetch(holders, wanted.digest, wanted.size, into, chunks, came=came)

            await _until_here(fetch, wanted, into)
            blobs.adopt(into, wanted.digest)
        elif (size := blobs.size(wanted.digest)) != wanted.size:
            what = f"{wanted.digest} has {format_count(size, 'byte')}, and not {wanted.size}"
            raise PeerError("digest_mismatch", what, retryable=False)


def arrived_bytes(blobs: BlobStore, wanted: Content) -> int:
    """How much of a blob is here, about: a download that is under way is counted in blocks of the disk."""
    part = blobs.partial_path(wanted.digest)
    return min(wanted.size, blobs.size(wanted.digest) or BLOCK * _stored(part.with_name(part.name + PART)))


async def _until_here(fetch: Callable[[], Awaitable[tuple[PeerId, ...]]], wanted: Content, into: Path) -> None:
    """Asks until all is here; as often as it takes while something comes, and that fast enough."""
    part = into.with_name(into.name + PART)
    clock = asyncio.get_running_loop().time
    until = clock() + wanted.size / (SLOWEST_BYTES_PER_MS * SECOND)
    in_vain, there = 0, _stored(part)
    while True:
        try:
            wrong = await fetch()
        except DmsError as error:
            has_come = _stored(part) > there and clock() < until
            in_vain, there = 0 if has_come else in_vain + 1, _stored(part)
            if not error.retryable or in_vain == len(PAUSES_S):
                raise
            log.info("%s is not here yet: %s", wanted.digest, error.message)
            await asyncio.sleep(PAUSES_S[in_vain])
        else:
            for peer in wrong:
                log.warning("peer %s sent a wrong chunk of %s; others gave the right one", peer, wanted.digest)
            return


def _stored(part: Path) -> int:
    """How much there is of a partial file, which may have holes."""
    try:
        return part.stat().st_blocks
    except FileNotFoundError:
        return 0
