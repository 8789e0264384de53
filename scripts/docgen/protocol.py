"""The protocol specification, for readers of the documentation: proto/README.md with its links turned to where they lead from docs/."""

from __future__ import annotations

from pathlib import Path

from .text import NOTE


def specification(root: Path) -> str:
    """The page."""
    text = (root / "proto" / "README.md").read_text(encoding="utf-8")
    return f"{NOTE}\n\n{text}"
