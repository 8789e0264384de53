"""Rolls of jobs: told by their requester, asked for by their providers. On the loop.

A roll is asked for when it is needed, over a tunnel that ends with it: `dms_proto.tunnels.asking_for_roll`. It is told to who runs one of the
allocations on it, and to nobody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from dms.tasks import Tasks, cancel
from dms_actors.directory import Directory
from dms_actors.letters import ShowState
from dms_actors.ports import Network
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.market.auction_siblings import roll_of
from dms_proto.market.auction_state import Auction
from dms_proto.market.ledger import Reservation
from dms_proto.recent import Recent
from dms_proto.siblings import Roll
from dms_proto.tunnels import FINAL, asking_for_roll, write_opening
from dms_proto.units import KIB
from dms_proto.untrusted import read_msgpack

ASK_S: Final = 5.0
"""Seconds an actor may take to answer."""
ANSWER_S: Final = 10.0
"""Seconds in which a roll has to be told, or taken."""
FRESH_S: Final = 1.0
"""For so long a roll is not asked for again."""
MISSED_S: Final = 0.1
"""The same, where somebody is not on it."""
MOST_KNOWN: Final = 128
"""Rolls that are kept: some 40 MiB, where strangers say as much as fits."""
MAX_ROLL: Final = 512 * KIB
_PIECE: Final = 64 * KIB


class _Known(NamedTuple):
    roll: Roll
    heard_at: float


class Rolls:
    """One per node."""

    def __init__(
        self, me: PeerId, network: Network, requests: Directory, addresses_of: Callable[[PeerId], tuple[str, ...]]
    ) -> None:
        """`requests`: the orchestrators of this node."""
        self._me = me
        self._network = network
        self._requests = requests
        self._addresses_of = addresses_of
        self._known: Recent[tuple[PeerId, RequestId], _Known] = Recent(MOST_KNOWN)
        self._asking: dict[tuple[PeerId, RequestId], asyncio.Task[Roll]] = {}
        self._telling = Tasks()

    # ------------------------------------------------------------------------------------------------------ at the requester

    async def tell(self, peer: PeerId, job: RequestId, caller: AllocationId) -> socket.socket:
        """A connection at whose other end the roll of a job of ours is read, to its end.

        Raises:
            UserError: `not_found`: that allocation is none of that job's, or not this peer's.
            InternalError: the job cannot say now, so what it said last holds.
        """
        roll = await self.told(peer, job, caller)
        given, kept = socket.socketpair()
        self._telling.start(_write(kept, msgspec.msgpack.encode(roll)), "roll")
        return given

    async def told(self, peer: PeerId, job: RequestId, caller: AllocationId) -> Roll:
        """The roll of a job of ours, for a peer that has an allocation on it.

        Raises:
            UserError: `not_found`: it has none.
            InternalError: as for `tell`.
        """
        address = self._requests.get(job)
        auction: Auction | None = await ask_from_loop(address, ShowState(), ASK_S) if address is not None else None
        roll = roll_of(auction, self._addresses_of) if auction is not None else Roll()
        if not roll.has(caller, peer):
            raise UserError("not_found", f"no job of this node's has {caller} at you now")
        return roll

    # ------------------------------------------------------------------------------------------------------- at a provider

    async def of(self, held: Reservation, fresh_s: float = FRESH_S) -> Roll:
        """The roll of the job that an allocation here is of. While its requester cannot be asked, what it said last holds.

        Args:
            held: by that allocation.
            fresh_s: one that was heard in the last so many seconds will do.

        Raises:
            DmsError: it cannot be asked, and has said nothing yet.
        """
        key = held.requester, held.request_id
        known = self._known.get(key)
        if known is not None and asyncio.get_running_loop().time() - known.heard_at < fresh_s:
            return known.roll
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.get_running_loop().create_task(
                self._heard(held), name="asking for a roll"
            )
            asking.add_done_callback(lambda _done: self._asking.pop(key, None))
        try:
            return await asyncio.shield(asking)
        except DmsError:
            if known is None:
                raise
            return known.roll

    async def has(self, held: Reservation, caller: AllocationId, peer: PeerId) -> bool:
        """Whether a peer's allocation is a sibling of one here; asked again where it may have become one just now.

        Raises:
            DmsError: as `of`.
        """
        return (await self.of(held)).has(caller, peer) or (await self.of(held, MISSED_S)).has(caller, peer)

    async def close(self) -> None:
        """Ends what is under way."""
        await cancel(self._asking.values())
        await self._telling.close()

    async def _heard(self, held: Reservation) -> Roll:
        try:
            roll = await self._asked(held)
        except DmsError as error:
            if error.code not in FINAL:
                raise
            roll = Roll()  # the job is over, or this allocation of it
        self._known.keep((held.requester, held.request_id), _Known(roll, asyncio.get_running_loop().time()))
        return roll

    async def _asked(self, held: Reservation) -> Roll:
        if held.requester == self._me:
            return await self.told(self._me, held.request_id, held.allocation_id)
        opening = write_opening(asking_for_roll(held.request_id, held.allocation_id))
        tunnel = await self._network.open_tunnel(held.requester, opening)
        ours, theirs = socket.socketpair()
        tunnel.join(theirs)
        with ours:
            ours.setblocking(False)
            ours.shutdown(socket.SHUT_WR)
            try:
                async with asyncio.timeout(ANSWER_S):
                    data = await _read(ours)
                return read_msgpack(data, Roll)
            except TimeoutError:
                tunnel.abort()
                raise PeerError("peer_timeout", f"no roll came within {ANSWER_S:g} s", retryable=True) from None
            except (OSError, msgspec.DecodeError) as error:
                tunnel.abort()
                raise PeerError("peer_unreachable", f"that was no roll: {error}", retryable=True) from error


async def _read(source: socket.socket) -> bytes:
    data = bytearray()
    while part := await asyncio.get_running_loop().sock_recv(source, _PIECE):
        data += part
        if len(data) > MAX_ROLL:
            raise OSError("it is too long")
    return bytes(data)


async def _write(sink: socket.socket, data: bytes) -> None:
    with sink:
        sink.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_sendall(sink, data)
        except (OSError, TimeoutError):
            return  # who asked does not read it, and asks again
