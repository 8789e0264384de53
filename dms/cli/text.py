"""Blocks as plain text: for pipes, files and tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dms.cli.blocks import Block, Box, Boxes, Line, Table, clean

INDENT = "  "
GAP = "  "


def plain(blocks: Iterable[Block]) -> Iterator[str]:
    """The lines of `blocks`, without colour and without trailing space."""
    for block in blocks:
        match block:
            case Line():
                yield clean(block.text).rstrip()
            case Box():
                yield from _box(block)
            case Boxes():
                for box in block.boxes:
                    yield from _box(box)
            case Table():
                yield from _table(block)


def _box(box: Box) -> Iterator[str]:
    yield clean(box.title)
    width = max((len(label) for label, _ in box.rows), default=0)
    for label, value in box.rows:
        yield f"{INDENT}{clean(label):<{width}}{GAP}{clean(value)}".rstrip()


def _table(table: Table) -> Iterator[str]:
    rows = [[clean(cell) for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headers))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in table.right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield GAP.join(cells).rstrip()
