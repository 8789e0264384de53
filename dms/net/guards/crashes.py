"""Containing exceptions: a failing stream handler costs its own stream and nothing else.

Stock fault: an exception in any stream handler ends the swarm, the host and the process; garbage in a pubsub message, a bad key, or bad
UTF-8 in the protocol negotiation are enough. A handler that lets `StreamEOF` escape (the peer simply closed) leaves the host up but wedges
the connection: both sides list it and no stream on it ever works again.

Remedy: `guard_handler` around every handler: expected ends of a stream are quiet, anything else is counted and logged, and the stream is
reset if it is not over.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError

from dms.net.counters import Counters

Handler = Callable[[INetStream], Awaitable[None]]

ENDS: Final = (
    IOException,  # StreamEOF, StreamReset, StreamClosed, IncompleteReadError, ConnectionClosedError
    RawConnError,
    MuxedStreamError,
    MuxedConnError,
    MultiselectError,
    MultiselectClientError,
    SwarmException,
)
"""How streams and connections end when a peer closes, resets, vanishes or does not speak a protocol: no defect."""

logger = logging.getLogger("dms.net.guards")


class Crashes:
    """Counts and logs what would have ended the stock library's process."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def contain(self, where: str, error: BaseException) -> None:
        """Records `error`, which came from `where`."""
        self._counters.add("guard.crashes")
        logger.warning("contained in %s: %s: %s", where, type(error).__name__, error, exc_info=error)

    async def run(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Runs a task of ours; a defect in it is recorded and ends that task only."""
        try:
            await work(*arguments)
        except Exception as error:  # noqa: BLE001 - the process edge: one task may fail, the others go on
            self.contain(getattr(work, "__qualname__", "task"), error)

    def guard_handler(self, name: str, handler: Handler) -> Handler:
        """`handler`, unable to harm anything but its own stream."""

        async def guarded(stream: INetStream) -> None:
            try:
                await handler(stream)
            except ENDS:
                await _end(stream)
            except Exception as error:  # noqa: BLE001 - the process edge: a peer's bytes may cost a stream, never the process
                self.contain(name, error)
                await _end(stream)

        return guarded


async def _end(stream: INetStream) -> None:
    """Resets `stream`; it may already be over."""
    try:
        await stream.reset()
    except ENDS:
        logger.debug("stream was already over")
