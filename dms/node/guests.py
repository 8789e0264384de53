"""Guests: connections of siblings that were let in to what runs here. They last as long as both are siblings. On the loop.

The bytes flow past the node, which keeps a descriptor of each connection to break it off by.
"""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress
from typing import Final, NamedTuple

from dms.node.rolls import Rolls
from dms.tasks import cancel
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, PeerId
from dms_proto.market.ledger import Reservation
from dms_proto.siblings import Roll

LOOK_S: Final = 5.0
"""Seconds between two looks whether they still are."""


class _Guest(NamedTuple):
    caller: AllocationId
    peer: PeerId
    connection: socket.socket

    def is_gone(self) -> bool:
        """Whether nothing flows any more."""
        poll = select.poll()
        poll.register(self.connection.fileno(), 0)  # that both ends have ended is always told
        return bool(poll.poll(0))

    def is_on(self, roll: Roll) -> bool:
        return roll.has(self.caller, self.peer)


class Guests:
    """One per node."""

    def __init__(self, rolls: Rolls, look_s: float = LOOK_S) -> None:
        self._rolls = rolls
        self._look_s = look_s
        self._of: dict[AllocationId, list[_Guest]] = {}
        self._looking: dict[AllocationId, asyncio.Task[None]] = {}

    def let_in(self, held: Reservation, caller: AllocationId, peer: PeerId, connection: socket.socket) -> None:
        """A sibling has a connection to what `held` is held for. Of those that ended no descriptor is left, however fast they come."""
        self._drop_gone(held.allocation_id)
        self._of[held.allocation_id].append(_Guest(caller, peer, connection.dup()))
        if held.allocation_id not in self._looking:
            looking = asyncio.get_running_loop().create_task(self._look_after(held), name="guests")
            self._looking[held.allocation_id] = looking

    async def close(self) -> None:
        """Looks no more; connections go on."""
        await cancel(self._looking.values())
        for guest in (guest for guests in self._of.values() for guest in guests):
            guest.connection.close()
        self._of.clear()

    async def _look_after(self, held: Reservation) -> None:
        try:
            while self._of[held.allocation_id]:
                await asyncio.sleep(self._look_s)
                await self._look(held)
        finally:
            del self._looking[held.allocation_id]
        del self._of[held.allocation_id]

    async def _look(self, held: Reservation) -> None:
        self._drop_gone(held.allocation_id)
        if not self._of[held.allocation_id]:
            return
        with suppress(DmsError):  # nobody says that they are none any more
            roll = await self._rolls.of(held)
            strangers = [guest for guest in self._of[held.allocation_id] if not guest.is_on(roll)]
            for guest in strangers:
                with suppress(OSError):
                    guest.connection.shutdown(socket.SHUT_RDWR)
            self._drop(held.allocation_id, strangers)

    def _drop_gone(self, allocation_id: AllocationId) -> None:
        guests = self._of.setdefault(allocation_id, [])
        self._drop(allocation_id, [guest for guest in guests if guest.is_gone()])

    def _drop(self, allocation_id: AllocationId, dropped: list[_Guest]) -> None:
        self._of[allocation_id] = [guest for guest in self._of[allocation_id] if guest not in dropped]
        for guest in dropped:
            guest.connection.close()
