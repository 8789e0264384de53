"""dms task: kinds by name, their parameters, and the jobs that come of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dms.testing.commands import Dms
from dms.testing.packages import install_package

EXAMPLE = Path(__file__).parents[3] / "examples" / "task_kind"


def test_kinds_are_listed_with_what_they_do(dms: Dms) -> None:
    lines = dms("task", "kinds").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == [
        "command",
        "python-script",
        "wasm-module",
        "checksum",
        "measure-cpu",
    ]
    assert json.loads(dms("task", "kinds", "--json").stdout)[3]["name"] == "checksum"


def test_the_parameters_of_a_kind_are_shown_and_are_a_schema_as_json(dms: Dms) -> None:
    shown = dms("task", "show", "checksum").stdout
    assert "files      list of text               required" in shown
    assert "algorithm  blake2b|md5|sha256|sha512" in shown
    schema = json.loads(dms("task", "show", "checksum", "--json").stdout)
    assert (schema["title"], schema["required"]) == ("checksum", ["files"])


def test_a_task_is_a_job_whose_output_and_code_are_its_own(dms: Dms, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    result = dms("task", "run", "checksum", "-p", f"files={tmp_path}/a.txt", "--time", "30s")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")
    (job,) = json.loads(dms("job", "list", "--json").stdout)["jobs"]
    assert job["name"] == "checksum"
    spec = json.loads(dms("job", "show", job["job_id"], "--json").stdout)["spec"]
    assert spec["task"]["command"] == ["sha256sum", "--", "a.txt"]
    assert spec["needs"]["max_wall_ms"] == 30_000


def test_mistakes_end_before_anything_is_asked(dms: Dms) -> None:
    result = dms("task", "run", "checksum", "-p", "fils=a")
    assert result.exit_code == 125
    assert result.stderr == (
        "dms: parameters of checksum has 2 problems:\n  files: this field is required\n"
        "  fils: no such field; did you mean 'files'? [bad_job]; dms task show checksum lists them\n"
    )
    unknown = dms("task", "show", "chcksum")
    assert unknown.exit_code == 1
    assert "there is no kind of task 'chcksum'; did you mean 'checksum'?" in unknown.stderr


def test_the_example_package_brings_its_kind(dms: Dms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (EXAMPLE / "word_count.py").read_text()
    points = {"word-count": "word_count:KIND"}
    install_package(tmp_path, "dms-word-count", "1.0", "dms.tasks", points, "word_count", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "word_count", raising=False)
    assert "word-count     dms-word-count 1.0" in dms("task", "kinds").stdout
    (tmp_path / "a.txt").write_text("a b a")
    assert dms("task", "run", "word-count", "-p", f"texts={tmp_path}/a.txt").exit_code == 0
