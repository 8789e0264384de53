"""Links lead somewhere, pages are in the navigation, paths that are named exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from .pages import DOCS, PAGES, ROOT, anchors, inline, links, name_of

ROOMS = ("dms/", "actors/", "proto/", "tests/", "scripts/", "docs/", "examples/", "bench/", "newsfragments/", "docker/")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=name_of)
def test_a_page_of_the_site_links_only_to_the_site(page: Path) -> None:
    outside = [
        link
        for link in links(page)
        if "://" not in link
        and link.partition("#")[0]
        and DOCS not in (page.parent / link.partition("#")[0]).resolve().parents
    ]
    assert not outside


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = [
        text
        for text in inline(page)
        if text.startswith(ROOMS) and re.fullmatch(r"[\w./-]+", text) and "GROUP" not in text
    ]
    assert [text for text in named if not (ROOT / text).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = [text.split("::") for text in inline(page) if text.startswith("tests/") and "::" in text]
    assert [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_the_navigation_lists_every_page_once() -> None:
    text = re.sub(r"!!python/name:\S+", "''", (ROOT / "mkdocs.yml").read_text())
    listed: list[str] = []

    def walk(node: object) -> None:
        match node:
            case str():
                listed.append(node)
            case list():
                for item in node:
                    walk(item)
            case dict():
                for item in node.values():
                    walk(item)

    walk(yaml.safe_load(text)["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_decision_is_listed_by_number_under_its_title_and_has_its_three_parts() -> None:
    rows, entries = [], []
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        text = page.read_text()
        number, title = re.match(r"# (\d{4}): (.*)", text).groups()  # type: ignore[union-attr] - else the page has no title
        assert page.name.startswith(number)
        rows.append(f"| [{number}]({page.name}) | {title} |")
        entries.append(f'"{number}: {title}": decisions/{page.name}')
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Consequence")), page.name
    index = (DOCS / "decisions" / "index.md").read_text()
    assert re.findall(r"^\| \[\d{4}\][^|]*\|[^|]*\|", index, re.MULTILINE) == rows
    assert re.findall(r'"\d{4}: .*": .*', (ROOT / "mkdocs.yml").read_text()) == entries


def test_a_decision_that_replaces_a_part_of_another_stands_beside_it() -> None:
    index = (DOCS / "decisions" / "index.md").read_text()
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        for replaced in re.findall(r"^Replaces .*?\[(\d{4})\]", page.read_text(), re.MULTILINE):
            assert re.search(rf"^\| \[{replaced}\].*\({page.name}\).*\|$", index, re.MULTILINE), page.name


def test_the_readme_is_about_a_screen() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 75
    assert max(map(len, lines)) <= 150
