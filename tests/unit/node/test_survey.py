"""What a starting node reads of its history: what is not over, and how providers have done lately."""

from __future__ import annotations

import pytest

from dms.node import survey as surveying
from dms.node.survey import newest, survey
from dms_actors.events import to_row
from dms_actors.letters import AttemptNoted
from dms_actors.testing.event_log import MemoryEventLog
from dms_proto.ids import AllocationId, PeerId
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.membership.machine import Inherit, PeerSucceeded
from dms_proto.reputation import Kind, Record
from dms_proto.work import Ending, EndReason

GOOD, BAD = PeerId("good"), PeerId("bad")


async def history(*attempts: tuple[PeerId, EndReason]) -> MemoryEventLog:
    log = MemoryEventLog()
    for provider, reason in attempts:
        event = AttemptEnded(0, provider, AllocationId("a"), Ending(reason), final=False, source="there")
        await log.append([to_row("r-1", event, "test")])
    return log


async def test_the_newest_are_given_oldest_first_whatever_the_page() -> None:
    log = await history(*((PeerId(str(number)), EndReason.COMPLETED) for number in range(7)))
    for page in (1, 2, 3, 7, 100):
        assert [row.seq for row in await newest(log, "AttemptEnded", 3, page=page)] == [5, 6, 7]
        assert len(await newest(log, "AttemptEnded", 100, page=page)) == 7
    assert await newest(log, "RequestOpened", 3) == ()


async def test_a_provider_s_record_is_its_newest_attempts_not_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "EVIDENCE_EVENTS", 3)
    lost, done = EndReason.PROVIDER_LOST, EndReason.COMPLETED
    log = await history((BAD, done), (BAD, done), (GOOD, done), (BAD, lost), (BAD, EndReason.EXIT_NONZERO))

    notes = (await survey(log)).notes

    seen = [(note.provider, note.source, note.kind) for note in notes if isinstance(note, AttemptNoted)]
    assert seen == [(GOOD, "there", Kind.KEPT), (BAD, "there", Kind.FAULT), (BAD, "there", Kind.KEPT)]


async def test_a_provider_s_record_goes_to_its_new_name_and_is_counted_once() -> None:
    new = PeerId("new")
    log = await history((GOOD, EndReason.COMPLETED), (BAD, EndReason.COMPLETED))
    await log.append([to_row("peers", PeerSucceeded(GOOD, new, at=0), "test")])
    await log.append(
        [to_row("r-1", AttemptEnded(0, new, AllocationId("a"), Ending(EndReason.COMPLETED), final=False), "t")]
    )
    await log.append([to_row("peers", PeerSucceeded(PeerId("never met"), new, at=0), "test")])

    record = Record()
    for note in (await survey(log)).notes:
        if isinstance(note, Inherit):
            record.inherit(note.old, note.new)
        else:
            record.note(*note)

    assert {peer: evidence.counts for peer, evidence in record.all().items()} == {
        BAD: {Kind.KEPT: 1},
        new: {Kind.KEPT: 2},
    }
