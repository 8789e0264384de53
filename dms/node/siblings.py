"""Siblings: the connections that a job makes to its other allocations, led there. On the loop.

::

    program ──▶ keeper_main, outside of its sandbox ──▶ here: who has that number now? ──▶ a tunnel, to which the connection is handed over
                                                                                           ──▶ to its provider, or where that is not reached,
                                                                                               to the requester, which leads on (`relays`)

A connection to a sibling that is not there yet is held for a while, since allocations of one job begin at about the same time and seldom in order.

No program connects in vain faster than it is told so.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Final

from dms.executors.sandbox.keeper_main import break_off
from dms.node.pace import Pace
from dms.node.reaching import Reaching
from dms.node.rolls import FRESH_S, MISSED_S, Rolls
from dms.node.tunnels import Tunnels
from dms.tasks import Tasks
from dms_actors.ports import Tunnel
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import AllocationId, PeerId, short
from dms_proto.market.ledger import Reservation
from dms_proto.recent import Recent
from dms_proto.siblings import Sibling, Way, name_of
from dms_proto.tunnels import Opening, ToPort, asking_to_relay, write_target

MOST: Final = 64
"""Connections to siblings that one allocation has at a time."""
PATIENCE_S: Final = 5.0
"""Seconds in which a sibling has to let a connection in."""
AGAIN_S: Final = 0.25
"""Seconds between two tries, and before a program is told that there is no way."""
REACH_S: Final = 3.0
"""Seconds in which its node has to be connected."""
UNREACHED_S: Final = 60.0
"""For so long a provider that was dialled in vain is not dialled again: its siblings' connections go through the requester at once."""
MOST_UNREACHED: Final = 1_024


class Siblings:
    """One per node."""

    def __init__(self, me: PeerId, reaching: Reaching, tunnels: Tunnels, rolls: Rolls, pace: Pace) -> None:
        self._me = me
        self._reaching = reaching
        self._tunnels = tunnels
        self._rolls = rolls
        self._open: Counter[AllocationId] = Counter()
        self._unreached_until: Recent[PeerId, float] = Recent(MOST_UNREACHED)
        """Until when a provider is not dialled again, on the loop's clock."""
        self._pace = pace
        self._waiting = Tasks()

    async def lead(self, name: str, way: Way, end: socket.socket) -> None:
        """Hands a connection of what runs here under that name over to a tunnel; see `dms.executors.sandbox.keeper.Lead`.

        Raises:
            DmsError: there is no tunnel, and the connection is broken off.
        """
        caller = AllocationId(name)
        self._open[caller] += 1
        try:
            tunnel = await self._let_in_or_late(caller, way)
        except BaseException:
            break_off(end)
            self._leave(caller)
            raise
        tunnel.join(end)
        self._waiting.start(self._until_over(caller, tunnel), "to a sibling")

    async def close(self) -> None:
        """Counts no more. Tunnels go on as long as the network does."""
        await self._waiting.close()

    async def _let_in_or_late(self, caller: AllocationId, way: Way) -> Tunnel:
        try:
            return await self._let_in(caller, way)
        except DmsError:
            await asyncio.sleep(AGAIN_S)
            raise

    async def _let_in(self, caller: AllocationId, way: Way) -> Tunnel:
        """A tunnel there; asked for again while that may help."""
        if self._open[caller] > MOST:
            raise UserError("not_listening", f"{MOST} connections to other allocations are open, the most there may be")
        loop = asyncio.get_running_loop()
        until, fresh_s = loop.time() + PATIENCE_S, FRESH_S
        while True:
            try:
                return await self._tunnel(caller, way, fresh_s)
            except DmsError as error:
                if loop.time() >= until or error.code == "bad_argument":
                    raise
            await asyncio.sleep(AGAIN_S)
            fresh_s = MISSED_S

    async def _tunnel(self, caller: AllocationId, way: Way, fresh_s: float) -> Tunnel:
        allocation = await self._tunnels.allocation(caller)
        if allocation is None or allocation.reservation is None:
            raise UserError("bad_argument", f"{caller} does not run here")
        sibling = (await self._rolls.of(allocation.reservation, fresh_s)).at(way.to)
        if sibling is None:
            raise UserError("not_running", f"{name_of(way.to)} does not run now")
        opening = Opening(sibling.allocation_id, write_target(ToPort(way.port)), caller=caller)
        if await self._is_reached(sibling, allocation.reservation.requester):
            self._pace.keep(sibling.provider, name_of(way.to))
            return await self._tunnels.lead(sibling.provider, opening)
        return await self._relayed(way, sibling, opening, allocation.reservation)

    async def _is_reached(self, sibling: Sibling, requester: PeerId) -> bool:
        """Whether its provider is connected; one that was tried in vain of late is not dialled again."""
        now = asyncio.get_running_loop().time()
        if sibling.provider == self._me:
            return True
        addresses = sibling.addresses if now >= (self._unreached_until.get(sibling.provider) or 0.0) else ()
        is_reached = await self._reaching.reach(sibling.provider, addresses, requester, REACH_S)
        if addresses and not is_reached:
            self._unreached_until.keep(sibling.provider, now + UNREACHED_S)
        return is_reached

    async def _relayed(self, way: Way, sibling: Sibling, opening: Opening, held: Reservation) -> Tunnel:
        """A tunnel that the requester leads on."""
        self._pace.keep(held.requester, name_of(way.to))
        try:
            return await self._tunnels.lead(held.requester, asking_to_relay(held.request_id, opening))
        except DmsError as error:
            what = f"{short(sibling.provider)} is not reached from here, and not through the requester: {error.message}"
            raise PeerError("peer_unreachable", what, retryable=True) from error

    async def _until_over(self, caller: AllocationId, tunnel: Tunnel) -> None:
        try:
            await tunnel.wait_over()
        finally:
            self._leave(caller)

    def _leave(self, caller: AllocationId) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
