"""The node as one object: started whole, stopped in order, or given up.

Started in this order, stopped in the reverse one::

    event store (one process per home) ─▶ executors proven ─▶ post, workbench, collector ─▶ Node actor ─▶ network ─▶ monitor ─▶ local RPC

The network process is launched before this one has loaded itself, since it takes the longest, and joined when the actors are there to listen.
All but the last two are built by `Assembly`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from dms.config import Config, Home, Identity
from dms.node.assembly import Assembly, Probed
from dms.node.services import Services
from dms_actors.letters import ShowState, Told
from dms_actors.node import NodeState
from dms_actors.ports import Network
from dms_actors.runtime import ask_from_loop
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.stimuli import StopWished
from dms_proto.errors import DmsError
from dms_proto.work import EndReason

ASK_TIMEOUT = 10.0
STOP_GRACE = 8.0
"""Seconds that allocations get to end when the node stops."""
RECEIPT_GRACE = 1.0
"""Seconds after that in which their requesters may say that they have heard it; whoever is told later hears a lost connection first."""
STOP_LOOK = 0.01


def unix_ms() -> int:
    """Now."""
    return time.time_ns() // 1_000_000


class NodeApp:
    """A running node. Made by `start`; ended by `stop`, which is safe at any moment."""

    def __init__(self, services: Services, stack: AsyncExitStack) -> None:
        self.services = services
        self._stack = stack

    @classmethod
    async def start(
        cls,
        *,
        home: Home,
        config: Config,
        identity: Identity,
        network: Network,
        probe: Callable[[], Awaitable[Probed]],
        clock: Callable[[], int] = unix_ms,
    ) -> NodeApp:
        """Opens the store, proves the executors, rebuilds the state, starts the actors and listens.

        Raises:
            MachineError: `home_in_use`, `store_newer`, `store_corrupt`, `port_in_use`, …; everything begun is undone.
        """
        stack = AsyncExitStack()
        try:
            services = await Assembly(stack, home, config, identity, network, clock).build(probe)
        except BaseException:
            await stack.aclose()
            raise
        return cls(services, stack)

    async def state(self) -> NodeState:
        """The live state of the Node actor."""
        state: NodeState = await ask_from_loop(self.services.node, ShowState(), ASK_TIMEOUT)
        return state

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Stops what runs here for others, tells them, and ends everything in reverse order. Idempotent."""
        try:
            await asyncio.gather(self._stop_allocations(grace), self.services.calls.end_containers(grace))
        finally:
            await self._stack.aclose()

    async def abandon(self) -> None:
        """Ends everything in reverse order and stops nothing that runs: it is found again by the next start. Idempotent."""
        await self._stack.aclose()

    async def _stop_allocations(self, grace: float) -> None:
        services = self.services
        stopped = {id_ for id_ in services.allocations.ids() if not await self._has_ended(id_)}
        for allocation_id in stopped:
            services.allocations.tell(allocation_id, Told(StopWished(EndReason.PROVIDER_STOPPED), "stop"))
        await self._until_over(stopped, self._has_ended, grace)
        await self._until_over(stopped, self._is_closed, RECEIPT_GRACE)

    async def _until_over(self, ids: set[str], is_over: Callable[[str], Awaitable[bool]], seconds: float) -> None:
        """Looks until it is over for every one of `ids`, or `seconds` have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not all([await is_over(id_) for id_ in ids]):  # noqa: ASYNC110 - actors tell their state when asked
                    await asyncio.sleep(STOP_LOOK)

    async def _is_closed(self, allocation_id: str) -> bool:
        return self.services.allocations.get(allocation_id) is None

    async def _has_ended(self, allocation_id: str) -> bool:
        address = self.services.allocations.get(allocation_id)
        if address is None:
            return True
        try:
            state: Allocation = await ask_from_loop(address, ShowState(), ASK_TIMEOUT)
        except DmsError:
            return True  # its actor has ended, or cannot tell: nothing to wait for
        return state.phase in (LifePhase.ENDED, LifePhase.CLOSED)
