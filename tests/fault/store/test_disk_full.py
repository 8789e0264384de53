"""A full disk: the promise is not made, nothing is half done, and the next append works once there is room."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dms.store.blobs import BlobStore
from dms.store.events import EventStore
from dms.store.projections import ProjectionRunner
from dms.store.verify import verify_file
from dms.testing.event_log_contract import event, everything
from dms.testing.projections import PROJECTIONS, started
from dms_proto.errors import MachineError


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine does not let us mount a tmpfs: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def fill(directory: Path) -> Path:
    """Takes all the room there is."""
    filler = directory / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler


async def append_until_refused(store, size=20):
    """Appends until one is refused; gives how many events were acknowledged, and the error."""
    count = store.head().seq
    while True:
        try:
            count += len(await store.append([event(body=os.urandom(500))] * size))
        except MachineError as error:
            return count, error


async def check_recovery(store, count):
    assert store.head().seq == count
    assert len(await everything(store)) == count
    assert (await store.verify()).is_sound


@pytest.mark.root
async def test_a_full_file_system_refuses_the_append_whole_and_goes_on_once_there_is_room(small_disk):
    path = small_disk / "events.db"
    async with await EventStore.open(path) as store:
        await store.append([event()])
        filler = fill(small_disk)
        for _ in range(3):  # full, freed, full again
            count, error = await append_until_refused(store)
            assert (error.code, error.retryable) == ("disk_full", True)
            assert str(path) in error.message
            await check_recovery(store, count)
            with pytest.raises(MachineError):
                await store.append([event(body=os.urandom(500))] * 20)
            os.truncate(filler, max(0, filler.stat().st_size - 400_000))
            (next_event, *_) = await store.append([event(body=os.urandom(500))] * 20)
            assert next_event.seq == count + 1
        await check_recovery(store, count + 20)
    assert verify_file(path).checked == count + 20


@pytest.mark.root
async def test_killed_while_the_disk_is_full_and_reopened_the_history_is_what_was_acknowledged(small_disk):
    path = small_disk / "events.db"
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 700_000)
    reading, writing = os.pipe()
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from dms.store.events import EventStore; from dms_proto.errors import MachineError; from dms_actors.ports import NewEvent\n"
        "async def main():\n"
        "    store = await EventStore.open(Path(sys.argv[1])); n = 0\n"
        "    try:\n"
        "        while True: n += len(await store.append([NewEvent('s', 'k', '', os.urandom(900))] * 9))\n"
        "    except MachineError as error: os.write(int(sys.argv[2]), f'{n} {error.code}'.encode()); os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, path, str(writing)],
        pass_fds=(writing,),
        check=False,
        timeout=60,
    )
    os.close(writing)
    count, code = os.read(reading, 100).decode().split()
    os.close(reading)
    assert code == "disk_full"
    filler.unlink()
    async with await EventStore.open(path) as store:
        await check_recovery(store, int(count))


@pytest.mark.root
async def test_a_store_that_cannot_be_made_for_lack_of_room_can_be_made_later(small_disk):
    filler = fill(small_disk)
    with pytest.raises(MachineError) as refused:
        await EventStore.open(small_disk / "events.db")
    assert refused.value.code == "disk_full"
    filler.unlink()
    async with await EventStore.open(small_disk / "events.db") as store:
        await store.append([event()])


@pytest.mark.root
def test_a_blob_for_which_there_is_no_room_leaves_nothing_behind(small_disk, tmp_path):
    blobs = BlobStore(small_disk / "blobs")
    kept = blobs.put_bytes(b"small")
    (tmp_path / "large").write_bytes(os.urandom(3 * 1024 * 1024))
    for put in (lambda: blobs.put_file(tmp_path / "large"), lambda: blobs.put_bytes(os.urandom(3 * 1024 * 1024))):
        with pytest.raises(MachineError) as refused:
            put()
        assert refused.value.code == "disk_full"
    assert list(blobs.digests()) == [kept]
    assert list((blobs.root / "incoming").iterdir()) == []
    assert blobs.put_bytes(b"there is room for this") in set(blobs.digests())


# Without root: SQLite's own page limit gives the same answer as a full disk.


async def limit(store, more):
    """Lets the file grow by `more` pages."""

    def set_limit(connection):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + more}")

    await store.writing.run(set_limit)


async def test_at_the_page_limit_the_append_is_refused_whole_and_goes_on_once_it_is_raised(tmp_path):
    async with await EventStore.open(tmp_path / "events.db") as store:
        await store.append([event()])
        await limit(store, 20)
        count, error = await append_until_refused(store)
        assert error.code == "disk_full"
        await check_recovery(store, count)
        await limit(store, 100)
        assert (await store.append([event()]))[0].seq == count + 1
    assert verify_file(tmp_path / "events.db").checked == count + 1


async def test_everybody_who_shared_the_refused_transaction_is_told_and_nothing_of_it_is_there(tmp_path):
    async with await EventStore.open(tmp_path / "events.db") as store:
        await store.append([event()])
        await limit(store, 2)
        answers = await asyncio.gather(
            *(store.append([event(body=os.urandom(4000))]) for _ in range(30)), return_exceptions=True
        )
        errors = [answer for answer in answers if isinstance(answer, MachineError)]
        assert {error.code for error in errors} == {"disk_full"}
        assert len({id(error) for error in errors}) == len(errors) > 0
        await check_recovery(store, 1 + len(answers) - len(errors))


async def test_read_models_stay_at_a_consistent_point_and_follow_on_once_there_is_room(tmp_path):
    async with await EventStore.open(tmp_path / "events.db") as store:
        runner = ProjectionRunner(store, PROJECTIONS)
        await runner.start()
        await store.append([started(f"a-{n}", "p" * 200) for n in range(400)])
        await limit(store, 5)
        with pytest.raises(MachineError) as refused:
            await runner.catch_up()
        assert refused.value.code == "disk_full"
        await limit(store, 1000)
        assert await runner.count("allocations") == 400
        assert (await runner.query("loads"))[0]["total"] == 400
