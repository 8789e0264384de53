"""Read model of the accounts: every entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dms.node.projecting.requester import Handler
from dms.node.projecting.tables import ENTRIES, pack
from dms.store.projections import Rows
from dms.store.tables import Change, Scalar, Upsert
from dms_actors.ports import StoredEvent
from dms_proto.accounts.machine import DisputeSettled, IouGiven, IouKept, PaymentBooked, Posted
from dms_proto.ids import PeerId
from dms_proto.machine import Event


def _entry(
    _me: PeerId, _rows: Rows, row: StoredEvent, event: Posted | PaymentBooked | IouKept | IouGiven | DisputeSettled
) -> Iterator[Change]:
    entry = event.entry
    values: dict[str, Scalar] = {"seq": row.seq, "at": row.at, "entry": pack(entry)}
    yield Upsert(ENTRIES.name, (entry.peer, entry.why.value, entry.about), values)


HANDLERS: Final[dict[type[Event], Handler]] = dict.fromkeys(
    (Posted, PaymentBooked, IouKept, IouGiven, DisputeSettled), _entry
)
