"""Of peers that say that they have a small content, and how long it is: whose word is right.

Not all say the same, and what is right shows when it is here. So it is fetched of several at once, of each what it said and into a file of its own:
nobody goes on from what another has begun, and who stalls holds up nothing but its own turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import count, groupby, zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from dms.store.blobs import BlobStore
from dms.tasks import cancel
from dms_actors.ports import Network
from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS
from dms_proto.errors import PeerError
from dms_proto.ids import Digest, PeerId
from dms_proto.units import SECOND, format_count

log = logging.getLogger(__name__)

AT_ONCE: Final = 3
"""Peers asked at a time: a node fetches eight contents at once, and other work wants some as well."""
TURN_S: Final = 5.0
"""Seconds that a peer has beside those that the bytes may take which it said."""
ALL_S: Final = 90.0
"""Seconds in which it has to be here, however many say that they have it."""


class Said(NamedTuple):
    """What a peer says of a content: how many bytes it has."""

    peer: PeerId
    size: int


def in_turn(sizes: Mapping[PeerId, int]) -> Sequence[Said]:
    """In which order peers are asked: one for each size, what most say first and what is soon refuted next, then the next one for each."""
    told = sorted((Said(peer, size) for peer, size in sizes.items()), key=lambda said: said.size)
    agreed = sorted((list(same) for _, same in groupby(told, key=lambda said: said.size)), key=len, reverse=True)
    return [said for turn in zip_longest(*agreed) for said in turn if said is not None]


async def first_right(network: Network, blobs: BlobStore, digest: Digest, sizes: Mapping[PeerId, int]) -> None:
    """Fetches a content of one that has it, unless it is here.

    Args:
        network: to fetch it by.
        blobs: where it goes.
        digest: of the content.
        sizes: how many bytes each says that it has.

    Raises:
        PeerError: none gives it, or none in time.
        MachineError: it cannot be stored.
    """
    if blobs.use(digest) is not None:
        return
    with blobs.aside() as directory:
        race = _Race(network, digest, directory, in_turn(sizes))
        blobs.adopt(await race.run(), digest)


class _Race:
    def __init__(self, network: Network, digest: Digest, directory: Path, told: Sequence[Said]) -> None:
        self._network = network
        self._digest = digest
        self._directory = directory
        self._told = iter(told)
        self._numbers = count()
        self._asked = 0
        self._failed = PeerError("peer_unreachable", f"nobody was named who has {digest}")

    async def run(self) -> Path:
        """Where it is."""
        running = [asyncio.ensure_future(self._one_after_the_other()) for _ in range(AT_ONCE)]
        try:
            async with asyncio.timeout(ALL_S):
                for ended in asyncio.as_completed(running):
                    if (path := await ended) is not None:
                        return path
        except TimeoutError:
            self._failed = PeerError("peer_timeout", f"{self._digest} did not come in {ALL_S:.0f} s")
        finally:
            await cancel(running)
        who = f"of {format_count(self._asked, 'node')} that said to have it none gave it"
        raise PeerError(self._failed.code, f"{self._failed.message}; {who}", retryable=self._failed.retryable)

    async def _one_after_the_other(self) -> Path | None:
        for said in self._told:
            self._asked += 1
            into = self._directory / str(next(self._numbers))
            try:
                async with asyncio.timeout(TURN_S + said.size / (SLOWEST_BYTES_PER_MS * SECOND)):
                    await self._network.fetch((said.peer,), self._digest, said.size, into)
            except PeerError as error:
                log.warning("peer %s said to have %s, and: %s", said.peer, self._digest, error.message)
                self._failed = error
            except TimeoutError:
                log.warning("peer %s said to have %s, and did not give it in time", said.peer, self._digest)
            else:
                return into
        return None
