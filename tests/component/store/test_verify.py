"""Each way to tamper with a history is found, and named at the first event it touches."""

import sqlite3
import subprocess
import sys

import pytest

from dms.store.chain import GENESIS, Head, link
from dms.store.events import EventStore
from dms.store.verify import CHUNK, main, verify_file
from dms.testing.event_log_contract import event
from dms_proto.errors import MachineError

TOTAL = 40


@pytest.fixture
async def written(path):
    """A closed store with 40 events in 4 streams."""
    async with await EventStore.open(path) as store:
        await store.append([event(stream=f"s{n % 4}", body=bytes([n])) for n in range(TOTAL)])
        return store.head()


def tamper(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


SWAP = (
    "UPDATE events SET seq = -1 WHERE seq = {a}",
    "UPDATE events SET seq = {a} WHERE seq = {b}",
    "UPDATE events SET seq = {b} WHERE seq = -1",
)


@pytest.mark.parametrize(
    ("statements", "seq", "what", "told"),
    [
        (("UPDATE events SET body = x'ff' WHERE seq = 7",), 7, "changed", "event 7 (bid_made of s2)"),
        (("UPDATE events SET body = x'ff' WHERE seq = 1",), 1, "changed", "event 1"),
        (("UPDATE events SET at = at + 1 WHERE seq = 40",), 40, "changed", "event 40"),
        (("UPDATE events SET cause_id = 'other' WHERE seq >= 20",), 20, "changed", "event 20"),
        (("UPDATE events SET hash = zeroblob(32) WHERE seq = 12",), 12, "changed", "event 12"),
        (("UPDATE events SET version = 99 WHERE seq = 3",), 3, "changed", "event 3"),
        (("DELETE FROM events WHERE seq = 9",), 9, "missing", "event 9 is missing"),
        (("DELETE FROM events WHERE seq BETWEEN 9 AND 11",), 9, "missing", "events 9 to 11 are missing"),
        (("DELETE FROM events WHERE seq = 1",), 1, "missing", "event 1 is missing"),
        (
            ("DELETE FROM events WHERE seq = 9", "UPDATE events SET seq = seq - 1 WHERE seq > 9"),
            9,
            "changed",  # the hash that would show where it was written went with event 9
            "event 9",
        ),
        (
            tuple(s.format(a=5, b=25) for s in SWAP),
            5,
            "moved",
            "event 5 is in the wrong place: it was written as event 25",
        ),
        (tuple(s.format(a=5, b=6) for s in SWAP), 5, "moved", "it was written as event 6"),
        (("DELETE FROM events WHERE seq > 30",), 31, "truncated", "the events end at 30, but 40 were written"),
        (("DELETE FROM events",), 1, "truncated", "the events end at 0, but 40 were written"),
    ],
)
async def test_the_first_broken_link_is_named(path, written, statements, seq, what, told):
    tamper(path, *statements)
    verdict = verify_file(path)
    assert (verdict.broken.seq, verdict.broken.what) == (seq, what)
    assert told in verdict.broken.detail
    assert verdict.checked == seq - 1


async def test_a_whole_history_is_sound_and_its_head_is_the_stores(path, written):
    verdict = verify_file(path)
    assert verdict.is_sound
    assert (verdict.checked, verdict.head_hash) == (TOTAL, written.hash.hex())


def rewrite(path):
    """A history replaced by one that is sound in itself, as somebody with the file and this program can do."""
    connection = sqlite3.connect(path, isolation_level=None)
    previous = GENESIS
    for row in connection.execute("SELECT * FROM events ORDER BY seq").fetchall():
        content = (*row[:7], b"rewritten" if row[0] == 10 else row[7])
        previous = link(previous, content)
        connection.execute("UPDATE events SET body = ?, hash = ? WHERE seq = ?", (content[7], previous, row[0]))
    connection.close()


async def test_a_head_written_down_elsewhere_shows_a_history_that_was_replaced(path, written):
    rewrite(path)
    assert verify_file(path).is_sound
    verdict = verify_file(path, written)
    assert (verdict.broken.seq, verdict.broken.what) == (TOTAL, "replaced")


async def test_a_head_written_down_elsewhere_shows_a_tail_cut_off_with_its_traces(path, written):
    tamper(path, "DELETE FROM events WHERE seq > 30", "UPDATE sqlite_sequence SET seq = 30")
    assert verify_file(path).is_sound
    verdict = verify_file(path, written)
    assert (verdict.broken.seq, verdict.broken.what) == (31, "truncated")


async def test_an_older_head_is_part_of_a_longer_history(path, written):
    async with await EventStore.open(path) as store:
        await store.append([event()])
        assert (await store.verify(written)).is_sound
        assert (await store.verify(Head(written.seq, bytes(32)))).broken.what == "replaced"
        assert (await store.verify(Head(99, bytes(32)))).broken.what == "truncated"


async def test_a_running_store_walks_a_long_history_in_chunks_and_finds_the_break(store, path):
    for _ in range(3):
        await store.append([event()] * (CHUNK - 100))
    assert (await store.verify()).checked == 3 * (CHUNK - 100)
    tamper(path, f"UPDATE events SET body = x'ff' WHERE seq = {CHUNK + 50}")
    verdict = await store.verify()
    assert (verdict.broken.seq, verdict.broken.what) == (CHUNK + 50, "changed")
    tamper(path, f"DELETE FROM events WHERE seq > {CHUNK}")
    verdict = await store.verify()
    assert (verdict.broken.seq, verdict.broken.what) == (CHUNK + 1, "truncated")


async def test_an_empty_history_is_sound(store):
    assert await store.verify() == verify_file(store.path)
    assert (await store.verify()).is_sound


async def test_the_program_says_it_in_a_line_and_an_exit_status(path, written):
    def program(*arguments):
        command = [sys.executable, "-m", "dms.store.verify", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    sound = program(path)
    assert (sound.returncode, sound.stdout) == (0, f"40 events, all sound; head {written.hash.hex()}\n")
    tamper(path, "DELETE FROM events WHERE seq = 9")
    broken = program(path)
    assert (broken.returncode, broken.stdout) == (1, "missing: event 9 is missing; the 8 events before it are sound\n")
    assert program().returncode == 2


def test_the_program_on_a_file_that_is_no_store(tmp_path, capsys):
    (tmp_path / "events.db").write_bytes(b"not a database" * 100)
    assert main([str(tmp_path / "events.db")]) == 1
    assert "[store_corrupt]" in capsys.readouterr().err
    with pytest.raises(MachineError) as refused:
        verify_file(tmp_path / "missing.db")
    assert refused.value.code == "store_failed"
