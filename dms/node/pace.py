"""How fast others are asked for tunnels on behalf of programs that this node does not know: its own runs' connections, and those it leads on.

A node mutes who asks it for more than it takes, and it is this node that asks, however many programs connect, here and at others.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.units import SECOND
from dms_proto.wire.buckets import Buckets, Limit

MOST: Final = Limit(50, 100)
"""Tunnels that one node is asked for: half of what it takes (`NetConfig.tunnel_limit`), since its owner's and others' come beside them."""


class Pace:
    """One per node. On the loop."""

    def __init__(self) -> None:
        self._buckets: Buckets[PeerId] = Buckets(lambda _provider: MOST)

    def keep(self, provider: PeerId, what: str) -> None:
        """Counts a question to a node; `what` is wanted of it, in words.

        Raises:
            UserError: `not_listening`: they are too many now.
        """
        now = round(asyncio.get_running_loop().time() * SECOND)
        bucket = self._buckets.get(provider, now)
        if bucket is None or not bucket.take(now):
            why = f"more connections than {provider} takes are made to it"
            raise UserError("not_listening", f"{what} is not asked: {why}; try again", retryable=True)
