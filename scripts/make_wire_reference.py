"""Brings the generated parts of proto/README.md up to date with the types.

python scripts/make_wire_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path

from dms_proto.wire.reference import kinds_reference, refusals_reference

README = Path(__file__).parents[1] / "proto" / "README.md"


def main() -> None:
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")


def refreshed(text: str) -> str:
    """`text` with what stands between its markers generated anew."""
    for name, content in (("refusals", refusals_reference()), ("kinds", kinds_reference())):
        found = re.search(rf"<!-- {name}: [^\n]*-->\n(.*?)<!-- end -->", text, re.DOTALL)
        if found is None:
            raise SystemExit(f"{README} has no place for {name}")
        text = f"{text[: found.start(1)]}\n{content}\n\n{text[found.end(1) :]}"
    return text


if __name__ == "__main__":
    main()
