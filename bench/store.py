"""How fast facts are written down: the event store against a bare sqlite3 loop doing the same transactions, in one run.

Method: N clients on one event loop append to a fresh store as fast as they are answered (group commit, every kind FULL). The rows of each
transaction the store made are then written again by a plain ``sqlite3`` loop on the main thread (BEGIN IMMEDIATE, executemany, COMMIT) into
a fresh file with the same schema and pragmas: no event loop, thread, hashing or acknowledgement. `ratio` is store / bare; each pair is
repeated and the median ratio given, for a shared machine's disk is not steady. Run: ``python -m bench.store [--json]``.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dms.store.connection import connect_writer
from dms.store.events import EventStore
from dms.store.migrations import migrate
from dms_actors.ports import NewEvent

BODY_BYTES = 180
"""Typical of a bid or a status, encoded."""
ROUNDS = 9
BAR = 0.70
INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def workload(client: int, appends: int, events: int) -> list[list[NewEvent]]:
    """What one client appends: streams of 8 events, as a request or an allocation has."""
    kinds = ("bid_requested", "bid_received", "bid_accepted", "allocation_started")
    numbers = itertools.count()
    return [
        [
            NewEvent(f"r-{client:06}{n // 8:020}", kinds[n % 4], f"m-{client:06}{n // 4:020}", os.urandom(BODY_BYTES))
            for n in itertools.islice(numbers, events)
        ]
        for _ in range(appends)
    ]


async def through_store(path: Path, work: Sequence[Sequence[Sequence[NewEvent]]]) -> tuple[float, list[int]]:
    """Seconds to append everything, and the last seq of each transaction."""
    commits: list[int] = []

    def note(point: str) -> None:
        if point == "append_before_ack":
            commits.append(store.head().seq)

    async def client(mine: Sequence[Sequence[NewEvent]]) -> None:
        for events in mine:
            await store.append(events)

    async with await EventStore.open(path, checkpoint=note) as store:
        gc.collect()
        gc.freeze()  # the workload exists before the clock starts; walking it is no part of either contender
        began = time.perf_counter()
        await asyncio.gather(*(client(mine) for mine in work))
        return time.perf_counter() - began, commits


def bare(path: Path, rows: Sequence[tuple[object, ...]], commits: Sequence[int]) -> float:
    """Seconds for the same transactions without anything around them."""
    path.touch(0o600)
    connection = connect_writer(path)
    migrate(connection)
    gc.collect()
    gc.freeze()
    began, start = time.perf_counter(), 0
    for end in commits:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows[start:end])
        connection.execute("COMMIT")
        start = end
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def rows_of(path: Path) -> list[tuple[object, ...]]:
    """The rows the store wrote."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
    connection.close()
    return rows


def measure(clients: int, appends: int, events: int, directory: Path) -> dict[str, float]:
    """One case: medians over `ROUNDS` of events/s through the store, bare, and their ratio."""
    stored, floor, sizes = [], [], []
    for round_ in range(ROUNDS):
        path = directory / f"{clients}-{events}-{round_}.db"
        work = [workload(client, appends, events) for client in range(clients)]
        seconds, commits = asyncio.run(through_store(path, work))
        rows = rows_of(path)
        stored.append(len(rows) / seconds)
        floor.append(len(rows) / bare(path.with_suffix(".bare"), rows, commits))
        sizes.append(len(rows) / len(commits))
        gc.unfreeze()
    return {
        "clients": clients,
        "events_per_append": events,
        "events_per_transaction": round(statistics.median(sizes), 1),
        "store_events_per_s": round(statistics.median(stored)),
        "bare_events_per_s": round(statistics.median(floor)),
        "ratio": round(statistics.median(a / b for a, b in zip(stored, floor, strict=True)), 3),
        "bar": BAR,
    }


def run() -> list[dict[str, float]]:
    """All cases. The first is how a node writes (its actors append the events of a drained mailbox at once) and is held to the bar.

    The others show the cost of one event per call, which is the event loop's: waking each caller costs as much Python as its event.
    """
    cases = ((16, 80, 8), (64, 150, 1), (256, 60, 1), (1, 1500, 1))
    with tempfile.TemporaryDirectory(prefix="dms-bench-store-") as directory:
        return [measure(*case, Path(directory)) for case in cases]


def main() -> int:
    """Prints a table or JSON. Exit status 1 when the first case misses the bar."""
    figures = run()
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        print(f"{'clients':>8}{'ev/append':>11}{'ev/commit':>11}{'store ev/s':>12}{'bare ev/s':>12}{'ratio':>8}")
        for f in figures:
            print(
                f"{f['clients']:>8}{f['events_per_append']:>11}{f['events_per_transaction']:>11}"
                f"{f['store_events_per_s']:>12}{f['bare_events_per_s']:>12}{f['ratio']:>8}"
            )
    return 0 if figures[0]["ratio"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
