"""Declared tables of read models: what they hold, and the SQL that makes, fills and asks them. No SQL is written outside this file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import msgspec

from dms_proto.errors import UserError
from dms_proto.units import format_count

Scalar = str | int | float | bytes | None
Values = Mapping[str, Scalar]


class Above(msgspec.Struct, frozen=True):
    """Whatever is greater: where a page goes on."""

    value: int


Condition = Scalar | Collection[Scalar] | Above
"""A value a column must equal, a collection (not a str or bytes) of which it must be one, or what it must be above."""

MAX_ROWS: Final = 10_000
"""Largest `limit` of a query."""
MAX_ALTERNATIVES: Final = 500
"""Values for one column in a query: SQLite limits the variables of a statement."""
PREFIX: Final = "p_"
"""Of the tables in the file, so that they can never be taken for those of schema.sql."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,50}")


class Column(msgspec.Struct, frozen=True):
    """A column. Without a default, a row that does not name it holds NULL there.

    Raises:
        ValueError: `name` is not lower-case letters, digits and underscores.
    """

    name: str
    type: Literal["TEXT", "INTEGER", "REAL", "BLOB"] = "TEXT"

    def __post_init__(self) -> None:
        _check_name(self.name)


class Table(msgspec.Struct, frozen=True):
    """A table of a read model. Names are unique over all projections.

    Attributes:
        name: as given to queries.
        columns: all of them, those of the key included.
        key: names of the columns that name a row.
        indexes: groups of columns that are asked for or sorted by.

    Raises:
        ValueError: a name is malformed, or the key or an index names no column.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        unknown = {*self.key, *(name for index in self.indexes for name in index)} - self.names
        if unknown or not self.key:
            raise ValueError(f"table {self.name}: {sorted(unknown) or 'an empty key'} is no column")

    @property
    def names(self) -> frozenset[str]:
        """The names of the columns."""
        return frozenset(column.name for column in self.columns)

    def ddl(self) -> list[str]:
        """The statements that create it, empty."""
        columns = ", ".join(f'"{column.name}" {column.type}' for column in self.columns)
        create = f'CREATE TABLE "{PREFIX}{self.name}" ({columns}, PRIMARY KEY ({_list(self.key)})) WITHOUT ROWID'
        indexes = [
            f'CREATE INDEX "{PREFIX}{self.name}_{number}" ON "{PREFIX}{self.name}" ({_list(index)})'
            for number, index in enumerate(self.indexes)
        ]
        return [create, *indexes]

    def get(self) -> str:
        """The statement that reads the row of a key."""
        return f'SELECT {_list(self._ordered)} FROM "{PREFIX}{self.name}" WHERE {_equal(self.key)}'  # noqa: S608 - checked names

    def put(self) -> str:
        """The statement that writes a whole row, in place of the one with its key if there is one. Values: as `row`, in its order."""
        marks = ",".join("?" * len(self.columns))
        return f'INSERT OR REPLACE INTO "{PREFIX}{self.name}" ({_list(self._ordered)}) VALUES ({marks})'  # noqa: S608 - checked names

    def delete(self) -> str:
        """The statement that removes the row of a key."""
        return f'DELETE FROM "{PREFIX}{self.name}" WHERE {_equal(self.key)}'  # noqa: S608 - checked names

    def everything(self) -> str:
        """The statement that reads all rows, in the order of the key."""
        return f'SELECT {_list(self._ordered)} FROM "{PREFIX}{self.name}" ORDER BY {_list(self.key)}'  # noqa: S608 - checked names

    def row(self, values: Sequence[Scalar]) -> dict[str, Scalar]:
        """A row as read by `get` or `select`, by column name."""
        return dict(zip(self._ordered, values, strict=True))

    def blank(self, key: Sequence[Scalar]) -> dict[str, Scalar]:
        """A row that names its key alone."""
        return {**dict.fromkeys(self._ordered), **dict(zip(self.key, key, strict=True))}

    def select(self, where: Mapping[str, Condition], order: Sequence[str], limit: int) -> tuple[str, list[Scalar]]:
        """The statement, with its values, for the rows that fulfil `where`.

        Args:
            where: per column what it must equal or be among; an empty collection matches nothing.
            order: column names, a leading ``-`` for descending; the key is appended, so the order is total.
            limit: 1 to `MAX_ROWS`.

        Raises:
            UserError: `bad_argument`: no such column, or limit or alternatives out of range.
        """
        if not 1 <= limit <= MAX_ROWS:
            raise UserError("bad_argument", f"limit is {limit}; it must be 1 to {MAX_ROWS}")
        clauses, values = self._conditions(where)
        sort = [self._sort(name) for name in (*order, *self.key)]
        sql = f'SELECT {_list(self._ordered)} FROM "{PREFIX}{self.name}"{clauses} ORDER BY {", ".join(sort)} LIMIT ?'  # noqa: S608 - checked names
        return sql, [*values, limit]

    def count(self, where: Mapping[str, Condition]) -> tuple[str, list[Scalar]]:
        """The statement, with its values, for the number of rows that fulfil `where`; arguments and errors as `select`."""
        clauses, values = self._conditions(where)
        return f'SELECT count(*) FROM "{PREFIX}{self.name}"{clauses}', values  # noqa: S608 - checked names

    @property
    def _ordered(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def _conditions(self, where: Mapping[str, Condition]) -> tuple[str, list[Scalar]]:
        clauses: list[str] = []
        values: list[Scalar] = []
        for name, condition in where.items():
            self._check_column(name)
            if isinstance(condition, Above):
                clauses.append(f'"{name}" > ?')
                values.append(condition.value)
                continue
            if isinstance(condition, str | bytes) or not isinstance(condition, Collection):
                clauses.append(f'"{name}" IS ?')
                values.append(condition)
                continue
            if len(condition) > MAX_ALTERNATIVES:
                raise UserError(
                    "bad_argument",
                    f"{format_count(len(condition), 'value')} for {name}; at most {MAX_ALTERNATIVES} can be asked for",
                )
            clauses.append(f'"{name}" IN ({",".join("?" * len(condition))})')
            values.extend(condition)
        return (" WHERE " + " AND ".join(clauses) if clauses else ""), values

    def _sort(self, name: str) -> str:
        column = name.removeprefix("-")
        self._check_column(column)
        return f'"{column}" DESC' if name.startswith("-") else f'"{column}"'

    def _check_column(self, name: str) -> None:
        if name not in self.names:
            raise UserError("bad_argument", f"{self.name} has no column {name!r}; it has {', '.join(self._ordered)}")


class Upsert(msgspec.Struct, frozen=True):
    """Sets columns of one row, making the row if there is none; columns not named keep their values."""

    table: str
    key: tuple[Scalar, ...]
    values: dict[str, Scalar] = {}


class Delete(msgspec.Struct, frozen=True):
    """Removes one row, if there is one."""

    table: str
    key: tuple[Scalar, ...]


Change = Upsert | Delete


def drop_statement(table: str) -> str:
    """The statement that removes a table of that name, whether or not it is declared still."""
    _check_name(table)
    return f'DROP TABLE IF EXISTS "{PREFIX}{table}"'


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of lower-case letters, digits and underscores")


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _equal(names: Sequence[str]) -> str:
    return " AND ".join(f'"{name}" IS ?' for name in names)
