"""Read model of the peers: what was last heard of each. Who is connected now is in the membership, not here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dms.node.projecting.requester import Handler
from dms.node.projecting.tables import PEERS, change_row, pack
from dms.store.projections import Rows
from dms.store.tables import Change, Delete, Upsert
from dms_actors.ports import StoredEvent
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.membership.machine import (
    PeerForgotten,
    PeerGreeted,
    PeerLeft,
    PeerMet,
    PeerRefused,
    PeerSucceeded,
)


def _met(_me: PeerId, rows: Rows, _row: StoredEvent, event: PeerMet) -> Iterator[Change]:
    values: dict[str, Any] = {"seen_at": event.at}
    if rows.get(PEERS.name, (event.peer,)) is None:
        values |= {"state": "met", "detail": "", "met_at": event.at, "addresses": pack(event.addresses)}
    elif event.addresses:
        values["addresses"] = pack(event.addresses)
    yield Upsert(PEERS.name, (event.peer,), values)


def _greeted(_me: PeerId, _rows: Rows, _row: StoredEvent, event: PeerGreeted) -> Iterator[Change]:
    hello = event.hello
    yield Upsert(
        PEERS.name,
        (event.peer,),
        {
            "name": hello.name,
            "software": hello.software,
            "uuid": hello.uuid,
            "state": "greeted",
            "detail": "",
            "seen_at": event.at,
            "clock_offset_ms": event.clock_offset_ms,
            "accepts_work": int(hello.accepts_work),
            "protocol": hello.version,
            "summary": pack(hello.summary),
        },
    )


def _refused(_me: PeerId, _rows: Rows, row: StoredEvent, event: PeerRefused) -> Iterator[Change]:
    yield Upsert(PEERS.name, (event.peer,), {"state": "refused", "detail": event.why, "seen_at": row.at})


def _left(_me: PeerId, rows: Rows, _row: StoredEvent, event: PeerLeft) -> Iterator[Change]:
    yield from change_row(rows, PEERS, (event.peer,), state="met", detail=event.reason, seen_at=event.at)


def _succeeded(_me: PeerId, rows: Rows, _row: StoredEvent, event: PeerSucceeded) -> Iterator[Change]:
    before = rows.get(PEERS.name, (event.old,))
    if before is not None:
        yield Delete(PEERS.name, (event.old,))
        yield from change_row(rows, PEERS, (event.new,), met_at=before["met_at"])


def _forgotten(_me: PeerId, _rows: Rows, _row: StoredEvent, event: PeerForgotten) -> Iterator[Change]:
    yield Delete(PEERS.name, (event.peer,))


HANDLERS: Final[dict[type[Event], Handler]] = {
    PeerMet: _met,
    PeerGreeted: _greeted,
    PeerRefused: _refused,
    PeerLeft: _left,
    PeerSucceeded: _succeeded,
    PeerForgotten: _forgotten,
}
