"""The requester's hands: no provider that drips its log, sends too much of it, or signs another has its way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.node.collector import Collector, Pace
from dms.node.holders import Teller
from dms.node.logs import LogStore
from dms.store.blobs import BlobStore
from dms.testing.market import until
from dms_actors.loop_calls import LoopCalls
from dms_proto.data.chunks import LISTED_FROM, NO_LIST
from dms_proto.data.holders import KnownHolders
from dms_proto.errors import MachineError
from dms_proto.ids import NO_DIGESTS, AllocationId, Digest, PeerId, RequestId, digest_of
from dms_proto.market.auction_stimuli import Collected
from dms_proto.messages import AllocationMessage, AllocationStatus, Phase
from dms_proto.messages.kinds import DOING
from dms_proto.units import GIB
from dms_proto.work import Ending, EndReason, Limits, Output, Task

ALLOCATION, REQUEST, PROVIDER, OTHER = AllocationId("a-x"), RequestId("r-x"), PeerId("p"), PeerId("q")
LIMIT = 10_000_000
DIGEST = digest_of(b"what is claimed")


class Post:
    """Sends nothing, and remembers it."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, ...]] = []

    def send_now(self, *message: object) -> bool:
        self.sent.append(message)
        return True


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
async def collector(tmp_path: Path, told: list[Any]) -> Collector:
    return collecting(tmp_path, told)


def collecting(
    logs: Path,
    told: list[Any],
    pause_s: float = 0.02,
    blobs: BlobStore | None = None,
    network: object = None,
    own_s: float = 600.0,
) -> Collector:
    """A requester's hands that find the logs that an earlier process left."""
    post: Any = Post()
    hands: Any = {"blobs": blobs, "datasets": None, "network": network, "post": post}
    collector = Collector(
        calls=LoopCalls(asyncio.get_running_loop()),
        me=PeerId("me"),
        logs=LogStore(logs),
        teller=Teller(PeerId("me"), post, KnownHolders(), nobody_shares),
        tell=lambda _request, stimulus: told.append(stimulus),
        pace=Pace(wait_s=0.05, pause_s=pause_s, own_s=own_s, own_pause_s=0.01, slowest=1_000_000_000),
        **hands,
    )
    collector.expect(REQUEST, PROVIDER, ALLOCATION, Task("sandbox", ("true",), limits=Limits(log_bytes=LIMIT)))
    return collector


async def nobody_shares(_task: Task) -> None:
    """Nobody is asked."""


def ended(log_bytes: tuple[int, int], log_digests: tuple[Digest, Digest] = NO_DIGESTS) -> AllocationStatus:
    """A run that wrote this, as its provider has it."""
    ending = Ending(EndReason.COMPLETED)
    return AllocationStatus(
        REQUEST, ALLOCATION, 5, Phase.ENDED, ending=ending, log_bytes=log_bytes, log_digests=log_digests
    )


def collect(collector: Collector, log_bytes: tuple[int, int]) -> None:
    collector.collect(REQUEST, PROVIDER, ended(log_bytes))


def arrives(collector: Collector, stream: str, offset: int, data: bytes) -> None:
    collector.log_arrived(PROVIDER, AllocationMessage(REQUEST, ALLOCATION, stream, offset, data))


async def test_a_log_that_comes_byte_by_byte_is_given_up(collector: Collector, told: list[Any]) -> None:
    collect(collector, (LIMIT, 0))
    async with asyncio.timeout(30):
        while not told:
            arrives(collector, "stdout", collector.logs.length(ALLOCATION, "stdout"), b"x")
            await asyncio.sleep(0)
    await collector.close()
    assert [stimulus.failed for stimulus in told] == ["parts of its log are missing"]


async def test_what_a_job_may_not_write_is_not_kept(collector: Collector) -> None:
    arrives(collector, "stderr", 0, b"e" * 1_000)
    for number in range(LIMIT // 100_000):
        arrives(collector, "stdout", number * 100_000, b"o" * 100_000)
    assert collector.logs.lengths(ALLOCATION) == (LIMIT - 100_000, 1_000)
    await collector.close()


async def test_what_comes_before_its_turn_counts_against_what_a_job_may_write(collector: Collector) -> None:
    arrives(collector, "stdout", LIMIT - 10, b"o" * 10)
    arrives(collector, "stderr", 0, b"e")
    arrives(collector, "stderr", LIMIT, b"")
    assert collector.logs.lengths(ALLOCATION) == (0, 0)
    assert collector.logs.written(ALLOCATION, "stderr") == 0
    await collector.close()


async def test_a_gap_is_asked_for_once_and_not_for_every_piece_that_shows_it(tmp_path: Path, told: list[Any]) -> None:
    collector = collecting(tmp_path, told, pause_s=600)
    post: Any = collector._post
    for number in range(100):
        arrives(collector, "stdout", 10 + number, b"x")
    arrives(collector, "stdout", 200, b"")
    assert post.sent == [(PROVIDER, AllocationMessage(REQUEST, ALLOCATION, "want:stdout", 0))]
    await collector.close()


async def test_a_gap_that_stays_is_asked_for_again(collector: Collector) -> None:
    post: Any = collector._post
    await until(lambda: arrives(collector, "stdout", 200, b""), lambda _: len(post.sent) == 2)
    await collector.close()


async def test_a_log_longer_than_the_job_may_write_is_not_asked_for(collector: Collector, told: list[Any]) -> None:
    collect(collector, (LIMIT, 1))
    await until(lambda: told, bool)
    await collector.close()
    assert told[0].failed == f"its log is said to have {LIMIT + 1} bytes, more than the job may write"


@pytest.mark.parametrize(
    "outputs",
    [
        (Output("huge", DIGEST, 2**48, DIGEST),),
        tuple(Output(f"part-{number}", DIGEST, 4 * GIB, DIGEST) for number in range(5)),
        tuple(Output(f"part-{number}", DIGEST, 1) for number in range(1_001)),
    ],
)
async def test_results_beyond_what_any_node_brings_home_are_not_fetched(
    collector: Collector, told: list[Any], outputs: tuple[Output, ...]
) -> None:
    """The list of the chunks of a large one would be read into memory."""
    collector.collect(REQUEST, PROVIDER, msgspec.structs.replace(ended((0, 0)), outputs=outputs))
    (collected,) = await until(lambda: told, bool)
    assert "are the most that are brought home" in collected.failed


async def test_of_a_result_that_is_here_already_its_provider_is_not_believed(tmp_path: Path, told: list[Any]) -> None:
    """The next attempt would be told to go by a list that nobody has, or that is another's."""
    blobs = BlobStore(tmp_path / "blobs")
    right = blobs.put_list(blobs.put_bytes(bytes(LISTED_FROM + 1)))
    collector, verdicts = collecting(tmp_path / "logs", told, blobs=blobs), list[bool]()
    for size, chunks in ((right.size, DIGEST), (1, NO_LIST), (right.size, right.chunks), (right.size, NO_LIST)):
        outputs = (Output("model.bin", right.digest, size, chunks),)
        collector.collect(REQUEST, PROVIDER, msgspec.structs.replace(ended((0, 0)), outputs=outputs))
        await until(lambda: told, bool)
        verdicts.append(bool(told.pop().failed))
    assert verdicts == [True, True, False, False]


class FullDisk:
    """A network whose process finds no room for what it fetches, for so many times."""

    def __init__(self, times: int) -> None:
        self.tries = 0
        self._times = times

    async def fetch(self, *arguments: Any, **_options: Any) -> tuple[PeerId, ...]:
        self.tries += 1
        if self.tries <= self._times:
            raise MachineError("disk_full", "no space left on device")
        arguments[3].write_bytes(b"result")
        return ()


async def brought(tmp_path: Path, told: list[Any], disk: FullDisk, own_s: float) -> Collected:
    blobs = BlobStore(tmp_path / "blobs")
    collector = collecting(tmp_path / "logs", told, blobs=blobs, network=disk, own_s=own_s)
    outputs = (Output("result", digest_of(b"result"), 6),)
    collector.collect(REQUEST, PROVIDER, msgspec.structs.replace(ended((0, 0)), outputs=outputs))
    (collected,) = await until(lambda: told, bool)
    await collector.close()
    return collected  # type: ignore[no-any-return]


async def test_results_wait_for_room_on_this_node_s_own_disk(tmp_path: Path, told: list[Any]) -> None:
    disk = FullDisk(3)
    assert await brought(tmp_path, told, disk, 600.0) == Collected(ALLOCATION)
    assert disk.tries == 4


async def test_where_no_room_comes_it_is_told_whose_disk_is_full(tmp_path: Path, told: list[Any]) -> None:
    """The provider was blamed for it, and another one ran the same for nothing."""
    collected = await brought(tmp_path, told, FullDisk(1_000_000), 0.0)
    assert collected == Collected(ALLOCATION, "no space left on device", ours=True)


async def test_a_log_that_cannot_be_written_here_is_no_fault_of_who_sends_it(
    tmp_path: Path, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    collector = collecting(tmp_path, told, own_s=0.0)
    post: Any = collector._post
    (tmp_path / f"{ALLOCATION}.stdout").symlink_to("/dev/full")
    arrives(collector, "stdout", 0, b"hello")
    collect(collector, (5, 0))
    await until(lambda: post.sent, bool)
    arrives(collector, "stdout", 0, b"hello")
    (collected,) = await until(lambda: told, bool)
    assert collected == Collected(ALLOCATION, "its log cannot be written: No space left on device", ours=True)
    await collector.close()
    assert "its log cannot be written" in caplog.text


async def test_what_a_provider_does_is_heard_of_it_alone_and_forgotten_with_the_request(collector: Collector) -> None:
    arrives(collector, DOING, 0, b"pulling its image")
    collector.log_arrived(OTHER, AllocationMessage(REQUEST, ALLOCATION, DOING, 0, b"mining"))
    assert collector.doings.line(ALLOCATION) == "pulling its image"

    collector.forget(REQUEST)
    arrives(collector, DOING, 0, b"late")
    assert collector.doings.line(ALLOCATION) == ""
    await collector.close()


async def test_of_a_log_that_is_not_expected_nothing_is_kept(collector: Collector, tmp_path: Path) -> None:
    """Of an allocation that was made up, or another's, or of which no more is expected; in the channels of a log, and in any."""
    tables = (collector.doings, collector._asked, collector._expected, collector.logs._hashes, collector.logs._reaches)
    arrives(collector, "stdout", 0, b"hello")
    files, before = _files(tmp_path), [_entries(table) for table in tables]
    for number in range(100):
        for channel in ("stdout", "stderr", DOING, f"channel {number}"):
            made_up = AllocationMessage(REQUEST, AllocationId(f"a-{number}"), channel, number, b"made up")
            collector.log_arrived(PROVIDER, made_up)
            collector.log_arrived(OTHER, AllocationMessage(REQUEST, ALLOCATION, channel, number, b"not mine"))
    assert [_entries(table) for table in tables] == before
    assert _files(tmp_path) == files
    collector.forget(REQUEST)
    arrives(collector, "stdout", 5, b"too late")
    assert collector.logs.length(ALLOCATION, "stdout") == 5
    await collector.close()


def _files(directory: Path) -> set[Path]:
    return set(directory.iterdir())


def _entries(table: object) -> int:
    return (
        len(table)
        if isinstance(table, dict)
        else sum(map(_entries, vars(table).values()))
        if hasattr(table, "__dict__")
        else 0
    )


async def test_a_log_that_is_what_its_provider_has_signed_is_complete_at_once(collector: Collector) -> None:
    arrives(collector, "stdout", 0, b"hel")
    arrives(collector, "stdout", 3, b"lo")
    assert collector.is_complete(ended((5, 0), (digest_of(b"hello"), Digest(""))))
    await collector.close()


async def test_a_log_that_its_provider_has_signed_otherwise_is_not_accepted(
    collector: Collector, told: list[Any]
) -> None:
    arrives(collector, "stdout", 0, b"hello")
    arrives(collector, "stderr", 0, b"oh")
    signed = ended((5, 2), (digest_of(b"hullo"), digest_of(b"oh")))

    assert not collector.is_complete(signed)
    collector.collect(REQUEST, PROVIDER, signed)
    await until(lambda: told, bool)

    assert told[0].failed == "its stdout is not what it has signed"
    await collector.close()


async def test_bytes_after_those_that_the_provider_could_keep_are_no_difference(
    collector: Collector, told: list[Any]
) -> None:
    """Its disk was full: it sent on what it could not write down."""
    arrives(collector, "stdout", 0, b"hello and more")

    collector.collect(REQUEST, PROVIDER, ended((5, 0), (digest_of(b"hello"), Digest(""))))
    await until(lambda: told, bool)

    assert told[0].failed == ""
    await collector.close()


async def test_a_log_whose_beginning_came_before_a_restart_is_read_again(
    collector: Collector, tmp_path: Path, told: list[Any]
) -> None:
    arrives(collector, "stdout", 0, b"hel")
    await collector.close()
    again = collecting(tmp_path, told)
    arrives(again, "stdout", 3, b"lo")

    again.collect(REQUEST, PROVIDER, ended((5, 0), (digest_of(b"hello"), Digest(""))))
    await until(lambda: told, bool)

    assert told[0].failed == ""
    await again.close()
