"""A node's pool over a real event store, at work until it is killed: prints a line for each delivery, as it is made.

python pool_child.py DIRECTORY
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dms.store.events import EventStore, unix_ms
from dms_actors.events import EVENT_KINDS
from dms_actors.journal import CrewJournal
from dms_actors.letters import Told
from dms_actors.pool import PoolActor
from dms_actors.runtime import ThreadRuntime
from dms_actors.testing.containers import MemoryContainers, free_of_charge
from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import CallId, ContainerId, Image, Service, VirtualId
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.state import Called, CapacityWished, PoolRules, RulesWished
from dms_proto.promises import PROMISES
from dms_proto.units import CORE, GIB

AT_ONCE = 20
"""Callers, each of whom calls again as soon as it is answered."""


class TellingContainers(MemoryContainers):
    """Everything happens on the loop; deliveries are told where they are made, on the actors' thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(lambda ms, call: loop.call_later(ms / 1000, call), start_ms=20, call_ms=1)
        self._loop = loop

    def deliver(self, call_id: CallId, container_id: ContainerId, virtual_id: VirtualId, placement: Placement) -> None:
        os.write(1, f"{container_id} {virtual_id}\n".encode())
        self._on_loop(super().deliver, call_id, container_id, virtual_id, placement)

    def find(self) -> None:
        self._on_loop(super().find)

    def start(self, container_id: ContainerId, image: Image, size: Resources) -> None:
        self._on_loop(super().start, container_id, image, size)

    def stop(self, container_id: ContainerId) -> None:
        self._on_loop(super().stop, container_id)

    def refuse(self, call_id: CallId, refusal: Refusal) -> None:
        self._on_loop(super().refuse, call_id, refusal)

    def fail(self, call_id: CallId, why: str) -> None:
        self._on_loop(super().fail, call_id, why)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)


async def work(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    store = await EventStore.open(directory / "events.db", relaxed=frozenset(EVENT_KINDS) - PROMISES)
    containers = TellingContainers(loop)
    journal = CrewJournal(store, loop)
    pool = ThreadRuntime(unix_ms).spawn(
        "pool", lambda: PoolActor(journal=journal, containers=containers, paying=free_of_charge())
    )
    containers.serve(pool)
    pool.tell(Told(CapacityWished(Resources(4 * CORE, 4 * GIB)), "owner"))
    pool.tell(Told(RulesWished(PoolRules(hot_ms=0, save_every=200)), "owner"))
    numbers = itertools.count()
    while True:
        for _ in range(AT_ONCE - containers.unanswered):
            number = next(numbers)
            image = Image("python", f"model-{number % 4}", Resources(CORE, GIB))
            user, service = PeerId(f"user-{number % 7}"), Service(f"service-{number % 4}", image)
            containers.call(Called(CallId(f"{os.getpid()}-{number}"), user, service))
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1])))
