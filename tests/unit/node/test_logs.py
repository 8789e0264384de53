"""The log store: byte-exact, whatever is missing meanwhile, whenever the node ends; and since when."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.node.log_reading import log_part
from dms.node.logs import LogStore
from dms.rpc.api.allocations import AllocationLogParams, LogPart
from dms_proto.ids import NO_DIGESTS, AllocationId, digest_of

ALLOCATION = AllocationId("a-x")
SECOND = 1_000


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def logs(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path)


def part(logs: LogStore, offset: int = 0, *, since: int = 0, is_over: bool = True) -> LogPart:
    return log_part(logs, ALLOCATION, AllocationLogParams(ALLOCATION, offset=offset, since=since), is_over=is_over)


def test_what_comes_after_a_gap_is_kept_and_never_read_as_if_it_came_before(logs: LogStore) -> None:
    assert logs.append(ALLOCATION, "stdout", 0, b"begin")
    assert not logs.append(ALLOCATION, "stdout", 9, b"end")
    assert not logs.append(ALLOCATION, "stdout", 12, b".")

    assert logs.length(ALLOCATION, "stdout") == 5
    assert logs.read(ALLOCATION, "stdout", 0, 100) == b"begin"
    assert part(logs, 5, is_over=False) == LogPart(b"", 5, 5, complete=False)
    assert part(logs, 0) == LogPart(b"begin", 0, 5, complete=False)
    assert part(logs, 5) == LogPart(b"end.", 9, 13, complete=True, missing=4)


async def test_a_gap_that_is_filled_leaves_the_log_as_it_was_written(logs: LogStore) -> None:
    grown: list[tuple[str, int, int]] = []
    logs.listen(ALLOCATION, lambda *news: grown.append(news))
    for offset, data in ((0, b"begin"), (9, b"end"), (5, b"----")):
        logs.append(ALLOCATION, "stdout", offset, data)

    assert logs.read(ALLOCATION, "stdout", 0, 100) == b"begin----end"
    assert grown == [("stdout", 0, 5), ("stdout", 5, 7)]
    assert (await logs.digests(ALLOCATION, (12, 0)))[0] == digest_of(b"begin----end")
    assert part(logs, 12) == LogPart(b"", 12, 12, complete=True)


def test_of_what_comes_before_its_turn_the_last_is_kept(logs: LogStore) -> None:
    for offset, data in ((10, b"older"), (20, b"newer"), (12, b"again")):
        logs.append(ALLOCATION, "stdout", offset, data)
    assert part(logs) == LogPart(b"newer", 20, 25, complete=True, missing=20)


def test_bytes_that_were_only_announced_are_told_to_be_missing(logs: LogStore) -> None:
    logs.append(ALLOCATION, "stdout", 0, b"begin")
    assert not logs.append(ALLOCATION, "stdout", 30, b"")
    assert part(logs) == LogPart(b"begin", 0, 5, complete=False)
    assert part(logs, 5) == LogPart(b"", 5, 5, complete=True, missing=25)


def test_what_is_missing_is_known_after_a_restart(logs: LogStore, tmp_path: Path) -> None:
    logs.append(ALLOCATION, "stdout", 0, b"begin")
    logs.append(ALLOCATION, "stdout", 9, b"end")
    logs.append(ALLOCATION, "stderr", 7, b"")

    again = LogStore(tmp_path)
    assert again.length(ALLOCATION, "stdout") == 5
    assert part(again, 5) == LogPart(b"end", 9, 12, complete=True, missing=4)
    assert again.written(ALLOCATION, "stderr") == 7
    again.append(ALLOCATION, "stderr", 0, b"1234567")
    again.append(ALLOCATION, "stdout", 5, b"----")
    assert LogStore(tmp_path).lengths(ALLOCATION) == (12, 7)
    assert {path.suffix for path in tmp_path.iterdir()} == {".stdout", ".stderr", ".times"}
    again.remove(ALLOCATION)
    assert not list(tmp_path.iterdir())


def test_a_process_that_died_between_saying_and_writing_has_kept_nothing_beyond_the_file(
    logs: LogStore, tmp_path: Path
) -> None:
    logs.append(ALLOCATION, "stdout", 0, b"begin")
    logs.append(ALLOCATION, "stdout", 9, b"end")
    with (tmp_path / "a-x.stdout").open("r+b") as file:
        file.truncate(5)
    again = LogStore(tmp_path)
    assert part(again, 5) == LogPart(b"", 5, 5, complete=True, missing=7)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 399), max_size=12, unique=True),
    order=st.randoms(use_true_random=False),
    restarts=st.sets(st.integers(0, 30)),
)
def test_pieces_in_any_order_and_across_restarts_make_the_log(
    cuts: list[int], order: object, restarts: set[int]
) -> None:
    """Each piece comes, some twice; then what is missing is asked for until nothing is. At no time a byte is wrong."""
    text = bytes(range(200)) * 2
    pieces = [(start, text[start:end]) for start, end in pairwise([0, *sorted(cuts), len(text)])]
    sent = pieces * 2
    order.shuffle(sent)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as root:
        logs = LogStore(Path(root))
        for number, (offset, data) in enumerate(sent):
            if number in restarts:
                logs.close()
                logs = LogStore(Path(root))
            logs.append(ALLOCATION, "stdout", offset, data)
            seen = part(logs)
            assert text[seen.offset : seen.next_offset] == seen.data
        while (length := logs.length(ALLOCATION, "stdout")) < len(text):
            logs.append(ALLOCATION, "stdout", length, text[length : length + 50])
        assert logs.read(ALLOCATION, "stdout", 0, 1000) == text
        there = asyncio.run(logs.digests(ALLOCATION, (len(text), 0)))
        assert there == (digest_of(text), NO_DIGESTS[1])
        logs.close()


def test_since_begins_with_what_came_in_that_second(tmp_path: Path) -> None:
    clock = Clock()
    logs = LogStore(tmp_path, clock)
    begun = clock.now
    for word in (b"one", b"two", b"three"):
        logs.append(ALLOCATION, "stdout", logs.length(ALLOCATION, "stdout"), word)
        clock.now += 60 * SECOND

    assert part(logs, since=begun).data == b"onetwothree"
    assert part(logs, since=begun + 30 * SECOND).data == b"twothree"
    assert part(LogStore(tmp_path), since=begun + 60 * SECOND).data == b"twothree"
    assert part(logs, since=clock.now) == LogPart(b"", 11, 11, complete=True)
    logs.append(ALLOCATION, "stdout", 11, b"four")
    assert part(logs, since=clock.now).data == b"four"
    assert part(logs, 13, since=clock.now).data == b"ur"


def test_a_second_of_output_is_noted_once_however_much_it_is(tmp_path: Path) -> None:
    clock = Clock()
    logs = LogStore(tmp_path, clock)
    for number in range(1_000):
        logs.append(ALLOCATION, "stdout", number, b"x")
        clock.now += 2
    assert (tmp_path / "a-x.times").stat().st_size == 2 * 24
