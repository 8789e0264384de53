"""A document and its directory become a spec: integers, digests, and nothing from outside the directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.jobs.check import check, job_of
from dms.jobs.problems import BadJob, Problem
from dms.jobs.resolve import resolve, resolve_file
from dms.jobs.source import parse
from dms.jobs.spec import JobSpec
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Resources
from dms_proto.egress import Egress
from dms_proto.ids import digest_of
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Pricing
from dms_proto.secrets import OpenSecret
from dms_proto.siblings import Names
from dms_proto.units import GIB, HOUR, MIB, MINUTE, SECOND
from dms_proto.work import (
    EGRESS_PROXY_BYTES,
    EXEC_AGENT_BYTES,
    NAMES_KEEPER_BYTES,
    PORT_AGENT_BYTES,
    Limits,
    takes_calls,
)


def _resolve(base: Path, roots: tuple[Path, ...] = (), /, **fields: Any) -> JobSpec:
    return resolve(job_of({"command": ["true"], **fields}), base, roots=roots)


def _problems(base: Path, **fields: Any) -> tuple[Problem, ...]:
    with pytest.raises(BadJob) as caught:
        _resolve(base, **fields)
    return caught.value.problems


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"checkpoint": "/state"}, "'/state' is no place below the job's directory"),
        ({"checkpoint": "../state"}, "no place below the job's directory"),
        ({"checkpoint": "state/*"}, "is a pattern; it is one file or directory"),
        ({"checkpoint": "state", "verify": {"policy": "replicate"}}, "does not go with `verify`"),
        ({"checkpoint": "state", "executor": "python", "command": []}, "takes calls of functions"),
        ({"checkpoint": "state/x", "inputs": ["state"]}, "state is a file, and the directory of state/x as well"),
    ],
)
def test_a_checkpoint_that_nothing_could_go_on_from_is_refused(tmp_path: Path, fields: Any, rule: str) -> None:
    (tmp_path / "state").write_text("0")
    (problem,) = _problems(tmp_path, **fields)
    assert problem.field == "checkpoint"
    assert rule in problem.rule


def test_a_checkpoint_may_take_the_place_of_an_input(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("0")
    spec = _resolve(tmp_path, checkpoint="state", inputs=["state"], retry={"checkpoints": 7})
    assert (spec.task.checkpoint, spec.retry_checkpoints) == ("state", 7)


def test_a_bare_command_gets_sensible_defaults(tmp_path: Path) -> None:
    spec = _resolve(tmp_path)
    assert spec.task.resources == Resources(cpu_millicores=1000, memory_bytes=256 * MIB, disk_bytes=256 * MIB)
    assert spec.task.limits == Limits(wall_ms=10 * MINUTE, grace_ms=2 * SECOND, log_bytes=16 * MIB, processes=256)
    assert spec.needs == Capability(
        resources=spec.task.resources,
        executors=(ExecutorOffer(name="sandbox"),),
        relayed=True,
        job_classes=(JobClass.BATCH,),
        max_wall_ms=10 * MINUTE,
    )
    assert (spec.count, spec.max_price, spec.deadline_ms, spec.patience_ms) == (1, 1_000_000, 0, 0)
    assert (spec.queue_ms, spec.bids_wanted, spec.retry_job_failures, spec.retry_node_faults) == (10 * MINUTE, 0, 2, 5)
    assert spec.preferences is None


@pytest.mark.parametrize(
    ("fields", "agents"),
    [
        ({"ports": [8080]}, PORT_AGENT_BYTES),
        ({"exec": "requester"}, EXEC_AGENT_BYTES),
        ({"ports": [8080], "exec": "requester"}, PORT_AGENT_BYTES + EXEC_AGENT_BYTES),
        ({"egress": ["pypi.org:443"]}, EGRESS_PROXY_BYTES),
        ({"ports": [80], "names": True, "count": 2}, PORT_AGENT_BYTES + NAMES_KEEPER_BYTES),
    ],
)
def test_what_leads_into_the_sandbox_is_asked_for_beside_what_the_job_gets(
    tmp_path: Path, fields: dict[str, Any], agents: int
) -> None:
    """It ran beyond what was reserved: a machine that had promised all of its memory had promised more."""
    spec = _resolve(tmp_path, **fields)
    assert spec.needs.resources.memory_bytes == spec.task.resources.memory_bytes + agents


def test_where_a_job_connects_to_is_asked_for_with_how_much(tmp_path: Path) -> None:
    spec = _resolve(tmp_path, egress=["PyPI.org:443", "pypi.org:443", "*.b:1"], limits={"egress": "2MiB"})
    assert spec.needs.egress == spec.task.egress == Egress(("pypi.org:443", "*.b:1"), 2 * MIB)
    assert _resolve(tmp_path, limits={"egress": "2MiB"}).needs.egress == Egress()


def test_quantities_become_integers_of_their_unit(tmp_path: Path) -> None:
    spec = _resolve(
        tmp_path,
        resources={"cpu": "1500m", "memory": "2GiB", "gpus": [{"vendor": "nvidia", "memory": "1GiB", "share": 0.25}]},
        max_price=0.00001,
        deadline="2h",
        timeouts={"run": "90s", "queue": "0s"},
        isolation="namespaces",
    )
    assert spec.needs.resources.cpu_millicores == 1500
    assert spec.needs.resources.gpus == (Gpu(vendor="nvidia", memory_bytes=GIB, milli=250),)
    assert (spec.max_price, spec.deadline_ms, spec.queue_ms) == (10, 2 * HOUR, 0)
    assert spec.task.limits.wall_ms == spec.needs.max_wall_ms == 90 * SECOND
    assert spec.needs.executors[0].isolation is Isolation.NAMESPACES


def test_a_shell_line_runs_in_a_shell(tmp_path: Path) -> None:
    assert _resolve(tmp_path, command="echo $HOME | wc").task.command == ("/bin/sh", "-c", "echo $HOME | wc")


def test_inputs_are_named_by_content(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"1,2")
    (tmp_path / "run.sh").write_bytes(b"#!")
    (tmp_path / "run.sh").chmod(0o755)
    spec = _resolve(tmp_path, inputs=["data.csv", {"path": "run.sh", "as": "bin/go"}])
    data, script = spec.task.inputs
    assert (data.path, data.digest, data.size, data.executable) == ("data.csv", digest_of(b"1,2"), 3, False)
    assert (script.path, script.executable) == ("bin/go", True)
    assert spec.sources == {data.digest: str(tmp_path / "data.csv"), script.digest: str(tmp_path / "run.sh")}


def test_a_directory_stands_for_every_file_below_it(tmp_path: Path) -> None:
    for name in ("src/b/two.py", "src/one.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [item.path for item in _resolve(tmp_path, inputs=["src"]).task.inputs] == ["src/one.py", "src/b/two.py"]
    moved = _resolve(tmp_path, inputs=[{"path": "src", "as": "code"}]).task.inputs
    assert [item.path for item in moved] == ["code/one.py", "code/b/two.py"]


@pytest.mark.parametrize(
    ("fields", "idle_ms"),
    [({}, 60_000), ({"timeouts": {"idle": "5s"}}, 5_000), ({"timeouts": {"idle": 0}}, 0), ({"command": ["a.py"]}, 0)],
)
def test_python_without_a_command_takes_calls_for_as_long_as_some_come(
    tmp_path: Path, fields: dict[str, Any], idle_ms: int
) -> None:
    task = _resolve(tmp_path, **{"executor": "python", "command": (), **fields}).task
    assert takes_calls(task) is ("command" not in fields)
    assert task.limits.idle_ms == idle_ms


def test_the_module_of_a_wasm_job_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "app.wasm").write_bytes(b"\0asm")
    spec = _resolve(tmp_path, executor="wasm", module="build/app.wasm", command=["--fast"])
    assert spec.task.module == "app.wasm"
    assert [item.path for item in spec.task.inputs] == ["app.wasm"]
    assert spec.task.command == ("--fast",)


def test_a_missing_input_is_told_with_its_line(tmp_path: Path) -> None:
    places = parse(b"command: x\ninputs:\n  - here\n  - gone.csv\n", "job.yaml")
    (tmp_path / "here").touch()
    with pytest.raises(BadJob) as caught:
        resolve(check(places, "job.yaml"), tmp_path, origin="job.yaml", places=places)
    assert caught.value.message == "job.yaml: line 4, inputs[1]: gone.csv does not exist"


def test_nothing_outside_the_jobs_directory_is_sent(tmp_path: Path) -> None:
    base = tmp_path / "job"
    base.mkdir()
    (tmp_path / "id_rsa").write_text("secret")
    (base / "innocent").symlink_to(tmp_path / "id_rsa")
    (base / "keys").mkdir()
    (base / "keys" / "inner").symlink_to("../../id_rsa")
    for path in ("innocent", "keys", "../id_rsa", str(tmp_path / "id_rsa")):
        (problem,) = _problems(base, inputs=[path])
        assert "leads outside the job's directory" in problem.rule, path


def test_a_link_within_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (item,) = _resolve(tmp_path, inputs=["link"]).task.inputs
    assert (item.path, item.size) == ("link", 1)


def test_a_path_typed_by_a_person_is_a_root_of_its_own(tmp_path: Path) -> None:
    base = tmp_path / "job"
    base.mkdir()
    other = tmp_path / "other.csv"
    other.write_text("x")
    (item,) = _resolve(base, (other,), inputs=["../other.csv"]).task.inputs
    assert item.path == "other.csv"


def test_a_link_to_a_directory_inside_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "loop").symlink_to(tmp_path)
    (problem,) = _problems(tmp_path, inputs=["src"])
    assert "link to a directory" in problem.rule


def test_a_dangling_link_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    (problem,) = _problems(tmp_path, inputs=["a"])
    assert "link to nothing" in problem.rule


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (problem,) = _problems(tmp_path, inputs=["pipe"])
    assert "not a regular file" in problem.rule


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_input_says_why(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0)
    (problem,) = _problems(tmp_path, inputs=["a"])
    assert "Permission denied" in problem.rule


def test_two_inputs_cannot_have_one_place_unless_they_are_equal(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).write_text(text)
    (problem,) = _problems(tmp_path, inputs=["a", {"path": "b", "as": "a"}])
    assert "a is already another input" in problem.rule
    assert len(_resolve(tmp_path, inputs=["a", {"path": "c", "as": "a"}]).task.inputs) == 1


@pytest.mark.parametrize("place", ["../x", "/abs", "a//b", "a/./b", "x/"])
def test_a_place_outside_the_jobs_own_directory_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "a").write_text("1")
    (problem,) = _problems(tmp_path, inputs=[{"path": "a", "as": place}])
    assert problem.rule == (
        f"{place!r} is no place below the job's directory: "
        "write a path such as data/in.csv, without a leading / and without .."
    )


def test_inputs_larger_than_the_disk_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2048))
    (problem,) = _problems(tmp_path, inputs=["big"], resources={"disk": "1KiB"})
    assert problem.field == "resources.disk"
    assert "less than the inputs" in problem.rule


def test_small_inputs_take_a_block_of_the_disk_each(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).write_bytes(b"1")
    (problem,) = _problems(tmp_path, inputs=list("abcd"), resources={"disk": "15KiB"})
    assert (problem.field, problem.rule) == (
        "resources.disk",
        "15360 bytes are less than the inputs take, 16384 bytes with 4 KiB at least for each file and directory",
    )


def test_inputs_that_cannot_be_laid_out_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (problem,) = _problems(tmp_path, inputs=["a", {"path": "a", "as": "a/b"}])
    assert (problem.field, problem.rule) == ("inputs", "a is a file, and the directory of a/b as well")
    (problem,) = _problems(tmp_path, inputs=[{"path": "a", "as": "x" * 256}])
    assert "has more than 255 bytes" in problem.rule


def test_a_preset_is_its_document(tmp_path: Path) -> None:
    assert _resolve(tmp_path, preferences="cheapest").preferences == Preferences(weights={"price": 100.0})
    assert _resolve(tmp_path, preferences={"speed": 3}).preferences == Preferences(weights={"speed": 3.0})
    ranked = _resolve(tmp_path, rank="offer.cpu_score").preferences
    assert ranked is not None
    assert ranked.rank == "offer.cpu_score"


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"preferences": "cheepest"}, "preferences", "did you mean 'cheapest'?"),
        ({"preferences": {"prize": 1}}, "preferences", "no term 'prize'"),
        ({"preferences": {"price": -1}}, "preferences", "weight of price"),
        ({"constraints": ["link.rtt_ms < 50.0", "offer.nothing == 1"]}, "constraints[1]", "nothing"),
        ({"constraints": ["1 +"]}, "constraints[0]", ""),
        ({"rank": "offer.cpu >"}, "rank", ""),
    ],
)
def test_preferences_that_could_not_be_used_are_refused(
    tmp_path: Path, fields: dict[str, Any], field: str, rule: str
) -> None:
    (problem,) = _problems(tmp_path, **fields)
    assert problem.field == field
    assert rule in problem.rule


def test_constraints_of_node_and_job_both_hold(tmp_path: Path) -> None:
    spec = _resolve(tmp_path, constraints=["!link.relayed"], preferences="cheapest")
    merged = spec.preferences_over(Preferences(constraints=("offer.cpu > 1.0",)))
    assert merged == Preferences(constraints=("offer.cpu > 1.0", "!link.relayed"), weights={"price": 100.0})
    plain = _resolve(tmp_path)
    assert plain.preferences_over(Preferences(weights={"speed": 1.0})) == Preferences(weights={"speed": 1.0})


def test_a_spec_survives_json(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    spec = _resolve(tmp_path, inputs=["a"], resources={"gpus": [{}]}, preferences="fastest", labels={"a": "b"})
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec


def test_an_argument_longer_than_a_message_may_carry_is_refused_here(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, command=["x" * 40_000])
    assert "command" in problem.rule


def test_secrets_are_read_where_the_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client.key").write_bytes(b"\xff of a file")
    monkeypatch.setenv("DMS_SECRET_TOKEN", "of a variable")
    sources = {"KEY": {"file": "client.key"}, "TOKEN": {"env": "DMS_SECRET_TOKEN", "as": "variable"}}
    assert _resolve(tmp_path, secrets=sources).secrets == (
        OpenSecret("KEY", b"\xff of a file"),
        OpenSecret("TOKEN", b"of a variable", variable=True),
    )


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ({"env": "DMS_SECRET_NOT_SET"}, "DMS_SECRET_NOT_SET is not set"),
        ({"env": "AWS_SECRET_ACCESS_KEY"}, "variables that begin with DMS_SECRET_ only"),
        ({"file": "none"}, "none does not exist"),
        ({"file": "link"}, "leads outside"),
        ({"file": "/etc/hostname"}, "leads outside"),
        ({"file": "pipe"}, "not a regular file"),
        ({"file": "long"}, "longer than 16384 bytes"),
        ({"file": "binary", "as": "variable"}, "cannot be a variable"),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_problem_of_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, str], rule: str
) -> None:
    """A job file may come from somebody else: it takes neither this person's other files nor their other variables."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    job = tmp_path / "job"
    job.mkdir()
    (tmp_path / "outside").write_text("hunter2")
    (job / "link").symlink_to(tmp_path / "outside")
    (job / "long").write_bytes(bytes(16_385))
    (job / "binary").write_bytes(b"hunter2\0")
    os.mkfifo(job / "pipe")
    (problem,) = _problems(job, secrets={"S": source})
    assert problem.field == "secrets.S"
    assert rule in problem.rule
    assert "hunter2" not in problem.rule


def test_a_second_price_is_passed_on_with_its_constraints(tmp_path: Path) -> None:
    spec = _resolve(tmp_path, pricing="second-price", constraints=["provider.standing > 0.2"], preferences="cheapest")

    assert spec.pricing is Pricing.SECOND_PRICE


@pytest.mark.parametrize(
    ("field", "value", "way_out"),
    [
        ("count", 2, "jobs of their own"),
        ("verify", {"policy": "replicate", "copies": 3}, "results unchecked"),
        ("constraints", ["price < 0.5"], "max_price"),
        ("preferences", "fastest", "lowest price per work decides"),
        ("rank", "offer.cpu > 2.0 ? 1.0 : 0.0", "lowest price per work decides"),
    ],
)
def test_what_does_not_go_with_a_second_price_is_named(tmp_path: Path, field: str, value: object, way_out: str) -> None:
    (problem,) = _problems(tmp_path, pricing="second-price", **{field: value})

    assert problem.field == field
    assert way_out in problem.rule


@pytest.mark.parametrize("also", ["", "cpu: 2\n"])
def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path, also: str) -> None:
    """What it names is looked at whether or not its text has problems already."""
    (tmp_path / "job.yaml").write_text(
        "command: x\ninputs: [gone, job.yaml, ../out]\nsecrets: {A: {file: none}}\npreferences: best\nconstraints: [a b]\n"
        + also
    )
    with pytest.raises(BadJob) as caught:
        resolve_file(tmp_path / "job.yaml")
    found = [problem.field for problem in caught.value.problems]
    assert found == ["inputs[0]", "inputs[2]", "secrets.A", "preferences", "constraints[0]", *(["cpu"] if also else [])]


def test_names_are_those_of_all_allocations(tmp_path: Path) -> None:
    assert _resolve(tmp_path, names=True, ports=[80], count=3).task.names == Names(0, 3)
    assert not _resolve(tmp_path, ports=[80], count=3).task.names.count
