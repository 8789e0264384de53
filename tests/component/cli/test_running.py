"""dms run and dms job: output streams, the exit code is the job's, files come back, ctrl-C cancels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commands import Dms
from dms.testing.node_jobs import Script
from dms_proto.ids import short
from dms_proto.work import Ending, EndReason

Start = Callable[[Sequence[Script]], Dms]
NEVER_RAN = Ending(EndReason.PROVIDER_LOST, -1, "the node went away")


def test_a_command_prints_what_the_job_prints_and_nothing_else(dms: Dms) -> None:
    result = dms("run", "--", "echo", "hello")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


def test_both_streams_and_raw_bytes_pass_through(dms_with: Start) -> None:
    script = Script(logs=((0, "stdout", b"a\x00\xff"), (0, "stderr", b"oops\n"), (0, "stdout", b"b")))
    result = dms_with([script])("run", "--", "x")
    assert (result.stdout_bytes, result.stderr) == (b"a\x00\xffb", "oops\n")


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (Ending(EndReason.EXIT_NONZERO, 3), 3),
        (Ending(EndReason.EXIT_NONZERO, 2), 2),
        (Ending(EndReason.KILLED_BY_SIGNAL, 137), 137),
        (Ending(EndReason.OUT_OF_MEMORY, 137), 137),
        (NEVER_RAN, 125),
    ],
)
def test_the_exit_code_is_the_jobs_own(dms_with: Start, ending: Ending, code: int) -> None:
    assert dms_with([Script(endings=(ending,))])("run", "--", "x").exit_code == code


def test_of_several_allocations_the_first_that_failed_decides(dms_with: Start) -> None:
    script = Script(
        logs=((0, "stdout", b"one\ntw"), (1, "stdout", b"uno\n"), (0, "stdout", b"o\n")),
        endings=(Ending(EndReason.COMPLETED, 0), Ending(EndReason.EXIT_NONZERO, 7)),
    )
    result = dms_with([script])("run", "--count", "2", "--", "x")
    assert result.exit_code == 7
    assert result.stdout == "[0] one\n[0] tw[1] uno\no\n"
    assert result.stderr.startswith(
        "dms: 1 of 2 slots failed: slot 1: exit nonzero (requester), exit code 7; dms job show r-"
    )


def test_of_many_that_failed_a_few_are_named(dms_with: Start) -> None:
    result = dms_with([Script(endings=(Ending(EndReason.EXIT_NONZERO, 1),))])("run", "--count", "7", "--", "x")
    assert "7 of 7 slots failed" in result.stderr
    assert "slot 4: exit nonzero (requester), exit code 1, and 2 more; " in result.stderr


def test_a_job_nobody_takes_says_why_and_exits_with_125(dms_with: Start) -> None:
    result = dms_with([Script(runs=False, reason=EndReason.IMPOSSIBLE)])("run", "--", "x")
    assert result.exit_code == 125
    assert result.stderr.startswith(
        "dms: the job did not run: impossible (requester): no known node would bid; dms job explain r-"
    )


def test_a_job_that_was_ended_says_why_unless_told_to_be_quiet(dms_with: Start) -> None:
    ending = Ending(EndReason.OUT_OF_MEMORY, 137, "memory limit 32 MiB, used 32 MiB")
    dms = dms_with([Script(endings=(ending,)), Script(endings=(ending,))])
    result = dms("run", "--", "x")
    assert (result.exit_code, result.stdout) == (137, "hello\n")
    assert result.stderr.startswith("dms: the job was ended: out of memory (requester)")
    assert "dms job show r-" in result.stderr
    assert dms("run", "-q", "--", "x").stderr == ""


def test_a_job_that_exits_with_125_itself_did_run(dms_with: Start) -> None:
    result = dms_with([Script(endings=(Ending(EndReason.EXIT_NONZERO, 125),))])("run", "--", "x")
    assert (result.exit_code, result.stderr) == (125, "")


def test_what_dms_itself_cannot_do_is_125_for_run(dms: Dms) -> None:
    for arguments in (
        ["--cpu", "x", "--", "y"],
        ["--nope"],
        [],
        ["-e", "broken", "--", "y"],
        ["-i", "gone.csv", "--", "y"],
    ):
        assert dms("run", *arguments).exit_code == 125, arguments


def test_options_after_the_command_belong_to_it(dms: Dms) -> None:
    dms("run", "ls", "--json", "-q")
    (view,) = dms.served.on_loop(lambda node: list(node.views.values()))
    assert view.spec.task.command == ("ls", "--json", "-q")


def test_flags_become_the_job(dms: Dms, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")
    result = dms(
        "run", "--cpu", "1500m", "--memory", "1GiB", "--disk", "1GiB", "--gpus", "2", "--gpu-memory", "8GiB", "-i", f"{data}=in/d.csv",
        "-o", "*.out", "-e", "A=b=c", "--time", "90s", "--queue", "5m", "--wait", "1m", "--deadline", "1h", "--max-price", "0.02",
        "--prefer", "cheapest", "--require", "!link.relayed", "-l", "zone=lab", "--priority", "3", "--name", "n", "--", "prog", "arg",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (view,) = dms.served.on_loop(lambda node: list(node.views.values()))
    spec = view.spec
    assert spec.task.command == ("prog", "arg")
    assert (
        spec.needs.resources.cpu_millicores,
        len(spec.needs.resources.gpus),
        spec.needs.resources.gpus[0].memory_bytes,
    ) == (1500, 2, 8 * 2**30)
    assert [item.path for item in spec.task.inputs] == ["in/d.csv"]
    assert (spec.task.environment, spec.task.outputs, spec.task.limits.wall_ms) == ({"A": "b=c"}, ("*.out",), 90_000)
    assert (spec.queue_ms, spec.patience_ms, spec.deadline_ms, spec.max_price) == (300_000, 60_000, 3_600_000, 20_000)
    assert (spec.needs.labels, spec.priority, spec.name, spec.constraints) == (
        {"zone": "lab"},
        3,
        "n",
        ("!link.relayed",),
    )
    assert spec.preferences is not None
    assert spec.preferences.weights == {"price": 100.0}


def test_json_prints_every_update_as_a_line(dms: Dms) -> None:
    updates = [json.loads(line) for line in dms("run", "--json", "--", "x").stdout.splitlines()]
    assert [update["type"] for update in updates] == ["progress", "slot", "log", "ended"]
    assert [update["id"] for update in updates] == [1, 2, 3, 4]


def test_outputs_are_brought_and_never_replace_what_is_there(dms_with: Start, tmp_path: Path) -> None:
    script = Script(files={"out/a.txt": b"new", "b.txt": b"b"})
    dms = dms_with([script] * 5)
    into = tmp_path / "results"
    run = ("run", "-o", "**", "--into", str(into), "--", "x")
    assert dms(*run).exit_code == 0
    assert (into / "out" / "a.txt").read_bytes() == b"new"
    assert sorted(path.name for path in into.rglob("*") if path.is_file()) == ["a.txt", "b.txt"], "no drafts are left"
    assert dms(*run).exit_code == 0, "equal files are no conflict"
    (into / "b.txt").write_text("mine")
    refused = dms(*run)
    assert refused.exit_code == 124, "not the 125 of a job that never ran: it has run and was paid"
    job = list(dms.served.on_loop(lambda node: node.views))[-1]
    assert refused.stderr.startswith(f"dms: job {short(job)} was handed over, but {into / 'b.txt'} is already there")
    assert refused.stderr.endswith(f"; dms job get {job} --into DIR brings its files\n")
    assert (into / "b.txt").read_text() == "mine"
    assert dms("run", "--force", *run[1:]).exit_code == 0
    assert (into / "b.txt").read_bytes() == b"b"


def test_what_stands_in_the_way_of_results_is_told_before_the_job_is_paid(dms: Dms, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "r.txt").touch()
    for arguments, said in (
        (("--into", str(tmp_path / "file")), "results cannot be put into"),
        (("--into", str(tmp_path / "file" / "below")), "results cannot be put into"),
        (("--into", str(tmp_path), "-o", "file"), "file is already there"),
        (("--into", str(tmp_path), "-o", "r.txt", "--count", "2"), "1/r.txt is already there"),
    ):
        refused = dms("run", "-o", "*", *arguments, "--", "x")
        assert (refused.exit_code, said in refused.stderr) == (125, True), refused.stderr
    assert dms.served.on_loop(lambda node: len(node.specs)) == 0
    assert dms("run", "-o", "file", "--force", "--into", str(tmp_path), "--", "x").exit_code == 0


def test_an_output_that_no_file_matches_is_named(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(files={"a/b.txt": b"x"})] * 3)
    run = ("run", "-o", "a/*", "-o", "a", "-o", "c.txt", "--into", str(tmp_path), "--", "x")
    said = "dms: no file matches the output 'a'; the files of a directory are a/**\ndms: no file matches the output 'c.txt'\n"
    assert (result := dms(*run)).stderr == said
    assert result.exit_code == 0
    assert dms("run", "-q", *run[1:]).stderr == ""
    several = dms("run", "--count", "2", *run[1:])
    assert "no file matches the output 'a' in 2 slots of 2;" in several.stderr


def test_results_of_several_allocations_get_directories_of_their_own(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(files={"r.txt": b"x"})])
    job = dms.submit(tmp_path, "command: [x]\ncount: 2\noutputs: [r.txt]")
    assert dms("job", "get", job, "--dry-run").stdout.count("r.txt") == 2
    assert not (tmp_path / "got").exists()
    assert dms("job", "get", job, "--into", str(tmp_path / "got")).exit_code == 0
    assert [(tmp_path / "got" / slot / "r.txt").read_bytes() for slot in "01"] == [b"x", b"x"]


def test_a_result_cannot_leave_its_directory(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(files={"../evil": b"x"})])
    job = dms.submit(tmp_path)
    result = dms("job", "get", job, "--into", str(tmp_path / "got"))
    assert result.exit_code == 2
    assert not (tmp_path / "evil").exists()


def test_a_job_without_files_says_so(dms: Dms, tmp_path: Path) -> None:
    assert dms("job", "get", dms.submit(tmp_path)).stdout == "no files\n"


def test_the_files_of_a_job_that_is_not_over_are_not_all(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(holds=True), Script(files={"a": b"x"})])
    job = dms.submit(tmp_path)
    result = dms("job", "get", job)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"dms: job {short(job)} is not over, and has left 0 files so far [not_found]")
    over = dms.submit(tmp_path, "command: [x]\noutputs: [a, b]")
    result = dms("job", "get", over, "--into", str(tmp_path / "got"))
    assert (result.exit_code, result.stderr) == (
        0,
        "dms: no file matches the output 'b'; the files of a directory are b/**\n",
    )


def test_submitting_prints_the_id_alone(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path)
    assert job.startswith("r-")
    assert len(job) == 28


def test_submit_and_follow_is_like_run(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(endings=(Ending(EndReason.EXIT_NONZERO, 4),))])
    path = tmp_path / "job.yaml"
    path.write_text("command: [x]")
    result = dms("job", "submit", str(path), "--follow")
    assert (result.exit_code, result.stdout) == (4, "hello\n")


def test_a_malformed_job_file_is_told_in_full_and_nothing_is_sent(dms: Dms, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("comand: [x]\nresources:\n  memory: lots\n")
    result = dms("job", "submit", str(path))
    assert result.exit_code == 2
    assert result.stderr == (
        f"dms: {path} has 2 problems:\n"
        "  line 1, comand: no such field; did you mean 'command'?\n"
        "  line 3, resources.memory: 'lots' is not a size such as 512MiB or 4GiB [bad_job]; dms job schema lists every field\n"
    )
    assert dms.served.on_loop(lambda node: len(node.specs)) == 0


@pytest.mark.parametrize(
    "command", [("run", "--dry-run", "--", "x"), ("ask", "--", "x"), ("ask", "--dry-run", "--", "x")]
)
def test_asking_runs_nothing(dms: Dms, command: tuple[str, ...]) -> None:
    result = dms(*command)
    assert result.exit_code == 0
    assert "1 bid" in result.stdout
    assert "lower memory" in result.stdout
    assert dms.served.on_loop(lambda node: len(node.specs)) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("typo.yaml",), "typo.yaml: cannot be read: No such file or directory"),
        (("nofile.json",), "nofile.json: cannot be read: No such file or directory"),
        (("gpu.json", "--", "echo"), "gpu.json is taken for a job file, and nothing follows one"),
        (("--cpu", "8", "gpu.json"), "--cpu describes a command after --; gpu.json is a job file"),
        (("-l", "a=b", "gpu.json"), "--label describes a command after --"),
    ],
)
def test_what_looks_like_a_job_file_is_never_priced_as_a_program(
    dms: Dms, arguments: tuple[str, ...], said: str
) -> None:
    result = dms("ask", *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_after_dashes_a_command_may_be_called_anything(dms: Dms) -> None:
    assert dms("ask", "--cpu", "1", "--", "job.yaml").exit_code == 0
    assert dms("ask", "--", "job.json", "--", "x").exit_code == 0


def test_asking_for_what_nobody_has_exits_with_1(dms: Dms, tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("command: [x]\nresources: {memory: 64GiB}")
    for command in (
        ("ask", str(path)),
        ("ask", "--memory", "64GiB", "--", "x"),
        ("job", "submit", str(path), "--dry-run"),
    ):
        result = dms(*command)
        assert result.exit_code == 1, command
        assert " bid " not in result.stdout


def test_logs_are_printed_as_they_are(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(logs=((0, "stdout", b"out\xff\n"), (0, "stderr", b"err\n")))])
    job = dms.submit(tmp_path)
    assert dms("job", "logs", job).stdout_bytes == b"out\xff\n"
    assert dms("job", "logs", "-f", "--stderr", job).stdout == "err\n"


def test_logs_of_several_slots_are_lines_that_say_whose_they_are(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(logs=((0, "stdout", b"one\n"), (1, "stdout", b"two\n")))])
    job = dms.submit(tmp_path, "command: [x]\ncount: 2")
    result = dms("job", "logs", job)
    assert (result.stdout, result.stderr) == ("[0] one\n[1] two\n", "")
    result = dms("job", "logs", job, "--slot", "1")
    assert (result.stdout, result.stderr) == ("two\n", "")


def test_logs_of_an_allocation_are_followed_and_begin_where_they_shall(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script()])
    dms.submit(tmp_path)
    (allocation,) = dms.json("alloc", "list")["allocations"]
    id_ = allocation["allocation_id"]
    assert dms("alloc", "logs", "-f", "--since", "1h", id_).stdout == "hello\n"
    for option in (("-f",), ("--since", "now")):
        result = dms("alloc", "logs", *option, "--from", "alpha", id_)
        assert result.exit_code == 2
        assert "not for --from" in result.stderr
    assert dms("alloc", "logs", "--since", "soon", id_).exit_code == 2


def test_cancelling_says_whether_it_was_in_time(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(holds=True)])
    job = dms.submit(tmp_path)
    assert dms("job", "cancel", job).stdout == f"{short(job)} is being cancelled\n"
    assert dms("job", "cancel", job).stdout == f"{short(job)} had already ended\n"


def test_waiting_exits_with_the_jobs_code_or_with_1_when_the_time_is_up(dms_with: Start, tmp_path: Path) -> None:
    dms = dms_with([Script(endings=(Ending(EndReason.EXIT_NONZERO, 9),)), Script(holds=True)])
    assert dms("job", "wait", dms.submit(tmp_path)).exit_code == 9
    assert dms("job", "wait", dms.submit(tmp_path), "--timeout", "50ms").exit_code == 1
    assert dms("job", "wait", "r-", "--timeout", "soon").exit_code == 2


# ------------------------------------------------------------------------------- processes: signals, pipes, restarting nodes


def _start(dms: Dms, *arguments: str, program: str = "", **options: Any) -> subprocess.Popen[bytes]:
    program += "from dms.cli import main; main()"
    env = {**os.environ, "DMS_HOME": str(dms.served.home.root)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **options
    )


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_cancels_the_job_and_waits_for_its_end(dms_with: Start, number: int, code: int) -> None:
    dms = dms_with([Script(holds=True)])
    process = _start(dms, "run", "--", "sleep", "1000")
    assert _first_line(process) == b"hello\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors == b"dms: cancelling; ctrl-C again leaves at once\n"
    assert len(dms.served.on_loop(lambda node: node.cancelled)) == 1


def test_a_second_ctrl_c_leaves_at_once(dms_with: Start) -> None:
    dms = dms_with([Script(holds=True)])
    dms.served.on_loop(lambda node: setattr(node, "deaf", True))
    process = _start(dms, "run", "--", "sleep", "1000")
    assert _first_line(process) == b"hello\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == b"dms: cancelling; ctrl-C again leaves at once\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    (job,) = dms.served.on_loop(lambda node: list(node.views))
    name = short(job)
    assert (
        errors.decode()
        == f"dms: left; {name} may still be running: dms job show {name} tells, dms job cancel {name} stops it\n"
    )


def test_two_signals_at_once_still_cancel_the_job(dms_with: Start) -> None:
    """As a service manager sends them. The second ends `dms run`, but not before the node was asked."""
    dms = dms_with([Script(holds=True)])
    process = _start(dms, "run", "--", "sleep", "1000")
    assert _first_line(process) == b"hello\n"
    for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert dms.served.on_loop(lambda node: len(node.cancelled)) == 1


def test_when_nobody_reads_any_more_the_job_is_cancelled(dms_with: Start) -> None:
    lots = tuple((0, "stdout", b"y\n" * 40_000) for _ in range(20))
    dms = dms_with([Script(logs=((0, "stdout", b"first\n"), *lots), holds=True)])
    process = _start(dms, "run", "--", "yes")
    assert _first_line(process) == b"first\n"
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=20) == 141
    assert len(dms.served.on_loop(lambda node: node.cancelled)) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def _away(seconds: float) -> str:
    """The beginning of a `dms` that waits only so long for a node that is away."""
    return f"from dms.cli import streaming; streaming.RECONNECT_S = {seconds}; "


def test_a_node_that_restarts_is_waited_for_and_nothing_is_printed_twice(dms_with: Start) -> None:
    dms = dms_with([Script(logs=((0, "stdout", b"hello\n"), (0, "stdout", b"again\n")), holds=True)])
    process = _start(dms, "run", "--", "sleep", "1000")
    assert _first_line(process) == b"hello\n"
    assert _first_line(process) == b"again\n"
    dms.served.leave()
    dms.served.come_back()
    (job,) = dms.served.on_loop(lambda node: list(node.views))
    assert dms("job", "cancel", job).exit_code == 0
    output, errors = process.communicate(timeout=20)
    assert output == b""
    assert errors.startswith(b"dms: the job was ended: cancelled (requester)")
    assert process.returncode == 143


def test_ctrl_c_while_the_node_is_away_cancels_when_it_is_back(dms_with: Start) -> None:
    dms = dms_with([Script(holds=True)])
    process = _start(dms, "run", "--", "sleep", "1000")
    assert _first_line(process) == b"hello\n"
    dms.served.leave()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"could not be cancelled" in (told := process.stderr.readline()), told
    assert b"it will be when the node is back, ctrl-C again leaves at once" in told
    dms.served.come_back()
    _, errors = process.communicate(timeout=20)
    assert errors == b"dms: cancelling; ctrl-C again leaves at once\n"
    assert process.returncode == 130
    assert dms.served.on_loop(lambda node: len(node.cancelled)) == 1


@pytest.mark.parametrize(("interrupted", "code"), [(False, 124), (True, 130)])
def test_a_job_whose_node_stays_away_is_named_and_not_taken_for_one_that_never_ran(
    dms_with: Start, interrupted: bool, code: int
) -> None:
    dms = dms_with([Script(holds=True)])
    process = _start(dms, "run", "--", "sleep", "1000", program=_away(3 if interrupted else 0.1))
    assert _first_line(process) == b"hello\n"
    dms.served.leave()
    assert process.stderr is not None
    if interrupted:
        process.send_signal(signal.SIGINT)
        assert b"could not be cancelled" in process.stderr.readline()
    _, errors = process.communicate(timeout=20)
    dms.served.come_back()
    (job,) = dms.served.on_loop(lambda node: list(node.views))
    assert errors.decode().startswith(f"dms: job {short(job)} was handed over, but no node is running")
    assert errors.decode().endswith(f"; dms job wait {job} tells how it ended\n")
    assert process.returncode == code


@pytest.mark.parametrize(("options", "said"), [((), True), (("-q",), False), (("--json",), False)])
def test_standard_input_that_nobody_reads_is_named(dms: Dms, options: tuple[str, ...], said: bool) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    process = _start(dms, "run", *options, "--", "cat", stdin=read)
    os.close(read)
    _, errors = process.communicate(timeout=20)
    os.close(write)
    assert process.returncode == 0
    assert errors == (b"dms: standard input is not given to the job; --input sends it a file\n" if said else b"")


def test_an_empty_standard_input_is_not_worth_a_word(dms: Dms, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as empty:
        process = _start(dms, "run", "--", "cat", stdin=empty)
        assert process.communicate(timeout=20) == (b"hello\n", b"")


def test_a_job_that_waits_says_for_what_even_where_nobody_watches(dms_with: Start) -> None:
    dms = dms_with([Script(waits="2 nodes could do it but are busy")])
    process = _start(dms, "run", "--", "x")
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line.startswith("dms: r-")
    assert "waits: 2 nodes could do it but are busy; dms job explain r-" in line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_following_events_prints_them_as_they_happen_until_ctrl_c(dms: Dms) -> None:
    process = _start(dms, "events", "follow", "--since", "2", "--json")
    assert json.loads(_first_line(process))["id"] == 3
    dms.served.on_loop(lambda node: node._note("node", "SomethingNew", "c-9"))
    assert json.loads(_first_line(process))["kind"] == "SomethingNew"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, b"\n")
