"""The tables of the read models, and small helpers to change them. What is not asked for by column is msgpack in a BLOB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from dms.store.projections import Rows
from dms.store.tables import Change, Column, Scalar, Table, Upsert

T = TypeVar("T")
Kind = Literal["TEXT", "INTEGER", "BLOB"]


def _columns(kind: Kind, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names.split())


JOBS: Final = Table(
    "jobs",
    (
        *_columns("TEXT", "request_id name phase reason detail"),
        *_columns("INTEGER", "open count verified submitted_at ended_at price held running done"),
        *_columns("BLOB", "pieces terms"),
    ),
    ("request_id",),
    (("submitted_at",), ("open", "submitted_at"), ("reason",)),
)
"""This node's own jobs. `open` 1 until the end; `held`: slots that have a provider; `running`, `done`: slots. Where results are checked
(`verified`), `done` counts pieces of work that were judged, and `pieces` says of which each slot is a copy."""

ALLOCATIONS: Final = Table(
    "allocations",
    (
        *_columns("TEXT", "allocation_id request_id bid_id provider requester asked_phase run_phase disputed"),
        *_columns(
            "INTEGER", "slot piece requested provided open open_there open_here opened_at started_at ended_at price"
        ),
        *_columns("INTEGER", "log_out log_err"),
        *_columns("BLOB", "task ending outputs"),
    ),
    ("allocation_id",),
    (("opened_at",), ("open", "opened_at"), ("requested", "open"), ("provided", "open"), ("run_phase",)),
)
"""Allocations on either side. `requested`, `provided`: this node's part; `open_there` as the requester sees it, `open_here` as the provider."""

BIDS: Final = Table(
    "bids",
    (
        *_columns("TEXT", "bid_id request_id provider requester state reason"),
        *_columns("INTEGER", "sent received at valid_until"),
        *_columns("BLOB", "bid awarded"),
    ),
    ("bid_id",),
    (("request_id", "at"), ("sent", "at"), ("received", "at"), ("state", "valid_until"), ("at",)),
)
"""Bids made and received. `awarded`: the slots it was taken for."""

REQUESTS: Final = Table(
    "requests",
    (
        *_columns("TEXT", "request_id direction requester answer outcome"),
        *_columns("INTEGER", "at round count max_price"),
        *_columns("BLOB", "needs clauses"),
    ),
    ("request_id", "direction"),
    (("direction", "at"), ("at",)),
)
"""Bid requests sent and heard."""

TOTALS: Final = Table("totals", (*_columns("TEXT", "name"), *_columns("INTEGER", "value")), ("name",))
"""Running sums: heard, bids, declines, won, earned, jobs_done, jobs_failed, spent."""

TRUST: Final = Table(
    "trust", (*_columns("TEXT", "provider"), *_columns("INTEGER", "successes failures")), ("provider",)
)
"""How the allocations of each provider went for this node."""

PEERS: Final = Table(
    "peers",
    (
        *_columns("TEXT", "peer name software state detail uuid"),
        *_columns("INTEGER", "met_at seen_at clock_offset_ms accepts_work protocol"),
        *_columns("BLOB", "addresses summary"),
    ),
    ("peer",),
    (("state",), ("seen_at",)),
)
"""Peers as they were last heard of. `state`: met, greeted, refused."""

ENTRIES: Final = Table(
    "entries",
    (
        *_columns("TEXT", "peer why about"),
        *_columns("INTEGER", "seq at"),
        *_columns("BLOB", "entry"),
    ),
    ("peer", "why", "about"),
    (("peer", "seq"), ("seq",)),
)
"""Entries of the accounts."""

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


def pack(value: object) -> bytes:
    """A value for a BLOB; equal values give equal bytes."""
    return _ENCODER.encode(value)


def unpack(data: Scalar, kind: type[T] | Any) -> Any:
    """A value from a BLOB that `pack` made."""
    assert isinstance(data, bytes)
    return msgspec.msgpack.decode(data, type=kind)


def number(row: Mapping[str, Scalar], column: str) -> int:
    """An integer column; NULL is 0."""
    value = row[column]
    assert value is None or isinstance(value, int)
    return value or 0


def text(row: Mapping[str, Scalar], column: str) -> str:
    """A text column; NULL is empty."""
    value = row[column]
    assert value is None or isinstance(value, str)
    return value or ""


def change_row(rows: Rows, table: Table, key: tuple[Scalar, ...], **values: Scalar) -> Iterator[Change]:
    """Changes columns of a row that exists; of one that does not, nothing."""
    if rows.get(table.name, key) is not None:
        yield Upsert(table.name, key, values)


def add_to(rows: Rows, table: Table, key: tuple[Scalar, ...], **amounts: int) -> Iterator[Change]:
    """Adds to integer columns of a row that exists."""
    row = rows.get(table.name, key)
    if row is not None:
        yield Upsert(table.name, key, {name: number(row, name) + by for name, by in amounts.items()})


def add_total(rows: Rows, name: str, by: int = 1) -> Iterator[Change]:
    """Adds to a running sum."""
    row = rows.get(TOTALS.name, (name,))
    yield Upsert(TOTALS.name, (name,), {"value": by + (number(row, "value") if row is not None else 0)})
