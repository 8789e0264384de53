"""The glossary has each word once, where one looks for it."""

from __future__ import annotations

import re

from .pages import DOCS


def test_each_word_stands_once_and_in_its_place() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (DOCS / "concepts" / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)
