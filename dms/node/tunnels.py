"""Tunnels of this node: into what runs and is offered here for others, and into what is elsewhere for its owner. On the loop.

A tunnel to what the node runs for itself takes the same decisions, without the wire.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from dms.node.calls import Calls
from dms.node.guests import Guests
from dms.node.pace import Pace
from dms.node.relays import Relays
from dms.node.rolls import Rolls
from dms.node.workbench import Workbench
from dms.trust.grant import read_grant
from dms_actors.behaviour import Address
from dms_actors.directory import Directory
from dms_actors.letters import Admit, ShowState
from dms_actors.node import NodeState
from dms_actors.ports import Network, Tunnel
from dms_actors.runtime import ask_from_loop
from dms_actors.splice import Splice
from dms_proto.allocation.state import Allocation
from dms_proto.allocation.tunnels import admitted, asks_as_sibling, takes_grants
from dms_proto.errors import DmsError, UserError
from dms_proto.grants.access import NOTHING_SHOWN, Credential
from dms_proto.ids import AllocationId, PeerId
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_judgement import is_known
from dms_proto.recent import Recent
from dms_proto.tunnels import (
    Opening,
    ToCommand,
    read_opening,
    relay_asked,
    roll_asked,
    service_in,
    write_opening,
)

ASK_S: Final = 5.0
"""Seconds an allocation's actor may take to tell its state."""
KEPT: Final = 4_096
"""Tunnels whose end is remembered, for who asks late."""


class Led(NamedTuple):
    """A tunnel and its name, by which its end is asked for."""

    name: str
    tunnel: Tunnel


class Tunnels:
    """One per node."""

    def __init__(  # noqa: PLR0917 - called once
        self,
        me: PeerId,
        network: Network,
        allocations: Directory,
        workbench: Workbench,
        calls: Calls,
        rolls: Rolls,
        guests: Guests,
        pace: Pace,
    ) -> None:
        self._rolls = rolls
        self._guests = guests
        self._me = me
        self._network = network
        self._allocations = allocations
        self._workbench = workbench
        self._calls = calls
        self._relays = Relays(rolls, self.lead, pace)
        self._led: Recent[str, Tunnel] = Recent(KEPT)
        self._judge: Callable[[PeerId, bytes], Awaitable[Credential | None]] | None = None
        network.serve_tunnels(self.accept)

    def judge_by(self, node: Address, clock: Callable[[], int]) -> None:
        """Has what peers show judged by whom this node believes; before that, nothing shown counts."""

        async def judge(peer: PeerId, grant: bytes) -> Credential | None:
            state: NodeState = await ask_from_loop(node, ShowState(), ASK_S)
            return None if is_known(state.book, peer) else state.grants.credential(grant, peer, clock(), read_grant)

        self._judge = judge

    async def accept(self, peer: PeerId, opening: bytes) -> socket.socket:
        """Lets a peer in, or not: see `admitted`.

        Raises:
            DmsError: what the peer is told.
        """
        return await self._let_in(peer, read_opening(opening))

    async def open(self, provider: PeerId, opening: Opening) -> Led:
        """A tunnel into an allocation that runs for this node, or to a service.

        Raises:
            DmsError: why there is none.
        """
        tunnel = await self.lead(provider, opening)
        name = os.urandom(8).hex()
        self._led.keep(name, tunnel)
        return Led(name, tunnel)

    async def lead(self, provider: PeerId, opening: Opening) -> Tunnel:
        """A tunnel whose end nobody asks for by name.

        Raises:
            DmsError: why there is none.
        """
        if provider == self._me:
            return Splice(await self._let_in(self._me, opening))
        return await self._network.open_tunnel(provider, write_opening(opening))

    def get(self, name: str) -> Tunnel:
        """The tunnel of that name.

        Raises:
            UserError: `not_found`.
        """
        tunnel = self._led.get(name)
        if tunnel is None:
            raise UserError("not_found", f"no tunnel {name!r} was opened here, or too long ago")
        return tunnel

    async def close(self) -> None:
        """Looks after nothing any more; tunnels go on as long as the network does."""
        await self._relays.close()

    async def _let_in(self, peer: PeerId, opening: Opening) -> socket.socket:
        if (service := service_in(opening)) is not None:
            return await self._calls.take(peer, service, opening.grant, opening.tab)
        if (relay := relay_asked(opening)) is not None:
            return await self._relays.let_in(peer, relay)
        if (job := roll_asked(opening)) is not None:
            return await self._rolls.tell(peer, job, opening.allocation_id)
        allocation = await self.allocation(opening.allocation_id)
        shown: Credential | None = NOTHING_SHOWN
        if self._judge is not None and takes_grants(allocation, opening):
            shown = await self._judge(peer, opening.grant)
        held = await self._held_by_sibling(allocation, peer, opening)
        target = admitted(allocation, peer, opening, shown, is_sibling=held is not None)
        if isinstance(target, ToCommand):
            await self._write_down(opening.allocation_id, peer, target)
        connection = await self._workbench.connect(opening.allocation_id, target)
        if held is not None:
            self._guests.let_in(held, opening.caller, peer, connection)
        return connection

    async def _held_by_sibling(
        self, allocation: Allocation | None, peer: PeerId, opening: Opening
    ) -> Reservation | None:
        """What the allocation is held for, if it is a sibling that asks."""
        if allocation is None or allocation.reservation is None or not asks_as_sibling(allocation, opening):
            return None
        return allocation.reservation if await self._rolls.has(allocation.reservation, opening.caller, peer) else None

    async def _write_down(self, id_: AllocationId, peer: PeerId, target: ToCommand) -> None:
        """Before a command runs the log has it, and for whom."""
        address = self._allocations.get(id_)
        if address is None:
            raise UserError("not_running", f"{id_} is over")
        await ask_from_loop(address, Admit(peer, target.order.words), ASK_S)

    async def allocation(self, id_: AllocationId) -> Allocation | None:
        """The state of what runs here; None: it does not."""
        address = self._allocations.get(id_)
        if address is None:
            return None
        try:
            state: Allocation = await ask_from_loop(address, ShowState(), ASK_S)
        except DmsError:
            return None  # its actor has just ended
        return state
