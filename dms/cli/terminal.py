"""Blocks on a terminal: colour, borders, boxes side by side. Imported only when the output is a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich import box as borders
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from dms.cli.blocks import Block, Box, Boxes, Line, Table, clean

STYLES: Final = {"": "", "good": "green", "warn": "yellow", "bad": "red", "dim": "dim", "strong": "bold"}
SIDE_BY_SIDE: Final = 120
"""Columns of the terminal from which boxes stand side by side."""


def show(blocks: Iterable[Block]) -> None:
    """Prints `blocks` on the terminal."""
    console = Console(highlight=False)
    for block in blocks:
        match block:
            case Line():
                console.print(Text(clean(block.text), style=STYLES[block.tone]), soft_wrap=True)
            case Box():
                console.print(_panel(block))
            case Boxes() if console.width > SIDE_BY_SIDE:
                console.print(Columns([_panel(box) for box in block.boxes], equal=True, expand=True))
            case Boxes():
                for box in block.boxes:
                    console.print(_panel(box))
            case Table():
                console.print(_table(block))


def _panel(box: Box) -> Panel:
    grid = RichTable.grid(padding=(0, 2))
    for label, value in box.rows:
        grid.add_row(Text(clean(label), style="dim"), Text(clean(value)))
    return Panel(grid, title=Text(clean(box.title), style="bold"), title_align="left", box=borders.ROUNDED)


def _table(table: Table) -> RichTable:
    rich = RichTable(box=None, header_style="bold", pad_edge=False)
    for column, header in enumerate(table.headers):
        rich.add_column(Text(header), justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(clean(cell)) for cell in row))
    return rich
