"""Files that are not the store this dms knows: refused by name, and left as they are, byte for byte."""

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from dms.store.events import EventStore
from dms.store.migrations import LATEST
from dms.store.verify import verify_file
from dms.testing.event_log_contract import event, everything
from dms_proto.errors import MachineError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


async def write(path, count=300):
    async with await EventStore.open(path) as store:
        await store.append([event(stream=f"s{n % 9}", body=bytes([n % 256]) * 100) for n in range(count)])


def contents(path):
    """What must not change: the file and its write-ahead log. (The -shm file is scratch memory.)"""
    files = (path, path.with_name(path.name + "-wal"))
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.exists() and file.stat().st_size
    }


async def refusal(path):
    before = contents(path)
    for _ in range(2):  # refusing leaves nothing behind that a second attempt would trip over
        with pytest.raises(MachineError) as refused:
            await EventStore.open(path)
        assert contents(path) == before
    assert str(path) in refused.value.message
    assert refused.value.hint
    return refused.value


# ---------------------------------------------------------------------------------------------------------------- newer


async def test_a_store_from_a_newer_version_is_refused_and_untouched(path):
    await write(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={LATEST + 1}")
    error = await refusal(path)
    assert error.code == "store_newer"
    assert f"schema version {LATEST + 1}, this dms knows up to {LATEST}" in error.message
    with pytest.raises(MachineError) as refused:
        verify_file(path)
    assert refused.value.code == "store_newer"


async def test_a_newer_version_that_only_the_write_ahead_log_knows_of_is_refused_and_untouched(path, tmp_path):
    await write(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={LATEST + 1}")
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("events.db", "events.db-wal"):
            shutil.copy(tmp_path / name, crashed / name)
    assert int.from_bytes((crashed / "events.db").read_bytes()[60:64]) == LATEST
    assert (await refusal(crashed / "events.db")).code == "store_newer"


# --------------------------------------------------------------------------------------------------------------- corrupt


def garbage(path):
    path.write_bytes(os.urandom(8192))


def short(path):
    path.write_bytes(b"SQLite format 3\x00")


def foreign(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def halved(path):
    os.truncate(path, path.stat().st_size // 2)


def root_page_smashed(path):
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def pages_zeroed(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def tail_deleted(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM events WHERE seq > 290")


def last_event_changed(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 295")


def table_missing(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE events")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (garbage, "not a SQLite file"),
        (short, "not a SQLite file"),
        (foreign, "of another program"),
        (halved, "malformed"),
        (root_page_smashed, "malformed"),
        (pages_zeroed, "malformed"),
        (tail_deleted, "its events end at 290, but 300 were written"),
        (last_event_changed, "event 295 does not follow"),
        (table_missing, "no such table: events"),
    ],
)
async def test_a_damaged_store_says_what_is_wrong_and_is_kept(path, damage, told):
    await write(path)
    damage(path)
    error = await refusal(path)
    assert error.code == "store_corrupt"
    assert told in error.message


async def test_an_emptied_file_does_not_cost_the_events_that_are_still_in_the_log(path, tmp_path):
    store = await EventStore.open(path)
    await store.append([event()])
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    shutil.copy(path.with_name("events.db-wal"), crashed / "events.db-wal")
    await store.close()
    for make in (lambda: None, (crashed / "events.db").touch):
        make()
        error = await refusal(crashed / "events.db")
        assert error.code == "store_corrupt"
        assert "events.db-wal beside it holds events" in error.message


async def read_back(path):
    """The events that a store gives, or the code with which it refuses; none when verifying finds them not sound."""
    try:
        async with await EventStore.open(path) as store:
            found = await everything(store)
            return (found if (await store.verify()).is_sound else []), ""
    except MachineError as error:
        return [], error.code


@pytest.mark.slow
async def test_each_page_in_turn_overwritten_is_noticed_or_held_nothing_of_the_history(path, tmp_path):
    """Bit rot: opening, reading or verifying notices; what is read back is never a different history."""
    await write(path, 150)
    async with await EventStore.open(path) as store:
        original = await everything(store)
    whole = path.read_bytes()
    noticed = 0
    for page in range(1, len(whole) // 4096):
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        found, code = await read_back(damaged)
        assert code == "store_corrupt" or found in ([], original)
        noticed += code == "store_corrupt"
    assert noticed > 3


async def test_a_directory_in_place_of_the_file_or_no_directory_for_it_is_store_failed(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "events.db"):
        with pytest.raises(MachineError) as refused:
            await EventStore.open(path)
        assert refused.value.code == "store_failed"


# ---------------------------------------------------------------------------------------------------------- two openers


async def test_a_second_opener_is_refused_by_name_and_the_first_goes_on(path):
    async with await EventStore.open(path) as store:
        with pytest.raises(MachineError) as refused:
            await EventStore.open(path)
        assert refused.value.code == "home_in_use"
        assert f"in use by process {os.getpid()}" in refused.value.message
        await store.append([event()])
    async with await EventStore.open(path) as store:
        assert store.head().seq == 1


HOLDER = """
import asyncio, sys
from pathlib import Path
from dms.store.events import EventStore
async def main():
    async with await EventStore.open(Path(sys.argv[1])):
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


def test_another_process_is_refused_and_its_death_frees_the_store_at_once(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(MachineError) as refused:
            asyncio.run(write(path))
        assert refused.value.code == "home_in_use"
        assert f"process {holder.pid}" in refused.value.message
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdin.close()
        holder.stdout.close()
    asyncio.run(write(path))


async def test_a_refused_open_lets_go_of_the_store(path):
    garbage(path)
    with pytest.raises(MachineError):
        await EventStore.open(path)
    path.unlink()
    await write(path)
