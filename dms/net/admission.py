"""Proof of work at the door: what a peer has to show before it is heard, and what this node shows to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from dms.net.guards.yamux import connection_under
from dms.net.host import Host
from dms.net.limits import Spans
from dms.net.stamps import Stamps
from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import is_public
from dms_proto.wire.stamps import day_of, worth

MAX_PROVEN: Final = 1_024
"""Peers whose proof of work is remembered: twice as many as can be connected."""


class Admission:
    """Lives on the trio thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._proven: Recent[str, None] = Recent(MAX_PROVEN)
        self._spared = Spans()
        self._stamps = Stamps(PeerId(host.peer_id))

    def spare(self, peer: str, seconds: float) -> None:
        """Asks a peer for none for a while, since the node has let it in; 0 ends it. Bounded, as bans are."""
        self._spared.add(peer, seconds, trio.current_time())

    def is_admitted(self, peer: str) -> bool:
        """Whether a peer need not show anything, or has."""
        return not self._wanted(peer)

    def lacking_work(self, peer: str, stamp: bytes) -> tuple[int, int] | None:
        """The bits that a peer has shown and those that are wanted, if it has shown too few. Who has shown them once is not asked again."""
        wanted = self._wanted(peer)
        if not wanted:
            return None
        shown = worth(stamp, PeerId(peer), PeerId(self._host.peer_id), day_of(_now()))
        if shown < wanted:
            return shown, wanted
        self._proven.keep(peer, None)
        return None

    def stamp(self, peer: str) -> bytes:
        """What is shown to a peer: empty, unless this node has worked for it."""
        return self._stamps.of(PeerId(peer))

    async def work_for(self, peer: str, bits: int, is_wanted: Callable[[], bool]) -> None:
        """Works until there is a stamp to show to `peer`, or it is not wanted any more. Whoever dialled us asks for none.

        Raises:
            ValueError: `bits` are more than this node works for, it has done enough for its source, or it has not dialled the peer.
        """
        if not self._is_dialled(peer):
            raise ValueError("it dialled this node and asks it for proof of work")
        await self._stamps.make(PeerId(peer), self._host.source(peer), bits, _now(), is_wanted)

    def _wanted(self, peer: str) -> int:
        """The bits that a peer still has to show: none if it is known, was dialled by us, or has shown them."""
        config = self._host.config
        if peer in self._proven or peer in config.known or self._is_dialled(peer):
            return 0
        if self._spared.holds(peer, trio.current_time()):
            return 0
        return config.work_bits if is_public(self._host.remote(peer)) else config.work_bits_private

    def _is_dialled(self, peer: str) -> bool:
        return any(connection_under(connection).is_initiator for connection in self._host.connections(peer))


def _now() -> int:
    return time.time_ns() // 1_000_000
