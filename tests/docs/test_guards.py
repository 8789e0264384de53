"""What the page on grants promises for each kind of message is what the code asks for."""

import re

from dms_proto.grants import rights
from dms_proto.messages import KINDS

from .pages import DOCS


def promised() -> dict[str, str]:
    """By kind of message: the first right that the table names; empty for none."""
    section = (
        (DOCS / "concepts" / "grants.md")
        .read_text()
        .partition("## What each kind of message needs")[2]
        .partition("\n## ")[0]
    )
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    named = {kind: re.findall(r"`(\w+)`", row[3])[:1] for row in rows for kind in re.findall(r"`(\w+)`", row[1])}
    return {kind: names[0] if names else "" for kind, names in named.items()}


def test_every_kind_of_message_stands_in_the_table_with_the_right_that_it_needs() -> None:
    needed = {kind.__name__: right for kind, right in rights.KINDS.items()}

    assert promised() == {kind: needed.get(kind, "") for kind in KINDS}
