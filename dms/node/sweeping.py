"""Removes what nobody needs any more: results, inputs and logs of jobs past `store.keep_jobs_ms`; the longest unused blobs past `store.blobs_max`.

What an open job or an allocation that is not closed needs is pinned and stays, however old and however large. What was used within `RECENT_MS` stays
too: it may belong to something that is only just being written down. Events are never removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from dms.node.logs import LogStore
from dms.node.projecting.tables import ALLOCATIONS, JOBS, number, text, unpack
from dms.node.services import Services
from dms.store.blobs import BlobStore
from dms.store.projections import ProjectionRunner
from dms.store.tables import MAX_ALTERNATIVES, MAX_ROWS, Condition, Scalar
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.data.keeping import victims
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, Digest
from dms_proto.market.auction_terms import Terms
from dms_proto.units import MINUTE, format_bytes, format_count
from dms_proto.work import Ending, Output, Task

SWEEP_S: Final = 300.0
"""Seconds between two looks."""
RECENT_MS: Final = 10 * MINUTE
log = logging.getLogger(__name__)


class Swept(msgspec.Struct, frozen=True):
    """What one look removed. `over`: bytes above the limit that are needed or were just used, so that they stayed."""

    blobs: int = 0
    bytes: int = 0
    logs: int = 0
    over: int = 0


async def keep_sweeping(services: Services, runner: ProjectionRunner) -> None:
    """Sweeps now and again, for as long as the node runs."""
    while True:
        try:
            swept = await sweep(services, runner, services.clock())
        except (DmsError, OSError) as error:
            log.warning("old results could not be removed: %s", error)
        else:
            if swept.blobs or swept.logs:
                what = f"{format_count(swept.blobs, 'blob')} ({format_bytes(swept.bytes)}), logs of {swept.logs}"
                log.info("removed what nobody needs any more: %s", what)
            if swept.over:
                log.warning("the blob store is %s above store.blobs_max, all of it needed", format_bytes(swept.over))
        await asyncio.sleep(SWEEP_S)


async def sweep(services: Services, runner: ProjectionRunner, now: int, *, recent_ms: int = RECENT_MS) -> Swept:
    """One look.

    Args:
        services: of the node.
        runner: its read models.
        now: Unix ms.
        recent_ms: what was used within so many ms stays.
    """
    store = services.config.store
    pinned = await needed_blobs(services, runner)
    old = now - max(store.keep_jobs_ms, recent_ms)
    removed = await asyncio.to_thread(
        sweep_blobs, services.blobs, pinned, old, now - recent_ms, largest=store.blobs_max
    )
    logs = await _sweep_logs(services.collector.logs, runner, old)
    return msgspec.structs.replace(removed, logs=logs)


def sweep_blobs(blobs: BlobStore, pinned: frozenset[Digest], old: int, recent: int, *, largest: int) -> Swept:
    """Removes what `victims` names. Blocking.

    Args:
        blobs: the store.
        pinned: stay.
        old: Unix ms.
        recent: Unix ms; what was used since stays.
        largest: bytes.
    """
    there = list(blobs.kept())
    gone = victims(there, pinned, old, recent, largest)
    for kept in gone:
        blobs.delete(kept.digest)
    total = sum(kept.size for kept in there) - sum(kept.size for kept in gone)
    return Swept(len(gone), sum(kept.size for kept in gone), over=max(0, total - largest))


async def _sweep_logs(logs: LogStore, runner: ProjectionRunner, old: int) -> int:
    """Removes logs not written to since `old`, unless their job is open. Gives how many allocations had them."""
    candidates = await asyncio.to_thread(logs.unused_since, old)
    rows = await _rows(runner, "allocation_id", candidates)
    open_jobs = {text(row, "request_id") for row in await runner.query(JOBS.name, {"open": 1}, limit=MAX_ROWS)}
    needed = {text(row, "allocation_id") for row in rows if text(row, "request_id") in open_jobs}
    gone = [AllocationId(allocation) for allocation in candidates if allocation not in needed]
    for allocation in gone:
        logs.remove(allocation)
    return len(gone)


async def needed_blobs(services: Services, runner: ProjectionRunner) -> frozenset[Digest]:
    """What datasets and services have, and inputs and outputs of open jobs, and of allocations here that are not closed."""
    jobs = await runner.query(JOBS.name, {"open": 1}, limit=MAX_ROWS)
    terms: list[Terms] = [unpack(row["terms"], Terms) for row in jobs]
    rows = await _rows(runner, "request_id", [text(row, "request_id") for row in jobs])
    rows += await _rows(runner, "allocation_id", services.allocations.ids())
    tasks = [each.task for each in terms]
    tasks += [unpack(row["task"], Task) for row in rows if row["task"] is not None and number(row, "open")]
    tasks += [each.task for each in (await services.calls.services()).by_name.values()]
    pinned = set(
        await asyncio.to_thread(lambda: services.datasets.needed().union(*map(services.datasets.blobs_of, tasks)))
    )
    for row in _without_superseded(rows):
        if row["outputs"] is not None:
            pinned.update(digest for output in unpack(row["outputs"], tuple[Output, ...]) for digest in output.blobs)
    return frozenset(pinned)


def _without_superseded(rows: Iterable[dict[str, Scalar]]) -> Iterator[dict[str, Scalar]]:
    """Without the checkpoints from which nothing goes on any more: of the allocations that filled one slot, the newest has it."""
    newest: dict[tuple[str, int], dict[str, Scalar]] = {}
    for row in rows:
        if number(row, "open") or not _has_checkpoint(row):
            yield row
            continue
        slot = (text(row, "request_id"), number(row, "slot"))
        if slot not in newest or number(newest[slot], "ended_at") <= number(row, "ended_at"):
            newest[slot] = row
    yield from newest.values()


def _has_checkpoint(row: dict[str, Scalar]) -> bool:
    """Whether an attempt has left one. With nothing left the one before it still holds, whatever its ending says."""
    if row["ending"] is None or row["outputs"] is None or not unpack(row["outputs"], tuple[Output, ...]):
        return False
    ending: Ending = unpack(row["ending"], Ending)
    return ending.exit_code == CHECKPOINT_EXIT


async def _rows(runner: ProjectionRunner, column: str, values: Iterable[str]) -> list[dict[str, Scalar]]:
    rows: list[dict[str, Scalar]] = []
    wanted = tuple(values)
    for start in range(0, len(wanted), MAX_ALTERNATIVES):
        where: dict[str, Condition] = {column: wanted[start : start + MAX_ALTERNATIVES]}
        rows += await runner.query(ALLOCATIONS.name, where, limit=MAX_ROWS)
    return rows
