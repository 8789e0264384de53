"""Events as rows: how a machine's facts are written into the log and read back. The kind in the row is the name of the event's class."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

import msgspec

from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.accounts import machine as accounts
from dms_proto.allocation import machine as allocation
from dms_proto.errors import MachineError
from dms_proto.grants import trust
from dms_proto.machine import Event, Transient
from dms_proto.market import auction_state, offer_state, owner, proofs
from dms_proto.membership import machine as membership

MACHINES: Final[tuple[ModuleType, ...]] = (
    auction_state,
    offer_state,
    allocation,
    membership,
    owner,
    accounts,
    trust,
    proofs,
)


def _kinds(modules: Iterable[ModuleType]) -> dict[str, type[Event]]:
    kinds: dict[str, type[Event]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Event) and value.__module__ == module.__name__:
                assert name not in kinds, f"two machines have an event {name}"
                kinds[name] = value
    return kinds


EVENT_KINDS: Final = _kinds(MACHINES)
"""Every event of every machine by its kind; transient ones included, though they are never in the log."""

_ENCODER: Final = msgspec.msgpack.Encoder()
"""Fields in the order of their declaration, mappings in that of their making: as deterministic as the machines are."""
_DECODERS: Final[dict[str, Any]] = {}


def to_row(stream: str, event: Event, cause_id: str) -> NewEvent:
    """An event as it is written down."""
    return NewEvent(stream, type(event).__name__, cause_id, _ENCODER.encode(event))


def from_row(row: StoredEvent) -> Event:
    """An event as it was written down.

    Raises:
        MachineError: `store_newer` for a kind this version does not know, `store_corrupt` for a body that does not decode.
    """
    kind = EVENT_KINDS.get(row.kind)
    if kind is None:
        raise MachineError(
            "store_newer", f"event {row.seq} has the unknown kind {row.kind!r}; was it written by a newer dms?"
        )
    decoder = _DECODERS.get(row.kind)
    if decoder is None:
        decoder = _DECODERS[row.kind] = msgspec.msgpack.Decoder(kind)
    try:
        event: Event = decoder.decode(row.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise MachineError("store_corrupt", f"event {row.seq} ({row.kind}) cannot be read: {error}") from error
    return event


def is_stored(event: Event) -> bool:
    """Whether an event goes into the log."""
    return not isinstance(event, Transient)
