"""Brings the generated documentation up to date with the code.

::

    python scripts/gen_docs.py             writes docs/reference, docs/protocol and the marked parts of docs/concepts
    python scripts/gen_docs.py --check     writes nothing; exit code 1 and a line each when something is stale or lacks a description
    python scripts/gen_docs.py --observe   watches more seeds of the simulator than the two it always watches, and draws what it sees

A generated part of a page stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; NAME is a key of BLOCKS.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docgen import cli, code_pages, dependencies, machines, protocol, rpc, transitions

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli.reference,
    "reference/exit-codes.md": cli.exit_codes,
    "reference/rpc.md": rpc.reference,
    "reference/configuration.md": code_pages.configuration,
    "reference/events.md": code_pages.events,
    "reference/messages.md": code_pages.messages,
    "reference/errors.md": code_pages.errors,
    "reference/end-reasons.md": code_pages.end_reasons,
    "reference/expressions.md": code_pages.expressions,
    "reference/job-document.md": code_pages.job_document,
    "reference/job.schema.json": code_pages.job_schema_file,
    "protocol/specification.md": partial(protocol.specification, ROOT),
}
"""Whole files below docs/."""

BLOCKS: dict[str, Callable[[], str]] = {
    **{f"diagram {name}": partial(machines.diagram, name) for name in (*transitions.TABLES, *transitions.FINER)},
    **{
        f"transitions {name}": partial(machines.transitions, name) for name in (*transitions.TABLES, *transitions.FINER)
    },
    **{f"table {name}": partial(machines.rows, name) for name in (*transitions.TABLES, *transitions.PHASELESS)},
}
"""Parts of hand-written pages."""

_BLOCK = re.compile(r"(<!-- generated: ([^>\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def wanted() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    files = {DOCS / name: make() for name, make in PAGES.items()}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if path not in files and "<!-- generated: " in text:
            files[path] = _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}", text)
    return files


def problems() -> list[str]:
    """Everything that is stale or lacks a description."""
    found = [*cli.undocumented(), *rpc.undocumented(), *code_pages.undocumented(), *dependencies.undocumented(ROOT)]
    found += transitions.unlisted(transitions.stored())
    for path, text in wanted().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path.relative_to(ROOT)} is stale; run `make docs`")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    parser.add_argument(
        "--observe",
        type=int,
        metavar="SEEDS",
        nargs="?",
        default=2,
        const=30,
        help="seeds of every scenario; 30 unless said",
    )
    options = parser.parse_args()
    if options.check:
        found = problems()
        print("\n".join(found) or "the documentation is up to date")
        return 1 if found else 0
    before = transitions.stored()
    seen = transitions.observe(options.observe)
    transitions.store({name: edges | before.get(name, set()) for name, edges in seen.items()})
    for path, text in wanted().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
