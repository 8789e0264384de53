"""Kinds of tasks: parameters as people write them, the jobs that they make, and plug-ins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from dms.jobs.problems import BadJob
from dms.kinds import Fields, Kind
from dms.kinds.builtin import BUILT_IN, MEASURE, CommandParameters
from dms.kinds.documents import Wishes, job_for
from dms.kinds.given import FORMS, parameters_of
from dms.kinds.installed import GROUP, installed, kind_called
from dms.testing.packages import install_package
from dms_proto.errors import UserError

PLUG_IN = """
import msgspec
from dms.kinds import Kind

class Parameters(msgspec.Struct, frozen=True):
    times: int = 1

def job(given):
    if given.times < 0:
        raise ValueError(f"times is {given.times}, and nothing is done less than never")
    return {"command": ["echo", str(1 // (given.times - 13))] if given.times == 13 else ["echo"] * given.times}

KIND = Kind("Says nothing, a few times.", Parameters, job)
NO_KIND = job
"""


class Inner(msgspec.Struct, frozen=True):
    width: Annotated[int, msgspec.Meta(ge=1)]


class Outer(msgspec.Struct, frozen=True):
    size: Inner
    ratio: float = 1.0


def given(name: str, *texts: str) -> msgspec.Struct:
    return parameters_of(name, BUILT_IN[name], texts)


def told(name: str, *texts: str) -> list[tuple[str, str]]:
    """What is wrong with the parameters, as field and rule."""
    with pytest.raises(BadJob) as caught:
        given(name, *texts)
    assert caught.value.hint == f"dms task show {name} lists them"
    return [(problem.field, problem.rule) for problem in caught.value.problems]


def test_text_is_taken_as_written_and_numbers_as_numbers() -> None:
    script = given("python-script", "script=1.10", "arguments=--n", "arguments=007", "outputs=[a, b]")
    assert msgspec.to_builtins(script) == {
        "script": "1.10",
        "arguments": ("--n", "007"),
        "inputs": (),
        "outputs": ("a", "b"),
        "port": 0,
    }
    assert msgspec.to_builtins(given("measure-cpu", "seconds=7")) == {"seconds": 7}


def test_later_parameters_replace_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("files: [a, b]\nalgorithm: md5\n")
    made = given("checksum", f"@{file}", '{"algorithm": "sha512"}', "files=c", "files=d")
    assert msgspec.to_builtins(made) == {"files": ("c", "d"), "algorithm": "sha512"}


def test_every_mistake_is_told_with_its_parameter_and_what_was_allowed() -> None:
    assert told("checksum", "fils=a", "algorithm=sha1") == [
        ("algorithm", "'sha1' is not one of sha256, sha512, blake2b, md5"),
        ("files", "this field is required"),
        ("fils", "no such field; did you mean 'files'?"),
    ]
    assert told("measure-cpu", "seconds=0") == [("seconds", "Expected `int` >= 1, found 0")]
    assert told("measure-cpu", "seconds=soon") == [("seconds", "Expected `int`, got `str`")]


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("files: [a]\n\nalgoritm: md5\n")
    with pytest.raises(BadJob, match="line 3, algoritm: no such field; did you mean 'algorithm'"):
        given("checksum", f"@{file}")


@pytest.mark.parametrize(
    ("text", "words"), [("files", "'files' is no parameter"), ("=a", "no parameter"), ("@none", "cannot be read")]
)
def test_what_is_no_parameter_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        given("checksum", text)


@pytest.mark.parametrize("text", ["files", "{bad", "files=[a"])
def test_whoever_writes_what_is_no_parameter_is_told_the_three_forms(text: str) -> None:
    with pytest.raises(UserError) as caught:
        given("checksum", text)
    assert caught.value.hint == FORMS


@pytest.mark.parametrize("name", ["checksum", "{", "[a"])
def test_what_is_no_mapping_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(name)
    with pytest.raises(BadJob):
        given("checksum", f"@{file}")


def job(name: str, base: Path, *texts: str, is_own: bool = True, **fields: object) -> list[object]:
    """The command and the inputs of the job that a kind makes."""
    spec = job_for(name, BUILT_IN[name], given(name, *texts), Wishes(fields, is_own=is_own), base)
    return [list(spec.task.command), [item.path for item in spec.task.inputs]]


def test_each_built_in_kind_makes_its_job(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "main.py", "x.wasm"):
        (tmp_path / name).write_text(name)
    assert job("command", tmp_path, "argv=sort", "argv=a.txt", "inputs=a.txt") == [["sort", "a.txt"], ["a.txt"]]
    assert job("python-script", tmp_path, "script=main.py", "arguments=-v") == [
        ["python3", "main.py", "-v"],
        ["main.py"],
    ]
    assert job("wasm-module", tmp_path, "module=x.wasm", "arguments=1") == [["1"], ["x.wasm"]]
    assert job("checksum", tmp_path, "files=a.txt", "files=b.txt", "algorithm=blake2b") == [
        ["b2sum", "--", "a.txt", "b.txt"],
        ["a.txt", "b.txt"],
    ]
    assert job("measure-cpu", tmp_path)[1] == []
    assert set(BUILT_IN) == {"command", "python-script", "wasm-module", "checksum", "measure-cpu"}


def test_files_may_lie_anywhere_unless_a_file_names_them(tmp_path: Path) -> None:
    base, elsewhere = tmp_path / "here", tmp_path / "there"
    base.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.txt").write_text("x")
    named = f"files={elsewhere}/a.txt"
    assert job("checksum", base, named) == [["sha256sum", "--", "a.txt"], ["a.txt"]]
    with pytest.raises(BadJob, match="outside"):
        job("checksum", base, named, is_own=False)


def test_two_files_of_one_name_are_refused_with_the_parameters_of_the_kind(tmp_path: Path) -> None:
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a").write_text(place)
    with pytest.raises(BadJob, match="parameters of checksum: two of the files have one name"):
        job("checksum", tmp_path / "x", f"files={tmp_path}/x/a", f"files={tmp_path}/y/a")


def test_wishes_go_before_what_the_kind_makes_entry_by_entry(tmp_path: Path) -> None:
    name = "measure-cpu"
    wishes = Wishes({"resources": {"memory": "64MiB"}, "node": "lab-3", "name": "mine"})
    spec = job_for(name, BUILT_IN[name], given(name), wishes, tmp_path)
    assert (spec.needs.resources.memory_bytes, spec.needs.resources.cpu_millicores) == (64 * 2**20, 1000)
    assert (spec.node, spec.name, spec.needs.max_wall_ms) == ("lab-3", "mine", 25_000)


def test_datasets_are_read_beside_what_the_kind_reads(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    kind = Kind(
        "Reads a dataset.", CommandParameters, lambda _given: {"command": ["x"], "inputs": [{"dataset": "own"}, "a"]}
    )
    wishes = Wishes({}, datasets=({"dataset": "words", "as": "there"},))
    spec = job_for("reads", kind, CommandParameters(("x",)), wishes, tmp_path)
    assert [(each.dataset, each.place) for each in spec.datasets] == [("own", ""), ("words", "there")]
    assert [each.path for each in spec.task.inputs] == ["a"]


def test_a_wish_that_breaks_a_rule_is_told_as_one_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match=r"the job of measure-cpu: resources\.cpu: must be more than 0"):
        job("measure-cpu", tmp_path, resources={"cpu": 0})


def test_a_core_is_measured_by_the_rounds_it_does() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE, "0.01"], capture_output=True, check=True, text=True
    )
    found = msgspec.json.decode(done.stdout)
    assert found["rounds"] >= 1
    assert found["score"] == pytest.approx(found["rounds"] * 12_100 / found["seconds"] / 1000, rel=0.1)


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "says-nothing": "kinds_plug_in:KIND",
        "no-kind": "kinds_plug_in:NO_KIND",
        "gone": "kinds_plug_in:GONE",
        "checksum": "kinds_plug_in:KIND",
    }
    install_package(tmp_path, "a-package", "2.1", GROUP, points, "kinds_plug_in", PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kinds_plug_in", raising=False)


@pytest.mark.usefixtures("plug_in")
def test_a_package_brings_kinds_and_takes_no_built_in_name(tmp_path: Path) -> None:
    kind = kind_called("says-nothing")
    made = parameters_of("says-nothing", kind, ["times=3"])
    assert job_for("says-nothing", kind, made, Wishes({}), tmp_path).task.command == ("echo", "echo", "echo")
    assert kind_called("checksum") is BUILT_IN["checksum"]
    assert [each.name for each in installed()].count("checksum") == 1


@pytest.mark.usefixtures("plug_in")
def test_what_a_package_gets_wrong_is_told_by_its_name(tmp_path: Path) -> None:
    failed = {each.name: each.failed for each in installed() if each.failed}
    assert failed.keys() == {"no-kind", "gone"}
    with pytest.raises(UserError, match="'no-kind', of the package a-package, is a function at kinds_plug_in:NO_KIND"):
        kind_called("no-kind")
    with pytest.raises(UserError, match="cannot be loaded from kinds_plug_in:GONE: AttributeError"):
        kind_called("gone")
    kind = kind_called("says-nothing")
    with pytest.raises(BadJob, match="parameters of says-nothing: times is -1, and nothing is done less than never"):
        job_for("says-nothing", kind, parameters_of("says-nothing", kind, ["times=-1"]), Wishes({}), tmp_path)
    with pytest.raises(UserError, match="'says-nothing' fails on these parameters: ZeroDivisionError"):
        job_for("says-nothing", kind, parameters_of("says-nothing", kind, ["times=13"]), Wishes({}), tmp_path)


def test_a_kind_nobody_has_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"there is no kind of task 'chcksum'; did you mean 'checksum'\?"):
        kind_called("chcksum")


def test_a_kind_may_have_parameters_of_any_type(tmp_path: Path) -> None:
    def made(outer: Outer) -> Fields:
        return {"command": ["draw", str(outer.size.width), str(outer.ratio)]}

    kind = Kind("Draws.", Outer, made)
    outer = parameters_of("draw", kind, ['size={"width": 3}', "ratio=0.5"])
    assert job_for("draw", kind, outer, Wishes({}), tmp_path).task.command == ("draw", "3", "0.5")
    with pytest.raises(BadJob, match=r"size\.width: Expected `int` >= 1, found 0"):
        parameters_of("draw", kind, ['size={"width": 0}'])
