"""Flags and job files become the same document by the same rules."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dms.cli.port_pairs import pairs_of
from dms.cli.task_options import spec_of, spec_of_file
from dms.jobs.problems import BadJob
from dms.jobs.spec import JobSpec
from dms_proto.capability import Gpu
from dms_proto.errors import UserError
from dms_proto.images import Pull
from dms_proto.secrets import OpenSecret
from dms_proto.units import GIB

ONCE = (
    "executor module cpu memory disk gpus gpu_model gpu_memory gpu_share "
    "count together run_time queue wait_for_nodes deadline max_price budget pricing prefer priority name"
)
CONTAINERS = "image pull"
WHERE = "node cache checkpoint names"
INSIDE = "exec_"
CHECKS = "verify copies apart comparator"
OFTEN = "ports inputs datasets outputs egress env constraints labels secrets secret_variable"
NONE = dict.fromkeys((*ONCE.split(), *CONTAINERS.split(), *WHERE.split(), INSIDE, *CHECKS.split())) | dict.fromkeys(
    OFTEN.split(), ()
)


def _spec(*argv: str, **given: object) -> JobSpec:
    return spec_of({**NONE, **given}, argv)


def test_a_job_is_named_after_its_program() -> None:
    assert _spec("/usr/bin/env", "x").name == "env"


def test_a_checkpoint_is_named() -> None:
    assert _spec("./run", checkpoint="state").task.checkpoint == "state"


def test_where_it_connects_to_is_named() -> None:
    spec = _spec("true", egress=("pypi.org:443", "*.b:1"))
    assert spec.needs.egress.destinations == spec.task.egress.destinations == ("pypi.org:443", "*.b:1")


def test_ports_are_those_of_the_job_each_once() -> None:
    task = _spec("./serve", ports=("8080", "0:9000", "18080:8080"), names=True, count=3).task
    assert (task.ports, task.names.count) == ((8080, 9000), 3)


def test_a_port_may_have_a_name_and_its_program_is_told_the_number() -> None:
    task = _spec("./serve", ports=("http", "0:admin", "8080"), env=("A=1",)).task
    assert task.environment == {"A": "1", "DMS_PORT_HTTP": str(task.ports[0]), "DMS_PORT_ADMIN": str(task.ports[1])}
    assert len(set(task.ports)) == 3
    assert pairs_of(["http", "18080:http", "8080"], task) == [(0, task.ports[0]), (18080, task.ports[0]), (8080, 8080)]
    number, admin, _ = task.ports
    for wrong, said in (("web", "no port called 'web'"), ("80", "does not declare port 80")):
        with pytest.raises(UserError, match=rf"{said}; it declares http \({number}\), admin \({admin}\), 8080"):
            pairs_of([wrong], task)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8080",
        "8080:",
        "0",
        "65536",
        "9" * 5_000,
        "a:80",
        "HTTP",
        ":http",
        "x:http",
        "a-b",
        "1:2:3",
        "80 ",
        "-1:80",
    ],
)
def test_what_is_no_pair_of_ports_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not"):
        _spec("./serve", ports=(text,))


def test_an_input_may_lie_anywhere_the_person_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "a=b.csv").write_text("x")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "f").write_text("y")
    spec = _spec("x", inputs=("../a=b.csv", "../dir=d"))
    assert [item.path for item in spec.task.inputs] == ["a=b.csv", "d/f"]


def test_what_a_named_directory_links_to_is_still_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "dir" / "link").symlink_to(tmp_path / "secret")
    monkeypatch.chdir(tmp_path / "dir")
    with pytest.raises(BadJob, match="leads outside"):
        _spec("x", inputs=(".",))


def test_a_dataset_is_named_with_or_without_its_place() -> None:
    digest = f"sha256:{'0' * 64}"
    spec = _spec("x", datasets=("photos", "films:in/films", digest, f"{digest}:d"))
    wished = [(wish.dataset, wish.place) for wish in spec.datasets]
    assert wished == [("photos", ""), ("films", "in/films"), (digest, ""), (digest, "d")]
    assert not spec.task.inputs


def test_an_image_makes_it_a_container(tmp_path: Path) -> None:
    by_digest = f"ghcr.io/lab/tool@sha256:{'0' * 64}"
    spec = _spec("tool", "-v", image=by_digest, pull="never")
    assert (spec.task.executor, spec.task.image, spec.task.pull, spec.image) == ("oci", by_digest, Pull.NEVER, "")
    assert [need.name for need in spec.needs.executors] == ["oci"]


def test_a_tag_is_left_to_the_node(tmp_path: Path) -> None:
    spec = _spec(image="busybox:1.36")
    assert (spec.task.image, spec.image, spec.task.command) == ("", "busybox:1.36", ())


def test_a_module_makes_it_a_wasm_job(tmp_path: Path) -> None:
    module = tmp_path / "a.wasm"
    module.write_bytes(b"\0asm")
    spec = _spec("--flag", module=str(module))
    assert (spec.task.executor, spec.task.module, spec.task.command) == ("wasm", "a.wasm", ("--flag",))


def test_gpus_with_a_memory_only_are_one_gpu() -> None:
    assert len(_spec("x", gpu_memory="8GiB").needs.resources.gpus) == 1
    assert len(_spec("x", gpus=3).needs.resources.gpus) == 3


def test_a_share_and_a_model_are_those_of_each_gpu() -> None:
    half = Gpu(model="A100", memory_bytes=8 * GIB, milli=500)
    assert _spec("x", gpus=2, gpu_model="A100", gpu_memory="8GiB", gpu_share="0.5").needs.resources.gpus == (half, half)


def test_paths_in_a_job_file_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    path = tmp_path / "job.json"
    path.write_text('{"command": ["x"], "inputs": ["data"]}')
    assert [item.path for item in spec_of_file(path).task.inputs] == ["data"]


def test_a_missing_input_of_a_job_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("command: [x]\ninputs:\n- data\n")
    with pytest.raises(BadJob, match=r"line 3, inputs\[0\]: data does not exist"):
        spec_of_file(path)


def test_a_budget_is_for_the_whole_job() -> None:
    spec = _spec("x", max_price="0.5", budget="2")
    assert (spec.max_price, spec.budget) == (500_000, 2_000_000)


def test_a_secret_comes_from_any_variable_or_file_the_person_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"of a file")
    monkeypatch.setenv("ANY_NAME", "of a variable")
    spec = _spec("x", secrets=(f"KEY=file:{tmp_path / 'elsewhere'}",), secret_variable=("TOKEN=env:ANY_NAME",))
    assert spec.secrets == (
        OpenSecret("KEY", b"of a file"),
        OpenSecret("TOKEN", b"of a variable", variable=True),
    )
    assert spec.task.secrets == ()


@pytest.mark.parametrize("text", ["TOKEN=hunter2", "TOKEN=pass:hunter2"])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(click.BadParameter, match="env:VARIABLE or file:PATH") as caught:
        _spec("x", secrets=(text,))
    assert "hunter2" not in str(caught.value)
