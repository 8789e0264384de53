"""Connecting to where others say that a node is. The one place where it is decided whether that is done. On the loop.

::

    hello, bid request ── where I am ──────┐
    hello ── where others are ─────────────┼──▶ here: how far does its giver reach? has it had us connect to many? ──▶ `Network.dial`
    roll, holders ── where to fetch, ask ──┘

Who names an address makes this node connect to it, and so could make a whole market knock somewhere. So a giver names what it reaches itself: by a
connection from the internet nothing of this machine's own network, by one from that network nothing of this machine (`dms_proto.scope`). Of a giver
that is not connected, such as the author of gossip, it counts from where it was last; of one that never was, the widest of all that the node is in
touch with: one on loopback alone meets nobody but its own machine. What the owner names, `dms join` and the settings, does not come here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from dms.net.addresses import scope
from dms_actors.ports import Network
from dms_proto.errors import DmsError, PeerError
from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.scope import Scope, scope_of
from dms_proto.units import SECOND
from dms_proto.wire.buckets import Buckets, Limit

log = logging.getLogger(__name__)

CAUSED: Final = Limit(4, 64)
"""Nodes that one giver has this one dial. A job's allocations reach 64 siblings at once, and whoever names that many reaches them too."""
MOST_KNOWN: Final = 4_096
"""Givers of whom it is remembered from where they were connected."""


class Reaching:
    """One per node."""

    def __init__(self, me: PeerId, network: Network) -> None:
        self._me = me
        self._network = network
        self._home = Scope.INTERNET
        self._is_listening = asyncio.Event()
        self._scopes: Recent[PeerId, Scope] = Recent(MOST_KNOWN)
        self._caused: Buckets[PeerId] = Buckets(lambda _giver: CAUSED)

    def lives_at(self, announced: Sequence[str]) -> None:
        """The node listens, and is reached there. Nobody is dialled before."""
        self._home = max((found for each in announced if (found := scope(each)) is not None), default=Scope.INTERNET)
        self._is_listening.set()

    def least_of(self, giver: PeerId) -> Scope:
        """The narrowest scope of what is dialled by a giver's word."""
        if giver == self._me:
            return Scope.MACHINE
        link = self._network.links().get(giver)
        if link is not None and link.remote:
            self._scopes.keep(giver, scope_of(link.remote))
        known = self._scopes.get(giver)
        return self._widest() if known is None else known

    def _widest(self) -> Scope:
        """What the node is in touch with: it may be told of by anybody there."""
        remotes = (link.remote for link in self._network.links().values())
        return max([self._home, *(scope_of(remote) for remote in remotes if remote)])

    async def dial(self, peer: PeerId, addresses: Sequence[str], giver: PeerId) -> None:
        """Connects to a peer by the word of a giver, which may be that peer.

        Raises:
            DmsError: it did not work, or is not tried.
        """
        await self._is_listening.wait()
        now = round(asyncio.get_running_loop().time() * SECOND)
        bucket = self._caused.get(giver, now)
        if bucket is None or not bucket.take(now):
            raise PeerError("peer_unreachable", f"{giver} names more nodes than are dialled for one", retryable=True)
        ends = f"/p2p/{peer}"
        named = [each.removesuffix(ends) + ends for each in addresses if "/p2p/" not in each.removesuffix(ends)]
        await self._network.dial(named, self.least_of(giver))

    async def reach(self, peer: PeerId, addresses: Sequence[str], giver: PeerId, seconds: float) -> bool:
        """Connects to a peer, if it is not; whether it is then."""
        if peer not in self._network.links() and addresses:
            try:
                async with asyncio.timeout(seconds):
                    await self.dial(peer, addresses, giver)
            except (DmsError, TimeoutError) as error:
                log.info("%s is not reached: %s", peer, str(error) or "not in time")
        return peer in self._network.links()
