"""The event store of a node that does not run, for what is done to a home in between."""

from __future__ import annotations

from dms.config.paths import Home
from dms.node.app import unix_ms
from dms.node.assembly import RELAXED
from dms.store.events import EventStore
from dms_proto.errors import MachineError


async def open_stopped(home: Home) -> EventStore:
    """Opens the store in `home`.

    Raises:
        MachineError: `home_in_use`: the node runs; `disk_full`, `store_failed`, `store_corrupt`, `store_newer`.
    """
    try:
        return await EventStore.open(home.events, clock=unix_ms, relaxed=RELAXED)
    except MachineError as error:
        if error.code == "home_in_use":
            error.hint = "stop the node first: `dms down`"
        raise
