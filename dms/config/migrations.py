"""Older configuration files, step by step, to the newest version.

A step is a pure function from the document of one version to that of the next; it keeps what it does not know. The file on disk is not touched:
it belongs to its owner, comments and all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dms.config.settings import VERSION
from dms_proto.errors import UserError

Document = dict[str, Any]
Step = tuple[int, Callable[[Document], Document]]
"""(the version the function reads, the function that gives the next version's document)."""

MIGRATIONS: Final[tuple[Step, ...]] = ()
"""Ordered, without gaps, ending at `VERSION` - 1. Version 1 is the first, so there is none yet."""


def migrate(document: Document, steps: Sequence[Step] = MIGRATIONS, newest: int = VERSION) -> Document:
    """`document` in the newest version. A document that names no version is version 1.

    Raises:
        UserError: `bad_config`: the version is no positive whole number, or newer than this program knows.
    """
    version = document.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError("bad_config", f"version is {version!r}, not a positive whole number")
    if version > newest:
        raise UserError(
            "bad_config",
            f"version is {version}, and this dms reads up to {newest}",
            hint="the file was written for a newer dms: upgrade, or move the file away to start from the defaults",
        )
    for reads, step in steps:
        if reads == version:
            document = step(document)
            version += 1
    assert version == newest, f"no migration leads from version {version} to {newest}"
    return {**document, "version": newest}
