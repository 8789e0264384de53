"""A connection from its arrival until it is known what speaks on it: nothing is read from it before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class Arrival(asyncio.Protocol):
    """Waits for a connection, and gives it to who decides what becomes of it."""

    def __init__(self, admit: Callable[[asyncio.Transport], None]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._admit(cast("asyncio.Transport", transport))


def hand_over(transport: asyncio.Transport, speaker: asyncio.Protocol) -> None:
    """Lets `speaker` speak on a connection from now on."""
    transport.set_protocol(speaker)
    speaker.connection_made(transport)
