"""The proof of work that this node shows to others: once a day for each, few bits first, and for the peers of one source only so much a day.

Whoever is dialled may ask for work that costs it nothing to ask for. So a stamp that is worth enough is shown again, work nobody waits for any more
is left, and an honest peer's few bits do not wait until another one's many are done.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import trio

from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.units import DAY, SECOND
from dms_proto.wire.buckets import Buckets, Limit
from dms_proto.wire.stamps import check_bits, day_of, find_stamp, worth

MAX_KEPT: Final = 1_024
"""Peers to which a stamp is remembered, and sources whose demands are: twice as many as can be connected."""
DAILY_TRIES: Final = 2**25
"""Hashes a day for the peers of one source: eight stamps of the most bits, 512 of the usual 16. A minute or two of one core."""
SLICE: Final = 2**14
"""Numbers tried at a time, some hundredths of a second; then whoever wants fewest bits comes first."""


class Stamps:
    """One per network process; lives on the trio thread, and works in one other."""

    def __init__(self, me: PeerId, *, daily_tries: int = DAILY_TRIES) -> None:
        """`daily_tries`: what is done for one source in a day, half of it at once at least."""
        self._me = me
        limit = Limit(max(1, daily_tries * SECOND // DAY), daily_tries)
        self._room: Buckets[str] = Buckets(lambda _source: limit, most=MAX_KEPT)
        self._stamps: Recent[PeerId, bytes] = Recent(MAX_KEPT)
        self._jobs: set[tuple[int, int]] = set()
        """Bits and order of what is to be done."""
        self._orders = count()
        self._is_working = False
        self._waiting = trio.lowlevel.ParkingLot()

    def of(self, peer: PeerId) -> bytes:
        """What is shown to a peer; empty if it has not asked for anything."""
        return self._stamps.get(peer) or b""

    async def make(self, peer: PeerId, source: str, bits: int, now: int, is_wanted: Callable[[], bool]) -> bytes:
        """A stamp worth `bits` to `peer` at `now` (Unix ms), which is at `source`; empty when it is not wanted any more.

        Raises:
            ValueError: it is more than this node does for one peer, or for one source in a day.
        """
        check_bits(bits)
        day = day_of(now)
        if worth(self.of(peer), self._me, peer, day) >= bits:
            return self.of(peer)
        room = self._room.get(source, now)
        if room is None or not room.take(now, 2**bits):
            raise ValueError(f"{bits} bits of work are wanted, more than a node does in a day for all at one source")
        job = (bits, next(self._orders))
        self._jobs.add(job)
        try:
            for first in count(step=SLICE):
                await self._turn_of(job)
                if not is_wanted():
                    return b""
                if stamp := await self._try(peer, day, bits, first):
                    self._stamps.keep(peer, stamp)
                    return stamp
        finally:
            self._jobs.remove(job)
            self._waiting.unpark_all()
        raise AssertionError("count ends")

    async def _turn_of(self, job: tuple[int, int]) -> None:
        while self._is_working or job != min(self._jobs):
            await self._waiting.park()

    async def _try(self, peer: PeerId, day: int, bits: int, first: int) -> bytes | None:
        self._is_working = True
        try:
            return await trio.to_thread.run_sync(find_stamp, self._me, peer, day, bits, range(first, first + SLICE))
        finally:
            self._is_working = False
            self._waiting.unpark_all()
