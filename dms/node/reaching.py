"""Connecting to nodes that another one has named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from dms_actors.ports import Network
from dms_proto.errors import DmsError
from dms_proto.ids import PeerId

log = logging.getLogger(__name__)


async def reach(network: Network, peer: PeerId, addresses: Sequence[str], seconds: float) -> None:
    """Connects to a peer, if it is not; whether that worked, `Network.links` tells."""
    if peer in network.links() or not addresses:
        return
    named = [each if "/p2p/" in each else f"{each}/p2p/{peer}" for each in addresses]
    try:
        async with asyncio.timeout(seconds):
            await network.dial(named)
    except (DmsError, TimeoutError) as error:
        log.info("%s is not reached: %s", peer, str(error) or "not in time")
