"""A result comparator for tables in which one column says how long something took: ``without-column:seconds``."""

from __future__ import annotations

import csv
from pathlib import Path

from dms.comparing import Result, same_files


class WithoutColumn:
    """Takes two tables for the same when all their cells are but those of one column. What is printed counts as well."""

    def __init__(self, column: str) -> None:
        if not column:
            raise ValueError("say which column: without-column:seconds")
        self._column = column

    def same(self, left: Result, right: Result) -> bool:
        """Whether two results are the same answer."""
        return same_files(left, right, lambda one, other: self._rows(one) == self._rows(other))

    def _rows(self, table: Path) -> list[list[str]]:
        with table.open(newline="") as file:
            head, *rows = csv.reader(file) if table.stat().st_size else ([],)
        if self._column not in head:
            return [head, *rows]
        at = head.index(self._column)
        return [row[:at] + row[at + 1 :] for row in (head, *rows)]
