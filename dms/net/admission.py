"""Proof of work at the door: what a peer has to show before it is heard, and what this node shows to others."""

from __future__ import annotations

import time
from typing import Final

import trio

from dms.net.guards.yamux import connection_under
from dms.net.host import Host
from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import is_public
from dms_proto.wire.stamps import day_of, make_stamp, worth

MAX_PROVEN: Final = 1_024
"""Peers whose proof of work is remembered, and to which ours is: twice as many as can be connected."""


class Admission:
    """Lives on the trio thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._proven: Recent[str, None] = Recent(MAX_PROVEN)
        self._stamps: Recent[str, bytes] = Recent(MAX_PROVEN)
        self._working = trio.CapacityLimiter(1)

    def is_admitted(self, peer: str) -> bool:
        """Whether a peer need not show anything, or has."""
        return not self._wanted(peer)

    def lacking_work(self, peer: str, stamp: bytes) -> tuple[int, int] | None:
        """The bits that a peer has shown and those that are wanted, if it has shown too few. Who has shown them once is not asked again."""
        wanted = self._wanted(peer)
        if not wanted:
            return None
        shown = worth(stamp, PeerId(peer), PeerId(self._host.peer_id), _today())
        if shown < wanted:
            return shown, wanted
        self._proven.keep(peer, None)
        return None

    def stamp(self, peer: str) -> bytes:
        """What is shown to a peer: empty, unless this node has worked for it."""
        return self._stamps.get(peer) or b""

    async def work_for(self, peer: str, bits: int) -> None:
        """Works in a thread, for one peer at a time, until there is a stamp to show to `peer`.

        Raises:
            ValueError: `bits` are more than this node works for.
        """
        me, other = PeerId(self._host.peer_id), PeerId(peer)
        stamp = await trio.to_thread.run_sync(make_stamp, me, other, _today(), bits, limiter=self._working)
        self._stamps.keep(peer, stamp)

    def _wanted(self, peer: str) -> int:
        """The bits that a peer still has to show: none if it is known, was dialled by us, or has shown them."""
        config = self._host.config
        if peer in self._proven or peer in config.known:
            return 0
        if any(connection_under(connection).is_initiator for connection in self._host.connections(peer)):
            return 0
        return config.work_bits if is_public(self._host.remote(peer)) else config.work_bits_private


def _today() -> int:
    return day_of(time.time_ns() // 1_000_000)
