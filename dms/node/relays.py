"""Relays: connections of siblings whose providers do not reach each other, led on by this node, the requester of both. On the loop.

::

    provider of 0 ── a tunnel ──▶ here: are both on the roll? ── another tunnel, in our own name ──▶ provider of 1

The ports of its allocations are the requester's own to reach, so the second provider lets it in as ever. The bytes flow in the network process, from
one tunnel to the other.

A provider takes so many tunnels of one node, and these are one's. So no provider gets all of them by asking, nor do all together.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from dms.node.guests import LOOK_S
from dms.node.pace import Pace
from dms.node.rolls import Rolls
from dms.tasks import Tasks, cancel
from dms_actors.ports import Tunnel
from dms_proto.errors import DmsError, InternalError, UserError
from dms_proto.ids import PeerId
from dms_proto.siblings import Sibling
from dms_proto.tunnels import Opening, RelayAsked, check_is_port

MOST: Final = 48
"""Connections that are led to one provider at a time: three quarters of what it takes of one node (`NetConfig.max_tunnels_served`). The rest is left
to the owner."""
OF_ONE: Final = 32
"""Those of them that one other provider has asked for."""

Lead = Callable[[PeerId, Opening], Awaitable[Tunnel]]
"""Opens a tunnel to a provider."""


class Relays:
    """One per node."""

    def __init__(self, rolls: Rolls, lead: Lead, pace: Pace, look_s: float = LOOK_S) -> None:
        self._rolls = rolls
        self._lead = lead
        self._pace = pace
        self._look_s = look_s
        self._open = Tasks()
        self._led: Counter[tuple[PeerId, ...]] = Counter()
        """By provider, and by provider and who asked for it."""

    async def let_in(self, peer: PeerId, asked: RelayAsked) -> socket.socket:
        """A connection that leads on to a sibling of what runs at a peer.

        Raises:
            DmsError: what the peer is told: its allocation is none of ours, it means none of its siblings, or that one lets nobody in.
        """
        sibling = await self._sibling(peer, asked)
        self._pace.keep(sibling.provider, asked.allocation_id)
        with ExitStack() as place:
            place.enter_context(self._place(sibling.provider, peer))
            tunnel = await self._lead(sibling.provider, Opening(sibling.allocation_id, asked.target))
            given, kept = socket.socketpair()
            tunnel.join(kept)
            self._open.start(self._look_after(peer, asked, tunnel, place.pop_all()), "relay")
        return given

    async def close(self) -> None:
        """Looks no more; tunnels go on as long as the network does."""
        await self._open.close()

    async def _sibling(self, peer: PeerId, asked: RelayAsked) -> Sibling:
        check_is_port(asked.target)
        roll = await self._rolls.told(peer, asked.job, asked.caller)
        for sibling in roll.siblings:
            if sibling.allocation_id == asked.allocation_id:
                return sibling
        raise UserError("not_running", f"{asked.allocation_id} does not run now")

    @contextmanager
    def _place(self, provider: PeerId, peer: PeerId) -> Iterator[None]:
        """Holds one of those that there are.

        Raises:
            UserError: `not_listening`: all are held.
        """
        places = {(provider,): MOST, (provider, peer): OF_ONE}
        if any(self._led[held] >= most for held, most in places.items()):
            why = "as many connections are led there as may be at a time; close some, or try again"
            raise UserError("not_listening", why, retryable=True)
        self._led.update(places.keys())
        try:
            yield
        finally:
            self._led.subtract(places.keys())
            self._led += Counter()  # without those at zero

    async def _look_after(self, peer: PeerId, asked: RelayAsked, tunnel: Tunnel, place: ExitStack) -> None:
        """Breaks it off when one of both is a sibling no more. Gives its place back in the end."""
        over = asyncio.ensure_future(tunnel.wait_over())
        try:
            while not (await asyncio.wait({over}, timeout=self._look_s))[0]:
                try:
                    await self._sibling(peer, asked)
                except InternalError:
                    continue  # the job cannot say now
                except DmsError:
                    tunnel.abort()
                    return
        finally:
            place.close()
            await cancel([over])
