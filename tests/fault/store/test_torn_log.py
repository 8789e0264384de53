"""A power cut tears the write-ahead log anywhere: what is left is a whole number of transactions from the start."""

import os
import random
import shutil

import pytest

from dms.store.events import EventStore
from dms.testing.event_log_contract import event, everything

HEADER, FRAME = 32, 24 + 4096


@pytest.fixture
async def crashed(tmp_path):
    """A store's files as a power cut leaves them: all transactions in the log. With the seq at which each transaction ended."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    ends = [0]
    async with await EventStore.open(live / "events.db") as store:
        for size in (1, 3, 70, 2, 1, 40, 1):
            await store.append([event(body=os.urandom(60)) for _ in range(size)])
            ends.append(store.head().seq)
        shutil.copytree(live, copy)
        history = await everything(store)
    return copy, ends, history


async def survivors(directory, target, log):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shutil.copy(directory / "events.db", target / "events.db")
    (target / "events.db-wal").write_bytes(log)
    async with await EventStore.open(target / "events.db") as store:
        found = await everything(store)
        assert (await store.verify()).is_sound
        await store.append([event()])
        assert (await store.verify()).checked == len(found) + 1
    return found


def cuts(size):
    """Every frame's start, middle and last byte."""
    frames = range(HEADER, size, FRAME)
    return sorted(
        {
            0,
            1,
            HEADER - 1,
            *frames,
            *(f + FRAME // 2 for f in frames),
            *(f + FRAME - 1 for f in frames),
        }
    )


@pytest.mark.slow
async def test_a_log_cut_off_anywhere_leaves_a_whole_number_of_transactions(crashed, tmp_path):
    directory, ends, history = crashed
    log = (directory / "events.db-wal").read_bytes()
    longest = 0
    seen = set()
    for cut in cuts(len(log)):
        found = await survivors(directory, tmp_path / "cut", log[:cut])
        assert found == history[: len(found)]
        assert len(found) in ends
        assert len(found) >= longest  # cutting less off never loses more
        longest = len(found)
        seen.add(len(found))
    assert seen == set(ends) - {ends[-1]}  # each boundary was met; the whole log is not a cut
    assert await survivors(directory, tmp_path / "whole", log) == history


async def test_a_log_with_a_flipped_bit_anywhere_leaves_a_whole_number_of_transactions(crashed, tmp_path):
    directory, ends, history = crashed
    log = bytearray((directory / "events.db-wal").read_bytes())
    chance = random.Random(7)
    for place in chance.sample(range(HEADER, len(log)), 60):
        log[place] ^= 0x10
        found = await survivors(directory, tmp_path / "flipped", bytes(log))
        log[place] ^= 0x10
        assert found == history[: len(found)]
        assert len(found) in ends


async def test_a_log_without_its_shared_memory_file_is_recovered_whole(crashed, tmp_path):
    directory, _, history = crashed
    log = (directory / "events.db-wal").read_bytes()
    assert await survivors(directory, tmp_path / "recovered", log) == history
