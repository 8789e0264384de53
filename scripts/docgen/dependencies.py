"""Every direct dependency has its reason in docs/development/dependencies.md, and nothing else has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ENTRY = re.compile(r"^\| `([A-Za-z0-9._-]+)` \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def undocumented(root: Path) -> list[str]:
    """Dependencies without an entry, entries without a dependency, entries without words."""
    listed = direct(root)
    text = (root / "docs" / "development" / "dependencies.md").read_text(encoding="utf-8")
    entries = {
        name: (reason.strip(), instead.strip())
        for part in text.split("\n\n")
        if part.startswith("| package |")
        for name, reason, instead in _ENTRY.findall(part)
    }
    wrong = [
        f"dependency {name} has no reason in docs/development/dependencies.md" for name in sorted(listed - set(entries))
    ]
    wrong += [
        f"docs/development/dependencies.md explains {name}, which is not a dependency"
        for name in sorted(set(entries) - listed)
    ]
    wrong += [
        f"dependency {name}: reason or alternatives are empty" for name, words in entries.items() if not all(words)
    ]
    return wrong


def direct(root: Path) -> set[str]:
    """Names in pyproject.toml: of the package, its groups, and the build."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for group in project.get("dependency-groups", {}).values():
        lines += [line for line in group if isinstance(line, str)]
    return {match[0] for line in lines if (match := _NAME.match(line))}
