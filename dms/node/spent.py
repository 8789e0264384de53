"""What strangers have used of the log budget, over restarts of the node: in a small file, so that nothing is written for any message.

::

    start:                      file, and what the log says was written since ──▶ log budget
    each 15 s, and at the stop: log budget, asked of the node actor ────────────▶ file

After a kill -9 the log is longer than when the file was written. Each peer pays for its part of that, as it did before; all strangers together pay
for all of it, since not every event says whose it is. Which source a peer was at is not in the log, so no source pays for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import msgspec

from dms.config.paths import open_private
from dms.store.events import EventStore
from dms_actors.behaviour import Address
from dms_actors.letters import ShowUsed
from dms_actors.meter import owed
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import DmsError
from dms_proto.ids import PeerId
from dms_proto.wire.log_budget import LogBudget, Used

KEEP_EVERY_S: Final = 15.0
"""Seconds between two looks at it."""
ASK_S: Final = 10.0

log = logging.getLogger(__name__)


class Spent(msgspec.Struct, frozen=True):
    """What the file says. `seq`: of the last event that was written before."""

    seq: Annotated[int, msgspec.Meta(ge=0)]
    used: Used


async def begin(path: Path, store: EventStore, budget: LogBudget, now: int) -> None:
    """Makes a log budget of which nothing is used what it has to be when a node starts at `now` (Unix ms).

    Without a file all of it is there. With one that cannot be read nothing is left of what all strangers have together.
    """
    try:
        spent = await asyncio.to_thread(_read, path)
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError, ValueError) as error:
        log.warning("%s cannot be read: strangers are heard as the log budget is gained, from nothing: %s", path, error)
        budget.restore(Used(now, budget.burst))
        return
    by, all_bytes = await _written_since(store, spent.seq, budget.burst)
    budget.restore(spent.used, by, all_bytes)


async def _written_since(store: EventStore, seq: int, most_bytes: int) -> tuple[Counter[PeerId], int]:
    """Bytes that peers, and all, have caused after an event, as far as they come to `most_bytes`."""
    by, total = Counter[PeerId](), 0
    async for row in store.read_all(seq):
        peer, size = owed(row)
        total += size
        if peer is not None:
            by[peer] += size
        if total >= most_bytes:
            break
    return by, total


class SpentKeeper:
    """Writes the file. Lives on the node's asyncio loop."""

    def __init__(self, path: Path, store: EventStore, node: Address) -> None:
        self._path = path
        self._store = store
        self._node = node
        self._kept_seq = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Writes it now and from now on."""
        self._task = asyncio.create_task(self._keep_on(), name="log budget")

    async def stop(self) -> None:
        """Writes it once more, as long as there is somebody to ask."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.keep()

    async def keep(self) -> None:
        """Writes what is used now, if anything was written since. A file that cannot be written costs a line in the node's log, and no more."""
        seq = self._store.head().seq  # looked at first: what comes meanwhile counts twice rather than not at all
        if seq == self._kept_seq:
            return
        try:
            spent = Spent(seq, await ask_from_loop(self._node, ShowUsed(), ASK_S))
            await asyncio.to_thread(_write, self._path, spent)
        except (DmsError, OSError) as error:
            log.warning("what strangers have used of the log budget could not be written down: %s", error)
        else:
            self._kept_seq = seq

    async def _keep_on(self) -> None:
        while True:
            await self.keep()
            await asyncio.sleep(KEEP_EVERY_S)


def _read(path: Path) -> Spent:
    return msgspec.msgpack.decode(path.read_bytes(), type=Spent)


def _write(path: Path, spent: Spent) -> None:
    draft = path.with_name(f".{path.name}")
    with open(draft, "wb", opener=open_private) as file:
        file.write(msgspec.msgpack.encode(spent))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
