"""Read models: tables that follow the events and hold nothing that is not in them.

A `Projection` declares tables and says what each event changes in them. The `ProjectionRunner` applies events in order, a chunk per
transaction together with the checkpoint (the seq up to which it followed), so a crash repeats nothing and skips nothing. Reading catches up
first: who has seen an append's answer finds it in the tables. Appending pays nothing for them.

A projection whose tables or `version` differ from what the file has is dropped and rebuilt when the runner starts; one that is no longer
declared is dropped. Either can be done at any time without loss.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dms.store.events import EventStore
from dms.store.migrations import Checkpoint, nowhere
from dms.store.tables import Change, Condition, Delete, Scalar, Table, drop_statement
from dms_actors.ports import StoredEvent
from dms_proto.errors import MachineError, UserError

POINTS: Final = (
    "project_before_begin",
    "project_after_begin",
    "project_after_apply",
    "project_before_commit",
    "project_after_commit",
)
"""Every place in following that a crash can fall between, in order."""


Row = dict[str, Scalar]


class Rows:
    """The tables as they are while events are applied, the changes of earlier events included. `Projection.apply` reads them.

    Rows are read from the file once and written to it once for all the events of a chunk: a job's row changes a dozen times within a second.
    """

    def __init__(self, connection: sqlite3.Connection, tables: Mapping[str, Table]) -> None:
        self._connection = connection
        self._tables = tables
        self._getters = {name: table.get() for name, table in tables.items()}
        self._rows: dict[tuple[str, tuple[Scalar, ...]], Row | None] = {}
        self._changed: set[tuple[str, tuple[Scalar, ...]]] = set()

    def get(self, table: str, key: tuple[Scalar, ...]) -> Row | None:
        """One row by its key, or None."""
        row = self._read(table, key)
        return None if row is None else dict(row)

    def change(self, change: Change) -> None:
        """Makes a change; it is in the file after `write`."""
        at = change.table, change.key
        self._changed.add(at)
        if isinstance(change, Delete):
            self._rows[at] = None
            return
        row = self._read(*at)
        if row is None:
            declared = self._tables[change.table]
            row = self._rows[at] = declared.blank(change.key)
        row.update(change.values)

    def write(self) -> None:
        """Writes all changes."""
        for name, table in self._tables.items():
            changed = [(at[1], self._rows[at]) for at in self._changed if at[0] == name]
            gone = [key for key, row in changed if row is None]
            kept = [tuple(row.values()) for _, row in changed if row is not None]
            if gone:
                self._connection.executemany(table.delete(), gone)
            if kept:
                self._connection.executemany(table.put(), kept)
        self._changed.clear()

    def _read(self, table: str, key: tuple[Scalar, ...]) -> Row | None:
        at = table, key
        if at not in self._rows:
            found = self._connection.execute(self._getters[table], key).fetchone()
            self._rows[at] = None if found is None else self._tables[table].row(found)
        return self._rows[at]


Apply = Callable[[Rows, StoredEvent], Iterable[Change]]
"""What an event changes; decides from the event and the rows alone, so that a rebuild gives the same."""


class Projection(NamedTuple):
    """One read model.

    Attributes:
        name: unique.
        version: raise it when `apply` changes its meaning: the tables are then rebuilt.
        tables: which it owns.
        kinds: of the events it is given; empty for all.
        apply: what each changes.
    """

    name: str
    version: int
    tables: tuple[Table, ...]
    kinds: frozenset[str]
    apply: Apply

    @property
    def fingerprint(self) -> str:
        """Differs whenever the tables in the file can not be gone on with."""
        ddl = [statement for table in self.tables for statement in table.ddl()]
        return hashlib.sha256(json.dumps([self.version, sorted(self.kinds), ddl]).encode()).hexdigest()


class ProjectionRunner:
    """Keeps read models up with one store. On the event loop; its work runs on the writer's thread, between appends.

    Args:
        store: open, and outliving this.
        projections: all there are.
        checkpoint: called at each of `POINTS`; for crash tests.

    Raises:
        ValueError: two projections, or two tables, have one name.
    """

    def __init__(
        self, store: EventStore, projections: Sequence[Projection], *, checkpoint: Checkpoint = nowhere
    ) -> None:
        self._store = store
        self._projections = {projection.name: projection for projection in projections}
        self._tables = {table.name: table for projection in projections for table in projection.tables}
        declared = sum(len(projection.tables) for projection in projections)
        if len(self._projections) != len(projections) or len(self._tables) != declared:
            raise ValueError("two projections, or two tables, have the same name")
        self._checkpoint = checkpoint
        self._followed: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._made_anew = 0

    async def start(self) -> None:
        """Brings the tables in the file in line with the declarations; what changed is dropped, to be rebuilt by the next `catch_up`.

        Raises:
            MachineError: `disk_full`, `store_failed`, `store_corrupt`.
        """
        async with self._turn:
            self._followed = await self._store.transact(self._align)

    async def catch_up(self) -> None:
        """Follows all projections to the events committed now.

        Raises:
            MachineError: `disk_full`, `store_failed`, `store_corrupt`; the tables stay at an earlier, consistent point.
        """
        head = self._store.head().seq
        if all(self._followed.get(name, -1) >= head for name in self._projections):
            return
        async with self._turn:
            for projection in self._projections.values():
                await self._follow(projection, head)

    async def rebuild(self, name: str) -> None:
        """Drops a projection's tables and makes them anew from the events.

        Raises:
            UserError: `not_found`: no projection has this name.
            MachineError: as `catch_up`.
        """
        projection = self._projection(name)
        async with self._turn:
            await self._create(projection)
        await self.catch_up()

    async def differs(self, name: str) -> bool:
        """Makes a projection anew, and says whether its tables held anything else before: they should not.

        Raises:
            UserError: `not_found`: no projection has this name.
            MachineError: as `catch_up`.
        """
        projection = self._projection(name)
        async with self._turn:
            head = self._store.head().seq
            await self._follow(projection, head)
            before = await self._store.transact(lambda connection: _digest(connection, projection))
            await self._create(projection)
            await self._follow(projection, head)
            return before != await self._store.transact(lambda connection: _digest(connection, projection))

    async def query(
        self,
        table: str,
        where: Mapping[str, Condition] | None = None,
        *,
        order: Sequence[str] = (),
        limit: int = 1000,
        as_they_are: bool = False,
    ) -> list[dict[str, Scalar]]:
        """Rows of a table, as of now.

        Args:
            table: its name.
            where: per column the value it must have, or a collection of which it must have one.
            order: columns to sort by, a leading ``-`` for descending.
            limit: rows at most.
            as_they_are: with a full disk, the rows as they were when it filled up rather than none: to be looked at, not to decide by.

        Raises:
            UserError: `bad_argument`: no such table or column, or a limit out of range.
            MachineError: as `catch_up`.
        """
        declared = self._table(table)
        sql, values = declared.select(where or {}, order, limit)
        return [declared.row(row) for row in await self._read(sql, values, as_they_are=as_they_are)]

    async def count(
        self, table: str, where: Mapping[str, Condition] | None = None, *, as_they_are: bool = False
    ) -> int:
        """How many rows of a table fulfil `where`; arguments and errors as `query`."""
        sql, values = self._table(table).count(where or {})
        ((found,),) = await self._read(sql, values, as_they_are=as_they_are)
        return int(found)

    async def _read(self, sql: str, values: Sequence[Scalar], *, as_they_are: bool) -> list[Any]:
        """Rows as of now, or, without room to follow and `as_they_are`, of before.

        Read again where a table was empty meanwhile, since it was being made anew.
        """
        while True:
            try:
                await self.catch_up()
            except MachineError as error:
                if not as_they_are or error.code != "disk_full":
                    raise
            before = self._made_anew
            rows = await self._store.reading.run(lambda connection: connection.execute(sql, values).fetchall())
            if before == self._made_anew:
                return rows

    def _projection(self, name: str) -> Projection:
        projection = self._projections.get(name)
        if projection is None:
            raise UserError(
                "not_found", f"there is no projection {name!r}; there are {', '.join(sorted(self._projections))}"
            )
        return projection

    def _table(self, name: str) -> Table:
        declared = self._tables.get(name)
        if declared is None:
            raise UserError("bad_argument", f"there is no table {name!r}; there are {', '.join(sorted(self._tables))}")
        return declared

    async def _follow(self, projection: Projection, head: int) -> None:
        while (after := await self._position(projection)) < head:
            events = await self._store.chunk(after, head)
            self._checkpoint("project_before_begin")
            # Unknown until it is answered: a caller that is cancelled leaves the transaction to be made without it.
            del self._followed[projection.name]
            await self._store.transact(lambda connection, events=events: self._advance(connection, projection, events))  # type: ignore[misc]
            self._checkpoint("project_after_commit")
            self._followed[projection.name] = events[-1].seq

    async def _create(self, projection: Projection) -> None:
        self._made_anew += 1
        self._followed.pop(projection.name, None)
        await self._store.transact(lambda connection: _create(connection, projection))
        self._followed[projection.name] = 0

    async def _position(self, projection: Projection) -> int:
        """How far a projection has followed; asked of the file, behind whatever is still to be written, when nobody waited for the last answer."""
        known = self._followed.get(projection.name)
        if known is None:
            known = await self._store.transact(lambda connection: _seq(connection, projection))
            self._followed[projection.name] = known
        return known

    # Below: on the writer's thread, inside a transaction.

    def _align(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Drops what is not as declared, and gives how far each projection has followed."""
        followed: dict[str, int] = {}
        for name, fingerprint, tables, seq in connection.execute("SELECT * FROM projections").fetchall():
            declared = self._projections.get(name)
            if declared is not None and declared.fingerprint == fingerprint:
                followed[name] = seq
                continue
            _drop(connection, json.loads(tables))
            connection.execute("DELETE FROM projections WHERE name = ?", (name,))
        for projection in self._projections.values():
            if projection.name not in followed:
                _create(connection, projection)
                followed[projection.name] = 0
        return followed

    def _advance(self, connection: sqlite3.Connection, projection: Projection, events: Sequence[StoredEvent]) -> None:
        self._checkpoint("project_after_begin")
        tables = {table.name: table for table in projection.tables}
        rows = Rows(connection, tables)
        for event in events:
            if not projection.kinds or event.kind in projection.kinds:
                for change in projection.apply(rows, event):
                    rows.change(change)
        rows.write()
        self._checkpoint("project_after_apply")
        connection.execute("UPDATE projections SET seq = ? WHERE name = ?", (events[-1].seq, projection.name))
        self._checkpoint("project_before_commit")


def _create(connection: sqlite3.Connection, projection: Projection) -> None:
    """Makes a projection's tables, empty, dropping those there are."""
    names = [table.name for table in projection.tables]
    _drop(connection, names)
    for table in projection.tables:
        for statement in table.ddl():
            connection.execute(statement)
    connection.execute(
        "INSERT OR REPLACE INTO projections VALUES (?, ?, ?, 0)",
        (projection.name, projection.fingerprint, json.dumps(names)),
    )


def _seq(connection: sqlite3.Connection, projection: Projection) -> int:
    found = connection.execute("SELECT seq FROM projections WHERE name = ?", (projection.name,)).fetchone()
    assert found is not None, "start() comes first"
    return int(found[0])


def _digest(connection: sqlite3.Connection, projection: Projection) -> bytes:
    hasher = hashlib.sha256()
    for table in projection.tables:
        for row in connection.execute(table.everything()):
            hasher.update(repr(row).encode())
    return hasher.digest()


def _drop(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    for table in tables:
        connection.execute(drop_statement(table))
