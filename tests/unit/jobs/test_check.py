"""Job documents are checked completely: every problem, with its field, line and rule, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.jobs.check import check, job_of, load
from dms.jobs.document import GpuNeed, InputFile, JobDocument, SecretSource
from dms.jobs.problems import BadJob, Problem
from dms.jobs.source import parse
from dms_proto.capability import JobClass
from dms_proto.work import ExecBy


def _check(text: str) -> JobDocument:
    return check(parse(text.encode(), "job.yaml"), "job.yaml")


def _problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(BadJob) as caught:
        _check(text)
    assert caught.value.code == "bad_job"
    return caught.value.problems


COMPLETE = """\
name: train
executor: sandbox
command: [python3, train.py, --epochs, "3"]
resources:
  cpu: 2.5
  memory: 4GiB
  disk: 10GB
  gpus:
    - {vendor: nvidia, model: A100, memory: 20GiB, share: 0.5}
inputs:
  - data.csv
  - {path: src, as: code}
  - {dataset: photos, as: in/photos}
outputs: ["out/*.bin"]
checkpoint: state
ports: [8080, 9090]
names: true
egress: ["pypi.org:443"]
exec: granted
env: {EPOCHS: 3, VERSION: 1.10, DEBUG: yes}
secrets: {TOKEN: {env: DMS_SECRET_TOKEN, as: variable}, KEY: {file: client.key}}
count: 4
together: true
node: lab-3
cache: false
constraints: ["link.rtt_ms < 50.0"]
preferences: {price: 50, speed: 50}
rank: "offer.cpu_score"
max_price: 0.00001
deadline: 2h
timeouts: {queue: 5m, run: 90s, grace: 500ms}
limits: {log: 1MiB, processes: 10, fuel: 0}
retry: {job_failures: 1, node_faults: 3}
verify: {policy: none, copies: 3, comparator: hash, apart: nodes}
priority: 7
class: interactive
labels: {zone: lab}
libraries: [numpy==2.0]
architecture: x86_64
cpu_score: 900
isolation: namespaces
country: NO
relayed: false
bids_wanted: 5
budget: 8
pricing: first-price
comparator: mine
wait_for_nodes: 30s
"""


def test_every_field_can_be_written() -> None:
    job = _check(COMPLETE)
    assert job.command == ("python3", "train.py", "--epochs", "3")
    assert job.resources.gpus == (GpuNeed("nvidia", "A100", "20GiB", "0.5"),)
    assert job.inputs == ("data.csv", InputFile("src", "code"), InputFile(as_="in/photos", dataset="photos"))
    assert job.secrets == {
        "TOKEN": SecretSource(env="DMS_SECRET_TOKEN", as_="variable"),
        "KEY": SecretSource(file="client.key"),
    }
    assert job.class_ is JobClass.INTERACTIVE
    assert job.ports == (8080, 9090)
    assert job.names
    assert job.egress == ("pypi.org:443",)
    assert job.exec is ExecBy.GRANTED
    assert job.country == "NO"
    assert job.max_price == "0.00001", "kept as written: printed again it would be 1e-05"
    assert set(JobDocument.__struct_fields__) - {"module", "image", "pull"} == {
        line.split(":")[0].replace("class", "class_") for line in COMPLETE.splitlines() if line[0] != " "
    }, "the example names every field but those of wasm jobs and of containers"


def test_a_value_in_a_document_is_not_repeated_in_the_message() -> None:
    for value in ("hunter2", "20250401", "[hunter2]"):
        assert value.strip("[]") not in "".join(
            problem.rule for problem in _problems(f"command: x\nsecrets: {{A: {value}}}")
        )


def test_environment_values_are_taken_as_written() -> None:
    assert _check(COMPLETE).env == {"EPOCHS": "3", "VERSION": "1.10", "DEBUG": "yes"}


def test_arguments_are_taken_as_written() -> None:
    assert _check("command: [sleep, 3, 1.10, yes, true]").command == ("sleep", "3", "1.10", "yes", "true")


def test_what_is_right_is_checked_beside_what_is_wrong() -> None:
    text = "command: x\nmodule: m\nresources: {memory: lots}\noutputs: [/abs]\nenv: {A-B: 1}\ncount: many"
    assert [problem.field for problem in _problems(text)] == [
        "module",
        "resources.memory",
        "outputs[0]",
        "env",
        "count",
    ]
    assert [problem.field for problem in _problems("executor: 3\noutputs: [/abs]")] == ["executor", "outputs[0]"]


def test_a_command_may_be_a_shell_line() -> None:
    assert _check("command: echo hi | wc -c").command == "echo hi | wc -c"


@pytest.mark.parametrize(
    ("text", "line", "field", "rule"),
    [
        ("comand: x", 1, "comand", "did you mean 'command'?"),
        ("command: x\nresources:\n  memry: 1GiB", 3, "resources.memry", "did you mean 'memory'?"),
        ("command: x\nzzz: 1", 2, "zzz", "known here: architecture, bids_wanted"),
        ("command: x\nverify: {policy: twice}", 2, "verify.policy", "adaptive"),
        ("command: x\nverify: {policy: replicate, copies: 1}", 2, "verify.copies", ">= 2"),
        ("command: x\nverify: {comparator: json}", 2, "verify.comparator", "nothing to compare under the policy none"),
        (
            "command: x\ncount: 2\ntogether: true\nverify: {policy: replicate}",
            3,
            "together",
            "independent allocations only",
        ),
        ("command: x\ncount: 1001\nverify: {policy: adaptive}", 3, "verify.policy", "at most 1000 allocations"),
        (
            "command: x\nverify: {policy: adaptive}\nsecrets: {A: {env: DMS_SECRET_A}}",
            2,
            "verify.policy",
            "would show them to every node",
        ),
        ("command: x\nresources:\n  memory: lots", 3, "resources.memory", "a size such as 512MiB"),
        ("command: x\nresources:\n  cpu: -1", 3, "resources.cpu", "a number of cores"),
        ("command: x\nresources:\n  cpu: 0", 3, "resources.cpu", "more than 0"),
        ("command: x\nresources:\n  cpu: 0.0001", 3, "resources.cpu", "finer than"),
        ("command: x\nresources:\n  memory: true", 3, "resources.memory", "a quantity wanted"),
        ("command: x\nresources:\n  gpus:\n  - {share: 1.5}", 4, "resources.gpus[0].share", "a part of one GPU"),
        (
            "command: x\nresources:\n  gpus:\n  - {share: 0.5}",
            4,
            "resources.gpus[0].memory",
            "says how much of its memory",
        ),
        ("command: x\nresources:\n  gpus:\n  - {share: 500m}", 4, "resources.gpus[0].share", "a part of one GPU"),
        ("command: x\nresources:\n  gpus: 2", 3, "resources.gpus", "Expected `array`"),
        ("command: x\nresources: 4GiB", 2, "resources", "a mapping of fields wanted"),
        ("command: x\ntimeouts:\n  run: 10 parsecs", 3, "timeouts.run", "a duration"),
        ("command: x\nmax_price: free", 2, "max_price", "an amount of credits"),
        ("command: x\ncount: 0", 2, "count", ">= 1"),
        ("command: x\ncount: many", 2, "count", "Expected `int`"),
        ("command: x\nclass: fast", 2, "class", "not one of batch, interactive, service"),
        ("command: x\ncountry: Norway", 2, "country", "found 'Norway'"),
        ("command: x\nenv:\n  A: [1]", 3, "env.A", "Expected `str`"),
        ("command: x\nenv:\n  A-B: 1", 3, "env", "'A-B' is not a name"),
        ("command: x\nsecrets:\n  A: hunter2", 3, "secrets.A", "say where it is: {env: DMS_SECRET_A} or {file: PATH}"),
        ("command: x\nsecrets:\n  A: 12345", 3, "secrets.A", "say where it is"),
        ("command: x\nsecrets:\n  A-B: {file: f}", 3, "secrets", "'A-B' is not a name"),
        ("command: x\ninputs:\n  - {path: a, dataset: b}", 3, "inputs[0]", "either a `path` or a `dataset`"),
        ("command: x\ncache: true\nsecrets:\n  A: {env: DMS_SECRET_A}", 2, "cache", "does not go with secrets"),
        ("command: x\nsecrets:\n  A: {}", 3, "secrets.A", "either `env` or `file`"),
        ("command: x\nsecrets:\n  A: {env: DMS_SECRET_A, file: f}", 3, "secrets.A", "either `env` or `file`"),
        ("command: x\nsecrets:\n  A: {file: f, as: argument}", 3, "secrets.A.as", "found 'argument'"),
        ("command: x\nenv: {A: b}\nsecrets:\n  A: {file: f, as: variable}", 4, "secrets.A", "a variable of that name"),
        ("command: x\nlabels:\n  a: 1", 3, "labels.a", "Expected `str`"),
        ("command: [a,\n  [1]]", 2, "command[1]", "Expected `str`"),
        ("command: x\ninputs:\n- {as: y}", 3, "inputs[0]", "either a `path` or a `dataset`"),
        ("command: x\ninputs:\n- 3", 3, "inputs[0]", "a mapping of fields wanted, 3 found"),
        ("command: x\noutputs:\n- a\n- ../b", 4, "outputs[1]", "leaves the job's directory"),
        ("command: x\noutputs: [/etc/passwd]", 2, "outputs[0]", "leaves the job's directory"),
        ("name: x", 1, "command", "a job needs a command"),
        ("executor: wasm", 1, "module", "needs the module's file"),
        ("executor: wasm\nmodule: a.wasm\ncommand: run it", 3, "command", "there is no shell"),
        ("command: x\nmodule: a.wasm", 2, "module", "only wasm jobs"),
        ("executor: python\ncommand: main.py", 2, "command", "there is no shell"),
        ("executor: python\nports: [80]", 2, "ports", "only jobs of sandbox and oci have ports"),
        ("executor: python\nmodule: a.wasm", 2, "module", "only wasm jobs"),
        ('command: ["a\\0b"]', 1, "command", "NUL"),
        ("- command: x", 1, "", "a mapping of fields wanted, a list found"),
        ("just text", 1, "", "a mapping of fields wanted"),
    ],
)
def test_a_broken_rule_is_named_with_field_and_line(text: str, line: int, field: str, rule: str) -> None:
    (problem,) = _problems(text)
    assert (problem.line, problem.field) == (line, field)
    assert rule in problem.rule


def test_all_problems_are_told_at_once_in_order_of_lines() -> None:
    problems = _problems("count: 0\nresources:\n  cpu: x\n  memory: y\nnmae: z\ncommand: 3")
    assert [(problem.line, problem.field) for problem in problems] == [
        (1, "count"),
        (3, "resources.cpu"),
        (4, "resources.memory"),
        (5, "nmae"),
        (6, "command"),
    ]


def test_the_message_of_one_problem_is_one_line_and_names_the_next_step() -> None:
    with pytest.raises(BadJob) as caught:
        _check("command: x\ncount: 0")
    assert caught.value.message == "job.yaml: line 2, count: Expected `int` >= 1, found 0"
    assert "dms job schema" in caught.value.hint


def test_a_job_built_from_flags_obeys_the_same_rules() -> None:
    assert job_of({"command": ["true"], "count": 2}).count == 2
    with pytest.raises(BadJob, match=r"command line: resources\.cpu: 'x' is not a number of cores"):
        job_of({"command": ["true"], "resources": {"cpu": "x"}})


def test_a_job_is_named_after_its_file_when_it_has_no_name(tmp_path: Path) -> None:
    path = tmp_path / "hello.yaml"
    path.write_text("command: x")
    assert load(path).document.name == "hello"


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_a_bad_job(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadJob, match="cannot be read"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ("executor: oci\ncommand: [x]\n", "image", "needs an image"),
        ("executor: oci\nimage: Not An Image\n", "image", "no name of an image"),
        ("image: busybox\ncommand: [x]\n", "image", "only oci jobs have an image"),
        ("pull: always\ncommand: [x]\n", "pull", "only oci jobs pull an image"),
        ("executor: oci\nimage: busybox\nmodule: a.wasm\n", "module", "only wasm jobs"),
        ("executor: oci\nimage: busybox\npull: sometimes\n", "pull", "always, if-not-present, never"),
    ],
)
def test_what_is_wrong_with_a_container_is_told(document: str, field: str, words: str) -> None:
    with pytest.raises(BadJob) as caught:
        _check(document)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert words in problem.rule


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ("egress: ['pypi.org:443', pypi.org]\ncommand: [x]\n", "egress[1]", "'pypi.org' is no HOST:PORT"),
        ("egress: ['a:65536']\ncommand: [x]\n", "egress[0]", "a port is at most 65535"),
        ("executor: wasm\nmodule: m.wasm\negress: ['a:1']\n", "egress", "the executor is 'wasm'"),
        ("names: true\ncommand: [x]\n", "names", "declare in `ports` what"),
        ("names: true\nexecutor: python\ncommand: [x]\n", "names", "the executor is 'python'"),
        ("names: true\nports: [80]\ncount: 252\ncommand: [x]\n", "names", "listen for 251 ports of others, 250"),
        ("names: true\nports: [80]\ncommand: [x]\nverify: {policy: replicate}\n", "names", "would go by one name"),
        ("egress: ['a:1']\nlimits: {egress: many}\ncommand: [x]\n", "limits.egress", "'many'"),
    ],
)
def test_what_is_wrong_with_the_ways_out_is_told(document: str, field: str, words: str) -> None:
    with pytest.raises(BadJob) as caught:
        _check(document)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert words in problem.rule


def test_a_container_may_run_what_its_image_runs() -> None:
    assert _check("executor: oci\nimage: ghcr.io/lab/tool:1\n").command == ()
