"""kill -9 of a node whose pool is at work, again and again on one event store: each time every hit that was delivered is there."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dms.store.events import EventStore
from dms_actors.events import from_row
from dms_proto.pool.fold import evolve
from dms_proto.pool.state import POOL_STREAM, Pool, PoolSaved
from dms_proto.sim.pools import check, durable, hits_of

from .pool_child import AT_ONCE

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("pool_child.py")


def killed_after(deliveries: int, directory: Path) -> Counter[str]:
    """What was delivered, by container and virtual container, until the process was killed: at least so many."""
    with subprocess.Popen([sys.executable, str(CHILD), str(directory)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(deliveries)]
        child.kill()
        lines += child.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    assert len(whole) >= deliveries
    return Counter(name for line in whole for name in line.split())


async def restored(directory: Path, *, since: str = "") -> Pool:
    store = await EventStore.open(directory / "events.db")
    pool = Pool()
    for row in await store.read_stream(POOL_STREAM, since=since):
        pool = evolve(pool, from_row(row))
    await store.close()
    return pool


async def test_every_hit_that_was_delivered_is_there_after_kill_9(tmp_path: Path) -> None:
    delivered: Counter[str] = Counter()
    for deliveries in (1, 40, 333, 700):
        delivered += killed_after(deliveries, tmp_path)
        pool = await restored(tmp_path, since=PoolSaved.__name__)
        hits = hits_of(pool)
        check(pool)
        assert hits.keys() >= delivered.keys()
        # Written before it is delivered: what was written and not delivered any more can only be more, by what was under way.
        more = Counter({name: hits[name] - delivered[name] for name in hits})
        assert all(number >= 0 for number in more.values())
        assert sum(more.values()) <= 2 * AT_ONCE
        delivered += more
    assert durable(pool) == durable(await restored(tmp_path))
