"""kill -9 at every persistence point, enumerated: every point of every kind that the workload passes, one crash each.

The workload (crash_child.py) is deterministic, so a run to the end lists all points it passes; each is then a case of its own.
"""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from dms.store.events import EventStore
from dms.store.migrations import LATEST
from dms.store.projections import POINTS as PROJECT_POINTS
from dms.store.projections import ProjectionRunner
from dms.store.verify import verify_file
from dms.store.writer import POINTS as APPEND_POINTS
from dms.testing.event_log_contract import event
from dms.testing.projections import PROJECTIONS

CHILD = Path(__file__).parent / "crash_child.py"
MIGRATE_POINTS = ("migrate_before_begin", "migrate_after_statement", "migrate_before_commit", "migrate_after_commit")


class Victims:
    """The process that forks and kills; one for all tests of this file."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, **case):
        self.process.stdin.write(
            json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in case.items()}) + "\n"
        )
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["hits"]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def victims():
    victims = Victims()
    yield victims
    victims.close()


def crash(victims, directory, point, nth, *, life="a", **more):
    status, _ = victims.run(
        path=directory / "events.db", acks=directory / "acks", life=life, point=point, nth=nth, **more
    )
    assert os.WIFSIGNALED(status), f"{point} was not reached {nth} times"
    assert os.WTERMSIG(status) == signal.SIGKILL


def acknowledged(directory):
    acks = directory / "acks"
    return acks.read_text().split() if acks.exists() else []


async def stored_groups(store):
    """The names of the appends found, each checked to be whole and in one piece."""
    groups = []
    async for found in store.read_all():
        if not groups or groups[-1][0] != found.cause_id:
            groups.append((found.cause_id, 0))
        groups[-1] = (found.cause_id, groups[-1][1] + 1)
    for name, count in groups:
        assert count == int(name.rpartition(":")[2]), f"append {name} has {count} events"
    names = [name for name, _ in groups]
    assert len(set(names)) == len(names)
    return names


async def check_versions(store):
    versions = Counter()
    async for found in store.read_all():
        versions[found.stream] += 1
        assert found.version == versions[found.stream]


async def check_read_models(store):
    runner = ProjectionRunner(store, PROJECTIONS)
    await runner.start()
    live = [await runner.query(table) for table in ("allocations", "loads")]
    for projection in PROJECTIONS:
        await runner.rebuild(projection.name)
    assert [await runner.query(table) for table in ("allocations", "loads")] == live


async def check_survivor(directory):
    """All that must hold after any crash; gives the names of the appends that are in the history."""
    path = directory / "events.db"
    if not path.exists():
        assert acknowledged(directory) == []
        return []
    async with await EventStore.open(path) as store:
        names = await stored_groups(store)
        assert set(acknowledged(directory)) <= set(names)
        await check_versions(store)
        await check_read_models(store)
        assert (await store.verify()).is_sound
        await store.append([event(stream="after the crash", cause_id=f"probe {store.head().seq}:1")])
    assert verify_file(path).is_sound
    return names


def enumerate_cases(tmp_path_factory):
    """(point, nth) for every point the workload passes, by running it once to the end in a process of its own."""
    directory = tmp_path_factory.mktemp("enumerate")
    case = {"path": str(directory / "events.db"), "acks": str(directory / "acks"), "life": "a"}
    done = subprocess.run(
        [sys.executable, CHILD], input=json.dumps(case) + "\n", capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)["hits"]


@pytest.fixture(scope="module")
def hits(tmp_path_factory):
    return enumerate_cases(tmp_path_factory)


def test_the_workload_passes_every_point_there_is(hits):
    assert set(hits) == {*APPEND_POINTS, *PROJECT_POINTS, *MIGRATE_POINTS}


def test_every_point_in_the_source_is_in_the_lists():
    source = "".join(path.read_text() for path in (Path(__file__).parents[3] / "dms" / "store").glob("*.py"))
    called = set(re.findall(r'checkpoint\("(\w+)"\)', source))
    assert called == {*APPEND_POINTS, *PROJECT_POINTS, *MIGRATE_POINTS}


# One test per kind of point, each crash of it in turn: the number of crashes is known only once the workload has run.
@pytest.mark.parametrize("point", [*MIGRATE_POINTS, *APPEND_POINTS, *PROJECT_POINTS])
async def test_kill_at_every_passing_of_a_point_loses_no_promise_and_leaves_nothing_partial(
    point, hits, victims, tmp_path
):
    times = hits.count(point)
    assert times > 0
    for nth in range(1, times + 1):
        directory = tmp_path / str(nth)
        directory.mkdir()
        crash(victims, directory, point, nth)
        await check_survivor(directory)


@pytest.mark.parametrize("point", APPEND_POINTS)
async def test_whether_the_interrupted_append_is_there_is_decided_by_the_commit_alone(point, victims, tmp_path):
    crash(victims, tmp_path, point, 1)
    names = await check_survivor(tmp_path)
    is_committed = APPEND_POINTS.index(point) >= APPEND_POINTS.index("append_after_commit")
    assert (names != []) is is_committed
    if point != "append_after_ack":  # by then its caller may have been told, on its own thread
        assert acknowledged(tmp_path) == []


async def test_crash_after_crash_the_history_only_grows(victims, tmp_path):
    before = []
    for life, point in enumerate(APPEND_POINTS * 2):
        crash(victims, tmp_path, point, 2, life=f"life{life}")
        names = await check_survivor(tmp_path)
        lives = [name for name in names if name.startswith("life")]
        assert lives[: len(before)] == before
        before = lives
    assert len(before) > len(APPEND_POINTS)


@pytest.mark.parametrize("point", MIGRATE_POINTS)
async def test_kill_at_every_point_of_an_upgrade_leaves_one_whole_schema_and_the_events(point, victims, tmp_path):
    case = {"acks": tmp_path / "none", "life": "a", "upgrade": True}
    path = tmp_path / "full.db"
    await one_event(path)
    _, passed = victims.run(path=path, **case)
    for nth in range(1, passed.count(point) + 1):
        path = tmp_path / f"{nth}.db"
        await one_event(path)
        status, _ = victims.run(path=path, point=point, nth=nth, **case)
        assert os.WIFSIGNALED(status)
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            recorded = connection.execute("SELECT max(number) FROM migrations").fetchone()[0]
            notes = [name for _, name, *_ in connection.execute("PRAGMA table_info(notes)")]
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
        assert version == recorded
        assert notes == {LATEST: [], LATEST + 1: ["seq"], LATEST + 2: ["seq", "author"]}[version]


async def one_event(path):
    async with await EventStore.open(path) as store:
        await store.append([event()])


def wait_for_acks(path, count):
    while not path.exists() or path.read_bytes().count(b"\n") < count:  # the test's own timeout is the deadline
        os.sched_yield()


@pytest.mark.slow
@pytest.mark.parametrize("acks", [1, 40, 200])
def test_kill_from_outside_under_load(acks, tmp_path):
    """The kill falls anywhere, also inside SQLite's own writes."""
    program = (
        "import asyncio, os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import crash_child as c\n"
        "async def main():\n"
        "    acks = os.open('acks', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    store = await c.EventStore.open(Path('events.db'))\n"
        "    async def client(n):\n"
        "        for k in range(10**6):\n"
        "            await store.append(c.group(f'{n}.{k}', n % 5 + 1)); os.write(acks, f'{n}.{k}:{n % 5 + 1}\\n'.encode())\n"
        "    await asyncio.gather(*(client(n) for n in range(20)))\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(CHILD.parent)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        wait_for_acks(tmp_path / "acks", acks)
    finally:
        process.kill()
        process.wait(10)
    names = asyncio.run(check_survivor(tmp_path))
    assert len(names) >= acks


@pytest.mark.slow
def test_a_process_that_fails_without_closing_ends_and_keeps_what_was_acknowledged(tmp_path):
    program = (
        "import asyncio; from pathlib import Path\n"
        "from dms.store.events import EventStore; from dms_actors.ports import NewEvent\n"
        "async def main():\n"
        "    global store\n"
        "    store = await EventStore.open(Path('events.db'))\n"
        "    await store.append([NewEvent('s', 'k', 'c:1', b'')])\n"
        "    raise SystemExit(7)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=30, check=False)
    assert done.returncode == 7
    assert asyncio.run(check_survivor(tmp_path)) == ["c:1"]
