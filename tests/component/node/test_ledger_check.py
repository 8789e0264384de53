"""The accounts against what was signed: right as real nodes write them, and every entry that does not follow is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from dms.node.api import LocalApi
from dms.node.commands import main
from dms.node.ledger_check import Finding, LedgerWalk
from dms.rpc.api.accounts import DepositParams, SettleParams
from dms.testing.market import peer_of, until
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.accounts.iou import signed
from dms_proto.accounts.machine import IouGiven, IouKept, Posted
from dms_proto.ids import MessageId, PeerId
from dms_proto.market.proofs import FrameKept
from dms_proto.messages import AllocationStatus, Receipt
from dms_proto.wire import Envelope, Signer, read_frame, seal

from .conftest import Local, spec
from .test_api_accounts import START, account_of, answered, priced

THIEF = Signer(b"\x09" * 32)


async def traded(local: Local) -> tuple[PeerId, PeerId]:
    """Both nodes with a job, a payment and an IOU between them; gives provider and requester."""
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    await local.run(spec("print", "x"))
    await answered(local, me, START)
    await local.api.account_deposit(DepositParams(provider, -100))
    await local.api.account_settle(SettleParams(provider))
    await until(lambda: account_of(local, 1, me), lambda view: view is not None and view.received is not None)
    return provider, me


async def rows_of(local: Local, index: int) -> list[StoredEvent]:
    services = local.market.nodes[index].services
    await services.written()
    return [row async for row in services.store.read_all()]


def checked(me: PeerId, rows: list[StoredEvent]) -> tuple[Finding, ...]:
    walk = LedgerWalk(me)
    for row in rows:
        walk.feed(row)
    return walk.finish().findings


def body(row: StoredEvent, event: object) -> StoredEvent:
    return msgspec.structs.replace(row, body=msgspec.msgpack.encode(event))


def cheaper(row: StoredEvent) -> StoredEvent:
    """An entry over less, or an IOU over less than was signed."""
    event = from_row(row)
    if isinstance(event, IouKept | IouGiven):
        return body(row, msgspec.structs.replace(event, iou=msgspec.structs.replace(event.iou, amount=1)))
    assert isinstance(event, Posted)
    moves = tuple(msgspec.structs.replace(move, amount=move.amount - 1) for move in event.entry.transfers)
    return body(row, msgspec.structs.replace(event, entry=msgspec.structs.replace(event.entry, transfers=moves)))


def by_a_thief(row: StoredEvent) -> StoredEvent:
    """The same words under another signature."""
    event = from_row(row)
    if isinstance(event, IouKept):
        forged = signed(THIEF, event.iou.creditor, event.iou.number, event.iou.amount)
        forged = msgspec.structs.replace(forged, debtor=event.iou.debtor)
        return body(row, msgspec.structs.replace(event, iou=forged))
    assert isinstance(event, FrameKept)
    opened = read_frame(event.frame)
    assert isinstance(opened, Envelope)
    frame = seal(THIEF, opened.message, id=MessageId(bytes(16)), sent=opened.sent_ms, ttl_ms=1_000, to=opened.to)
    return body(row, msgspec.structs.replace(event, frame=frame))


def flipped(row: StoredEvent) -> StoredEvent:
    event = from_row(row)
    assert isinstance(event, FrameKept)
    frame = bytes([*event.frame[:-40], event.frame[-40] ^ 1, *event.frame[-39:]])
    return body(row, msgspec.structs.replace(event, frame=frame))


def gone(_row: StoredEvent) -> None:
    return None


def is_frame(row: StoredEvent, kind: type) -> bool:
    event = from_row(row)
    opened = read_frame(event.frame) if isinstance(event, FrameKept) else None
    return isinstance(opened, Envelope) and isinstance(opened.message, kind)


def is_entry(row: StoredEvent, why: str) -> bool:
    event = from_row(row)
    return isinstance(event, Posted | IouKept | IouGiven) and event.entry.why == why


CASES: dict[str, tuple[int, Callable[[StoredEvent], bool], Callable[[StoredEvent], StoredEvent | None], str]] = {
    "a claim over less": (1, lambda row: is_entry(row, "claim"), cheaper, "claim: its transfers should be"),
    "a receipt over less": (1, lambda row: is_entry(row, "receipt"), cheaper, "receipt: its transfers should be"),
    "a charge over less": (0, lambda row: is_entry(row, "charge"), cheaper, "charge: its transfers should be"),
    "no claim": (1, lambda row: is_entry(row, "claim"), gone, "claim: it ended with a price"),
    "no receipt": (1, lambda row: is_entry(row, "receipt"), gone, "receipt: it has its receipt"),
    "no charge": (0, lambda row: is_entry(row, "charge"), gone, "charge: a price was accepted"),
    "no signed receipt": (1, lambda row: is_frame(row, Receipt), gone, "no receipt that the peer has signed"),
    "no signed status": (0, lambda row: is_frame(row, AllocationStatus), gone, "no status that the peer has signed"),
    "a receipt by somebody else": (
        1,
        lambda row: is_frame(row, Receipt),
        by_a_thief,
        "no receipt that the peer has signed",
    ),
    "a status by somebody else": (
        0,
        lambda row: is_frame(row, AllocationStatus),
        by_a_thief,
        "no status that the peer has signed",
    ),
    "a flipped bit in what was signed": (
        1,
        lambda row: is_frame(row, Receipt),
        flipped,
        "a signed frame is not what was",
    ),
    "an IOU over less": (1, lambda row: is_entry(row, "iou_received"), cheaper, "the IOU is not signed by its debtor"),
    "an IOU by somebody else": (
        1,
        lambda row: is_entry(row, "iou_received"),
        by_a_thief,
        "the IOU is not signed by its debtor",
    ),
    "our IOU over less": (0, lambda row: is_entry(row, "iou_given"), cheaper, "the IOU is not signed by its debtor"),
    "an entry for nothing": (
        1,
        lambda row: row.kind == "AllocationEnded",
        gone,
        "claim: no allocation of that id ended",
    ),
}


async def test_the_accounts_of_real_nodes_are_right_and_whatever_was_changed_in_them_is_named(local: Local) -> None:
    provider, me = await traded(local)
    rows, names = [await rows_of(local, index) for index in (0, 1)], (me, provider)
    for index in (0, 1):
        report = await local.apis[index].account_verify()
        assert (report.findings, report.chain, report.is_right) == ((), "", True)
        assert report.entries == len(
            [row for row in rows[index] if row.kind in ("Posted", "PaymentBooked", "IouKept", "IouGiven")]
        )
    for case, (index, is_meant, change, wanted) in CASES.items():
        meant = [row for row in rows[index] if is_meant(row)]
        assert meant, case
        changed = [change(row) if row is meant[0] else row for row in rows[index]]
        findings = checked(names[index], [row for row in changed if row is not None])
        assert any(wanted in finding.what for finding in findings), (case, findings)


async def test_an_entry_that_comes_twice_and_one_that_cannot_be_read_are_named(local: Local) -> None:
    provider, _ = await traded(local)
    rows = await rows_of(local, 1)
    posted = next(row for row in rows if row.kind == "Posted")

    (twice,) = checked(provider, [*rows, msgspec.structs.replace(posted, seq=len(rows) + 1)])
    unread = checked(provider, [msgspec.structs.replace(row, body=b"\xc1") if row is posted else row for row in rows])

    assert (twice.seq, "is booked twice" in twice.what) == (len(rows) + 1, True)
    assert any(finding.seq == posted.seq and "cannot be read" in finding.what for finding in unread)


async def test_without_a_node_its_home_is_enough(local: Local, capsys: pytest.CaptureFixture[str]) -> None:
    await traded(local)
    home = local.market.nodes[1].services.home
    await local.apis[1].close()
    await local.market.nodes[1].stop()

    code = await asyncio.to_thread(main, ["verify-accounts", "--home", str(home.root), "--json"])

    assert (code, '"findings":[]' in capsys.readouterr().out) == (0, True)
    local.apis[1] = await LocalApi.start((await local.market.start(1)).services)
