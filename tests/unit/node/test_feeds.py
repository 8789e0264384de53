"""A job's record: positions, resuming, order of logs and events; with real events and log files, without a node."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.node import feeds
from dms.node.doings import Doings
from dms.node.feeds import JobRecord
from dms.node.logs import LogStore
from dms.node.story import JobStory
from dms.rpc.api.jobs import AnyJobUpdate, JobEnded, JobLog, SlotProgress
from dms_actors.events import to_row
from dms_actors.ports import StoredEvent
from dms_proto.capability import Capability, Price
from dms_proto.ids import AllocationId, PeerId, allocation_id, bid_id, peer_id_of, request_id
from dms_proto.machine import Event
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AttemptEnded,
    AwardMade,
    BidReceived,
    CommitConfirmed,
    CommitFailed,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
)
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts, Candidate
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import decide
from dms_proto.messages import Bid, BidRequest, Phase
from dms_proto.work import Ending, EndReason, Task

JOB = request_id(b"0123456789abcdef")
ALPHA, BETA = peer_id_of(b"\x01" * 32), peer_id_of(b"\x02" * 32)
BASE = 1000


def bid(provider: PeerId) -> Bid:
    return Bid(JOB, 0, 0, bid_id(JOB, provider, 0), Capability(), 1, Price(), 5, 99, 99)


def award(provider: PeerId, *slots: int) -> AwardMade:
    request = BidRequest(JOB, 0, Capability(), 1, 1, 0, 10, 0)
    decision = decide(request, [Candidate(bid(provider).bid_id, provider, Capability(), Price(), 5)], Preferences())
    return AwardMade(decision, ((bid(provider).bid_id, slots),), 99)


def opened(count: int = 1) -> RequestOpened:
    return RequestOpened(Terms(JOB, ALPHA, Task("scripted"), Capability(), count=count), 1)


def allocation(provider: PeerId, slot: int = 0) -> AllocationId:
    return allocation_id(bid(provider).bid_id, slot)


def ended(provider: PeerId, *, final: bool = True, slot: int = 0) -> AttemptEnded:
    reason = EndReason.COMPLETED if final else EndReason.PROVIDER_FAULT
    return AttemptEnded(slot, provider, allocation(provider, slot), Ending(reason, 0), final)


BEGINNING = (opened(), RequestAnnounced(0, (BETA,), False, 1, 9), BidReceived(BETA, bid(BETA), BidderFacts(), 9))
END = RequestEnded(EndReason.COMPLETED, "", 9, 0)


class Desk:
    """A record, and the two things it hears: events and logs."""

    def __init__(self, root: Path, events: Sequence[Event] = ()) -> None:
        self.logs = LogStore(root)
        self.doings = Doings()
        self.rows: list[StoredEvent] = []
        self.record = self.made(events)

    def made(self, events: Sequence[Event] = ()) -> JobRecord:
        record = JobRecord(JobStory(JOB), self.logs, self.doings, lambda: 7, BASE, lambda story: story.view())
        for row in self.rows:
            record.hear(row)
        for event in events:
            record.hear(self.row(event))
        record.open_logs()
        return record

    def row(self, event: Event) -> StoredEvent:
        new = to_row(JOB, event, "test")
        version = len(self.rows) + 1
        self.rows.append(StoredEvent(version, JOB, version, new.kind, version, "test", new.body))
        return self.rows[-1]

    def say(self, *events: Event) -> None:
        for event in events:
            self.record.hear(self.row(event))

    def write(self, data: bytes, provider: PeerId = BETA, stream: str = "stdout", slot: int = 0) -> None:
        id_ = allocation(provider, slot)
        assert self.logs.append(id_, stream, self.logs.length(id_, stream), data)

    async def all(self, since: int = 0, *, logs: bool = True) -> list[AnyJobUpdate]:
        assert self.record.is_over
        return [update async for update in self.record.follow(since, logs=logs)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, BEGINNING)
    yield desk
    desk.logs.close()


def text(updates: Sequence[AnyJobUpdate], stream: str = "stdout") -> bytes:
    return b"".join(update.data for update in updates if isinstance(update, JobLog) and update.stream == stream)


async def test_output_that_comes_before_the_acknowledgement_is_written_down_is_not_lost(desk: Desk) -> None:
    desk.say(award(BETA, 0))
    desk.write(b"early ")
    desk.say(CommitConfirmed(bid(BETA).bid_id, 5))
    desk.write(b"late")
    desk.say(ended(BETA), END)
    updates = await desk.all()
    assert text(updates) == b"early late"
    assert {update.attempt for update in updates if isinstance(update, JobLog)} == {1}
    assert isinstance(updates[-1], JobEnded)


async def test_what_a_provider_does_before_it_can_run_is_told_until_it_runs(desk: Desk) -> None:
    id_ = allocation(BETA, 0)
    desk.say(award(BETA, 0))
    desk.doings.said(id_, b"pulling its image")
    desk.say(CommitConfirmed(bid(BETA).bid_id, 5))
    desk.doings.said(id_, b"pulling its image, \x1b[2J1 of 2 MiB")
    desk.doings.said(id_, b"pulling its image, \x1b[2J1 of 2 MiB")
    desk.say(AllocationAdvanced(0, id_, Phase.RUNNING))
    desk.doings.said(id_, b"late")
    desk.say(ended(BETA), END)
    slots = [update for update in await desk.all() if isinstance(update, SlotProgress)]
    assert [(slot.phase, slot.doing) for slot in slots] == [
        (Phase.COMMITTED, "pulling its image"),
        (Phase.COMMITTED, ""),
        (Phase.COMMITTED, r"pulling its image, \x1b[2J1 of 2 MiB"),
        (Phase.RUNNING, ""),
        (Phase.ENDED, ""),
    ]


async def test_a_second_attempt_begins_its_log_again(desk: Desk) -> None:
    desk.say(award(BETA, 0), CommitConfirmed(bid(BETA).bid_id, 5))
    desk.write(b"half")
    desk.say(ended(BETA, final=False), BidReceived(ALPHA, bid(ALPHA), BidderFacts(), 9), award(ALPHA, 0))
    desk.say(CommitConfirmed(bid(ALPHA).bid_id, 8))
    desk.write(b"whole", ALPHA)
    desk.say(ended(ALPHA), END)
    logs = [update for update in await desk.all() if isinstance(update, JobLog)]
    assert [(log.attempt, log.offset, log.data) for log in logs] == [(1, 0, b"half"), (2, 0, b"whole")]


async def test_a_commit_that_failed_leaves_no_attempt(desk: Desk) -> None:
    desk.say(award(BETA, 0), CommitFailed(bid(BETA).bid_id, BETA, "silent"))
    desk.say(BidReceived(ALPHA, bid(ALPHA), BidderFacts(), 9), award(ALPHA, 0), CommitConfirmed(bid(ALPHA).bid_id, 8))
    desk.say(ended(ALPHA), END)
    slots = [update for update in await desk.all() if isinstance(update, SlotProgress)]
    assert [(slot.attempt, slot.provider, slot.phase) for slot in slots] == [
        (1, ALPHA, Phase.COMMITTED),
        (1, ALPHA, Phase.ENDED),
    ]


async def test_a_record_made_after_the_end_has_the_whole_log_before_the_attempts_end(desk: Desk) -> None:
    desk.say(award(BETA, 0), CommitConfirmed(bid(BETA).bid_id, 5))
    desk.write(b"out")
    desk.write(b"err", stream="stderr")
    desk.say(ended(BETA), END)
    live = await desk.all()
    desk.record = desk.made()
    again = await desk.all()
    assert (text(again), text(again, "stderr")) == (text(live), text(live, "stderr")) == (b"out", b"err")
    kinds = [type(update) for update in again]
    assert kinds.index(JobLog) < len(kinds) - 1 - kinds[::-1].index(SlotProgress)


async def test_an_event_heard_twice_is_told_once(desk: Desk) -> None:
    for row in tuple(desk.rows):
        desk.record.hear(row)
    desk.say(award(BETA, 0), CommitConfirmed(bid(BETA).bid_id, 5), ended(BETA), END)
    updates = await desk.all()
    assert len({update.id for update in updates}) == len(updates)
    assert len(updates) == 7  # accepted, asked, a bid, the winner, committed, ended, over


async def test_a_follower_waits_for_what_is_to_come(desk: Desk) -> None:
    follower = asyncio.create_task(_collect(desk.record))
    await asyncio.sleep(0)
    desk.say(award(BETA, 0))
    desk.write(b"x" * (feeds.CHUNK + 1))
    desk.say(CommitConfirmed(bid(BETA).bid_id, 5), ended(BETA), END)
    updates = await follower
    assert text(updates) == b"x" * (feeds.CHUNK + 1)
    assert max(len(update.data) for update in updates if isinstance(update, JobLog)) == feeds.CHUNK


async def test_a_log_that_was_removed_is_passed_over(desk: Desk) -> None:
    desk.say(award(BETA, 0), CommitConfirmed(bid(BETA).bid_id, 5))
    desk.write(b"gone")
    desk.say(ended(BETA), END)
    desk.logs.remove(allocation(BETA))
    updates = await desk.all()
    assert not text(updates)
    assert isinstance(updates[-1], JobEnded)


async def _collect(record: JobRecord) -> list[AnyJobUpdate]:
    return [update async for update in record.follow(0, logs=True)]


WRITES = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(0, 1), st.binary(min_size=1, max_size=9)), max_size=12
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(writes=WRITES, cut=st.integers(0, 200))
def test_whoever_resumes_anywhere_gets_exactly_the_rest(
    tmp_path: Path, writes: list[tuple[str, int, bytes]], cut: int
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as root:
        asyncio.run(_resume(Path(root), writes, cut))


async def _resume(root: Path, writes: list[tuple[str, int, bytes]], cut: int) -> None:
    desk = Desk(root, (opened(2), *BEGINNING[1:]))
    desk.say(award(BETA, 0, 1), CommitConfirmed(bid(BETA).bid_id, 5))
    for stream, slot, data in writes:
        desk.write(data, BETA, stream, slot)
    desk.say(ended(BETA, slot=0), ended(BETA, slot=1), END)
    whole = await desk.all()
    desk.logs.close()
    assert [update.id for update in whole] == sorted({update.id for update in whole})
    for stream in ("stdout", "stderr"):
        for slot in (0, 1):
            wanted = b"".join(data for s, i, data in writes if (s, i) == (stream, slot))
            parts = [u for u in whole if isinstance(u, JobLog) and (u.stream, u.slot) == (stream, slot)]
            assert b"".join(part.data for part in parts) == wanted
            assert [part.offset for part in parts] == [sum(len(p.data) for p in parts[:n]) for n in range(len(parts))]
    since = BASE + cut
    rest = await desk.all(since)
    assert all(update.id > since for update in rest)
    weight = sum(len(u.data) if isinstance(u, JobLog) else 1 for u in rest)
    assert weight == max(desk.record.last - since, 0)
