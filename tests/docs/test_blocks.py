"""Code blocks that a reader copies are read by what would read them: job documents, settings, programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dms.config.loading import parse_config
from dms.config.paths import Home
from dms.jobs.check import check
from dms.jobs.problems import BadJob
from dms.jobs.resolve import resolve_file
from dms.jobs.source import parse
from dms.testing.served import served_node
from dms_proto.market.preferences import PRESETS, Preferences, check_preferences

sys.path.insert(0, str(Path(__file__).parent))

from .pages import ROOT, Block, blocks, name_of

JOBS = blocks("yaml job")
SETTINGS = blocks("toml config")
PROGRAMS = blocks("python client")
EXAMPLES = sorted((ROOT / "examples" / "jobs").glob("*.[yj]*"))


def of_page(block: Block) -> str:
    return name_of(block.page)


def test_there_are_blocks_of_each_kind() -> None:
    assert len(JOBS) >= 7
    assert len(SETTINGS) >= 3
    assert len(PROGRAMS) >= 1


@pytest.mark.parametrize("block", JOBS, ids=of_page)
def test_a_job_document_keeps_every_rule(block: Block) -> None:
    check(parse(block.text.encode(), "page"), "page")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_complete(path: Path) -> None:
    assert resolve_file(path).count >= 1


def test_a_wrong_document_would_be_noticed() -> None:
    with pytest.raises(BadJob):
        check(parse(b"command: echo\nmemroy: 1GiB\n", "page"), "page")


@pytest.mark.parametrize("block", SETTINGS, ids=of_page)
def test_settings_are_read(block: Block) -> None:
    parse_config(block.text, Path("config.toml"), {})


@pytest.mark.parametrize("block", PROGRAMS, ids=of_page)
def test_a_program_runs_against_a_node(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DMS_HOME", str(tmp_path / "home"))
    with served_node(Home(tmp_path / "home")):
        exec(compile(block.text, of_page(block), "exec"), {})
    assert capsys.readouterr().out


def test_the_preferences_that_are_shown_are_valid() -> None:
    check_preferences(
        Preferences(("!link.relayed",), {"price": 50, "reliability": 50}, "offer.cpu >= 8.0 ? 1.0 : 0.0", 3)
    )
    assert set(PRESETS) == {"balanced", "cheapest", "fastest", "own-machines-first", "evenly"}
