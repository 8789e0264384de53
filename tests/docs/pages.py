"""The pages, taken apart: what the tests beside this file look at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "newsfragments" / "README.md",
    ROOT / "examples" / "README.md",
    ROOT / "proto" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block: its page, what stands after the fence, its text."""

    page: Path
    kind: str
    text: str


def name_of(page: Path) -> str:
    """How a test is called that is about a page."""
    return str(page.relative_to(ROOT))


def blocks(kind: str) -> list[Block]:
    """Every fenced block of a kind."""
    return [
        Block(page, kind, text) for page in PAGES for found, text in _FENCE.findall(page.read_text()) if found == kind
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _FENCE.sub("", page.read_text()), flags=re.DOTALL)


def inline(page: Path) -> list[str]:
    """What stands between backticks."""
    return _INLINE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Where a page leads."""
    return _LINK.findall(re.sub(_INLINE, "", prose(page)))


def commands() -> list[tuple[str, str]]:
    """Every line after a $ in a console block, with its page."""
    return [
        (name_of(block.page), line.removeprefix("$ "))
        for block in blocks("console")
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site spell them."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", text.lower()).strip()))
    return found
