"""TLS handshakes under way: they hold a connection each, so they are counted, and none takes longer than its deadline.

asyncio's own server tells nobody of a connection before its handshake is over; so here the connection comes first, and TLS after.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from dms.rpc.arrival import hand_over
from dms.tasks import Tasks


class Handshakes:
    """Of one listener. Lives on the loop.

    Args:
        tls: what to encrypt with.
        deadline_s: seconds that a handshake may take, whatever the caller says meanwhile.
        speaker: makes what speaks on a connection once it is encrypted.
    """

    def __init__(self, tls: ssl.SSLContext, deadline_s: float, speaker: Callable[[], asyncio.Protocol]) -> None:
        self._tls = tls
        self._deadline_s = deadline_s
        self._speaker = speaker
        self._under_way = Tasks()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, transport: asyncio.Transport) -> None:
        """On a connection that is new: the handshake, and then the speaker."""
        transport.pause_reading()  # nothing is read in the clear
        self._under_way.start(self._shake_hands(transport), "TLS handshake")

    async def close(self) -> None:
        """Gives up those under way."""
        await self._under_way.close()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        early = _Early()
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport, early, self._tls, server_side=True, ssl_handshake_timeout=self._deadline_s
            )
        except OSError:  # not TLS, not within the deadline, or gone
            transport.abort()
            return
        if encrypted is not None:
            early.hand_over(encrypted, self._speaker())


class _Early(asyncio.Protocol):
    """Keeps what was said together with the end of the handshake, before the speaker is there: a few packets at the most."""

    def __init__(self) -> None:
        self._data = b""
        self._is_over = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._is_over = True

    def hand_over(self, transport: asyncio.Transport, speaker: asyncio.Protocol) -> None:
        """Lets the speaker go on."""
        if self._is_over:
            return
        hand_over(transport, speaker)
        if self._data:
            speaker.data_received(self._data)
