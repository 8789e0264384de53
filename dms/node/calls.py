"""Calls of others to the services that are offered here; those of this node's owner: `own_calls`. On the loop.

::

    opening of a tunnel ──▶ may this peer call?  `pool.callers` ──▶ the pool ──▶ a container lets it in ──▶ the connection is handed over
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from dms.node.containers import PoolHands
from dms.trust.grant import read_grant
from dms_actors.behaviour import Address
from dms_actors.letters import ShowServices, ShowState, Told
from dms_actors.node import NodeState
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import UserError
from dms_proto.ids import PeerId, TabId
from dms_proto.machine import Stimulus
from dms_proto.pool.callers import admitted, tariff_for, tier_of_caller
from dms_proto.pool.records import CallId
from dms_proto.pool.services import Services
from dms_proto.pool.state import Called, Pool
from dms_proto.tabs.terms import is_free
from dms_proto.tunnels import ToService

ASK_S: Final = 5.0
"""Seconds an actor may take to answer."""


class Calls:
    """One per node."""

    def __init__(self, hands: PoolHands, clock: Callable[[], int]) -> None:
        self._hands = hands
        self._clock = clock
        self._pool: Address
        self._node: Address

    def begin(self, pool: Address, node: Address) -> None:
        """The actors are there: calls can be taken."""
        self._pool, self._node = pool, node

    async def take(self, peer: PeerId, target: ToService, grant: bytes, tab: TabId) -> socket.socket:
        """Lets a peer's call in: gives the connection to the container that has got it.

        Raises:
            UserError: `not_granted`, `not_found`, `tab_wanted`, `call_refused`.
        """
        node: NodeState = await ask_from_loop(self._node, ShowState(), ASK_S)
        shown = node.grants.credential(grant, peer, self._clock(), read_grant)
        service = admitted(node.book, await self.services(), peer, target.name, shown)
        tier = tier_of_caller(node.book, peer, shown)
        is_paid = not is_free(tariff_for(node.book, peer, shown), service.image.size)
        if is_paid and not tab:
            raise UserError("tab_wanted", f"calls of {target.name} are paid, and no price is agreed yet")
        paid_on = tab if is_paid else TabId("")
        return await self._hands.call(Called(CallId(os.urandom(8).hex()), peer, service, tier, paid_on))

    async def services(self) -> Services:
        """Of this node, as they are now."""
        found: Services = await ask_from_loop(self._pool, ShowServices(), ASK_S)
        return found

    async def pool(self) -> Pool:
        """The pool, as it is now."""
        found: Pool = await ask_from_loop(self._pool, ShowState(), ASK_S)
        return found

    def tell(self, stimulus: Stimulus, cause_id: str) -> None:
        """Tells the pool what is to be written down, and does not wait."""
        self._pool.tell(Told(stimulus, cause_id))

    async def wish(self, stimulus: Stimulus, cause_id: str) -> Services:
        """Tells the pool what its owner wishes; gives the services after that.

        Raises:
            UserError: `node_not_running`.
        """
        if not self._pool.tell(Told(stimulus, cause_id)):
            raise UserError("node_not_running", "the node is stopping", retryable=True)
        return await self.services()

    async def end_containers(self, seconds: float) -> None:
        """Before the node stops: what it keeps warm ends with it."""
        await self._hands.end_all(seconds)
