"""Events as rows: how a machine's facts are written into the log and read back. The kind in the row is the name of the event's class."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

import msgspec

from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.accounts import machine as accounts
from dms_proto.allocation import events as allocation_events
from dms_proto.allocation import freezing, resizing, tunnels
from dms_proto.errors import InternalError, MachineError
from dms_proto.grants import trust
from dms_proto.machine import Event, Transient
from dms_proto.market import answers, auction_events, offer_state, owner, proofs
from dms_proto.membership import machine as membership
from dms_proto.pool import routes, services
from dms_proto.pool import state as pool
from dms_proto.tabs import kept, used

MACHINES: Final[tuple[ModuleType, ...]] = (
    auction_events,
    offer_state,
    allocation_events,
    freezing,
    tunnels,
    resizing,
    membership,
    owner,
    answers,
    accounts,
    trust,
    proofs,
    pool,
    services,
    routes,
    kept,
    used,
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
_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {}


def to_row(stream: str, event: Event, cause_id: str) -> NewEvent:
    """An event as it is written down.

    Raises:
        InternalError: `internal`: it could not be read again. One such event in the log, and its node would not start any more.
    """
    kind, body = type(event).__name__, _ENCODER.encode(event)
    try:
        _decoder(kind).decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise InternalError("internal", f"{kind} breaks a rule and is not written down: {error}") from error
    return NewEvent(stream, kind, cause_id, body)


def from_row(row: StoredEvent) -> Event:
    """An event as it was written down.

    Raises:
        MachineError: `store_newer` for a kind this version does not know, `store_corrupt` for a body that does not decode.
    """
    if row.kind not in EVENT_KINDS:
        raise MachineError(
            "store_newer", f"event {row.seq} has the unknown kind {row.kind!r}; was it written by a newer dms?"
        )
    try:
        event: Event = _decoder(row.kind).decode(row.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise MachineError("store_corrupt", f"event {row.seq} ({row.kind}) cannot be read: {error}") from error
    return event


def _decoder(kind: str) -> msgspec.msgpack.Decoder[Any]:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(EVENT_KINDS[kind])
    return decoder


def is_stored(event: Event) -> bool:
    """Whether an event goes into the log."""
    return not isinstance(event, Transient)
