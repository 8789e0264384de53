"""LocalApi: everything the owner of a running node can ask of it, over its parts."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from dms.node.api.accounts import AccountGroup
from dms.node.api.audit import AuditGroup
from dms.node.api.base import Parts
from dms.node.api.data import DataGroup
from dms.node.api.events import EventGroup
from dms.node.api.execs import ExecGroup
from dms.node.api.jobs import view_of
from dms.node.api.market import MarketGroup
from dms.node.api.node import NodeGroup
from dms.node.api.peers import PeerGroup
from dms.node.api.services import ServiceGroup
from dms.node.feeds import Hub, JobFeeds
from dms.node.incoming import IncomingInputs
from dms.node.projections import projections
from dms.node.remembering import remember_data
from dms.node.services import Services
from dms.node.sweeping import keep_sweeping, needed_blobs
from dms.store.projections import ProjectionRunner
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_proto.errors import DmsError
from dms_proto.market.offer_state import NodeStarted
from dms_proto.market.owner import OWNER_STREAM, Owner, evolve

KEEP_UP_S: Final = 2.0
"""Seconds between two looks at how far behind the read models are."""
BEHIND: Final = 500
"""Events they may be behind before they follow unasked: about 20 ms of work for whoever asks next."""
log = logging.getLogger(__name__)


class LocalApi(
    NodeGroup, MarketGroup, PeerGroup, AccountGroup, EventGroup, AuditGroup, ExecGroup, DataGroup, ServiceGroup
):
    """Implements `dms.rpc.api.NodeApi`. Lives on the node's loop; made by `start`, ended by `close`."""

    _following: asyncio.Task[None] | None = None
    _sweeping: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, services: Services) -> LocalApi:
        """Brings the read models up to date and begins to follow the events.

        Raises:
            MachineError: `disk_full`, `store_failed`, `store_corrupt`.
        """
        runner = ProjectionRunner(services.store, projections(services.identity.node_id.peer_id))
        await runner.start()
        await runner.catch_up()
        await remember_data(services, runner)
        hub = Hub(services.store)
        feeds = JobFeeds(
            hub,
            services.store,
            services.collector.logs,
            services.collector.doings,
            services.clock,
            lambda story: view_of(story, services),
        )
        owner = Owner()
        for row in await services.store.read_stream(OWNER_STREAM):
            owner = evolve(owner, from_row(row))
        inputs = IncomingInputs(hub, services.blobs, lambda: needed_blobs(services, runner))
        api = cls(Parts(services, runner, hub, feeds, owner, inputs))
        api._following = services.loop.create_task(_keep_up(services, runner), name="read models")
        api._sweeping = services.loop.create_task(keep_sweeping(services, runner), name="sweep")
        services.node.tell(Told(NodeStarted(), "start"))
        return api

    async def close(self) -> None:
        """Ends following. Idempotent."""
        for task in (self._following, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._parts.inputs.close()
        self._parts.feeds.close()
        await self._parts.hub.close()


async def _keep_up(services: Services, runner: ProjectionRunner) -> None:
    """Lets the read models follow in small steps, so that nobody who asks after a busy time waits for all of it."""
    followed = services.store.head().seq
    while True:
        await asyncio.sleep(KEEP_UP_S)
        head = services.store.head().seq
        if head - followed < BEHIND:
            continue
        try:
            await runner.catch_up()
        except DmsError as error:
            log.warning("the read models could not follow: %s", error)  # whoever asks next is told the same
        followed = head
