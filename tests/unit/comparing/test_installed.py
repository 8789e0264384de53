"""Which result comparators there are, and the example that the guide shows."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from dms import __version__
from dms.comparing.installed import BUILT_IN, GROUP, chosen, installed
from dms.comparing.process import ask
from dms.comparing.question import Side
from dms.testing.packages import install_package
from dms_proto.errors import UserError

EXAMPLE = Path(__file__).parents[3] / "examples" / "result_comparator"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that this environment has."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install_example(site: Path) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points, source = project["entry-points"][GROUP], (EXAMPLE / "without_column.py").read_text()
    install_package(site, project["name"], project["version"], GROUP, points, "without_column", source)


def table(path: Path, text: str) -> Side:
    path.write_text(text)
    return Side({"times.csv": str(path)}, "/dev/null", 0)


@pytest.mark.slow
async def test_the_example_is_found_by_its_entry_point_and_compares(site: Path) -> None:
    install_example(site)
    comparator = chosen("without-column:seconds")
    assert (comparator.version, comparator.parameter) == ("1.0", "seconds")
    left = table(site / "left", "part,seconds,sum\na,1.5,7\n")
    right = table(site / "right", "part,seconds,sum\na,2.5,7\n")
    other = table(site / "other", "part,seconds,sum\na,1.5,8\n")

    assert await ask(comparator, left, right) is True
    assert await ask(comparator, left, other) is False
    assert await ask(chosen("without-column"), left, right) == "say which column: without-column:seconds"
    assert "without_column" not in sys.modules


def test_the_built_in_ones_are_there_with_the_version_of_dms() -> None:
    assert {each.name for each in installed()} >= set(BUILT_IN)
    assert chosen("numbers:1e-3").version == __version__
    assert chosen("numbers:1e-3:1e-6").parameter == "1e-3:1e-6"


def test_one_that_is_not_there_is_named_with_those_that_are(site: Path) -> None:
    install_example(site)
    with pytest.raises(UserError, match="no comparator 'closest' for results is installed") as refused:
        chosen("closest:3")
    assert refused.value.hint.startswith("there are hash, json, lines, numbers, without-column;")


def test_a_plug_in_takes_no_built_in_name(site: Path) -> None:
    install_package(site, "sly", "1", GROUP, {"json": "sly:Yes", "hash": "sly:Yes"}, "sly", "")
    assert chosen("json").version == __version__
    assert "hash" not in {each.name for each in installed()}
