"""Texts count through `format_count`: nobody reads "1 nodes"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .pages import ROOT

SOURCES = ("actors", "dms", "proto", "scripts")
THINGS = (
    "address allocation attempt bid byte character connection core credit decision decline device event file gpu job kind "
    "level loop match message node output pattern peer probe request round run second slot time value"
)
PLURAL = re.compile(rf"\s(?:{'|'.join(THINGS.split())})e?s\b", re.IGNORECASE)


def loose_counts(source: str) -> Iterator[tuple[int, str]]:
    """Lines with a number that varies directly before a plural: f"{n} nodes". Limits, written in CAPITALS, do not vary."""
    for text in ast.walk(ast.parse(source)):
        if not isinstance(text, ast.JoinedStr):
            continue
        for value, after in zip(text.values, text.values[1:], strict=False):
            words = after.value if isinstance(after, ast.Constant) else ""
            if isinstance(value, ast.FormattedValue) and varies(value.value) and PLURAL.match(str(words)):
                yield text.lineno, ast.unparse(text)


def varies(value: ast.expr) -> bool:
    """Whether a value is a number of its own, not text that a function made or a constant."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in ("len", "sum")
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else "x"
    return not name.isupper()


def test_a_loose_count_is_found_and_a_limit_is_none() -> None:
    assert [line for line, _ in loose_counts("f'{n} nodes'\nf'{len(x)} addresses'\nf'{short(n)} bids'")] == [1, 2]
    assert not list(loose_counts("f'at most {MAX_FILES} files'\nf'{n} ms'"))


def test_every_text_that_counts_says_one_node_and_two_nodes() -> None:
    files = (path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py")) if "sim" not in path.parts)
    found = [
        f"{path.relative_to(ROOT)}:{line} {text}" for path in files for line, text in loose_counts(path.read_text())
    ]
    assert found == []
