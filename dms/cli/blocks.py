"""What a command shows, as data: lines, boxes and tables. `text` shows them plainly, `terminal` in colour.

Strings from other nodes and from jobs pass through here, so `clean` takes out what would move the cursor or colour the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """A line of text. `tone`: "", "good", "warn", "bad", "dim" or "strong"."""

    text: str = ""
    tone: str = ""


class Box(NamedTuple):
    """Labelled values under a title."""

    title: str
    rows: Sequence[tuple[str, str]]


class Boxes(NamedTuple):
    """Boxes that may stand side by side where there is room."""

    boxes: Sequence[Box]


class Table(NamedTuple):
    """Rows under headers. `right` names the columns (by index) aligned to the right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


Block = Line | Box | Boxes | Table


def clean(text: str) -> str:
    """`text` with control characters (escape sequences, newlines, direction marks) made visible."""
    return "".join(character if character.isprintable() else _visible(character) for character in text)


def _visible(character: str) -> str:
    return (
        " "
        if character in "\n\t\u00a0"
        else f"\\u{ord(character):04x}"
        if ord(character) > 0xFF
        else f"\\x{ord(character):02x}"
    )
