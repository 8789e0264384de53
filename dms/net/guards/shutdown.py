"""Ending a host so that its peers know.

Stock fault: leaving ``host.run()`` cancels everything first and then tries to close, so no connection is closed: sockets leak, peers keep a
zombie connection and later take no gossip from us.

Remedy: first stop accepting, then close every connection, shielded from the cancellation that is under way and bounded in time, and only
then let the services be cancelled.
"""

from __future__ import annotations

from typing import Final

import trio

from dms.net.guards.swarm import GuardedSwarm, close_connections

CLOSE_S: Final = 3.0
"""Longest time for saying goodbye; what is not closed then is closed by the end of the process."""


async def close_first(swarm: GuardedSwarm) -> None:
    """Closes listeners and connections, even while being cancelled."""
    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
        swarm._closing = True  # no automatic dialling in answer to the disconnections
        await swarm.close_listeners()
        await close_connections(swarm)
