"""Every command explains itself, is listed, and costs nothing until it is used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from dms.cli.app import COMMANDS, cli
from dms.cli.commands.events import query
from dms.cli.exit_codes import EXIT_CODES, exit_code_of
from dms.node.api.events import STREAMS
from dms_proto.errors import CODES

HEAVY = {
    "asyncio",
    "aiohttp",
    "msgspec",
    "yaml",
    "rich",
    "cel",
    "pykka",
    "trio",
    "libp2p",
    "aiosqlite",
    "cryptography",
    "platformdirs",
    "logging",
}
CONTEXT = click.Context(cli)


def _commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


ALL = list(_commands())
LEAVES = [(path, command) for path, command in ALL if not isinstance(command, click.Group)]


def _name(case: object) -> str:
    return " ".join(case) if isinstance(case, tuple) else ""


def test_the_commands_are_these() -> None:
    assert sorted(" ".join(path) for path, _ in LEAVES) == [
        "account accept", "account deposit", "account disputes", "account export", "account forgive", "account limit",
        "account settle", "account show", "account statement", "account tabs", "account verify",
        "alloc cancel", "alloc exec", "alloc list", "alloc logs", "alloc resize", "alloc show", "ask", "audit export", "audit verify", "bids",
        "completion", "data add", "data get", "data list", "data remove", "data show", "devnet", "doctor", "down",
        "events follow", "events query", "events verify", "forward",
        "grant anchor add", "grant anchor list", "grant anchor remove", "grant create", "grant delegate", "grant forget", "grant inspect",
        "grant keep", "grant list", "grant revoke", "help",
        "identity export", "identity protect", "identity restore", "identity rotate", "identity show", "identity unprotect", "identity verify",
        "invite",
        "job cancel", "job decision", "job exec",
        "job explain", "job get", "job list", "job logs", "job schema", "job show", "job submit", "job wait",
        "join", "node benchmark", "node capability", "node id", "node pause", "node resume", "node status", "onboard",
        "peers ban", "peers list", "peers ping", "peers show", "pool list", "pool show", "prefs get", "prefs presets", "prefs set", "price suggest",
        "run", "service call", "service explain", "service install", "service list", "service remove",
        "service start", "service stop", "sim", "status", "task kinds", "task run", "task show", "token", "trace", "up", "version",
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=_name)
def test_every_command_has_a_sentence_and_an_example(path: tuple[str, ...], command: click.Command) -> None:
    text = command.help or ""
    assert text.split("\n")[0].endswith((".", ":")), path
    assert f"dms {path[-1] if path == ('node', 'status') else ' '.join(path)}" in text, (
        f"{path} shows no example of itself"
    )


@pytest.mark.parametrize(("path", "command"), ALL, ids=_name)
def test_every_option_is_explained(path: tuple[str, ...], command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts[0]}"


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=_name)
def test_every_command_takes_home_and_json(path: tuple[str, ...], command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    if path[0] in ("devnet", "sim", "help", "completion"):
        return  # they print no result of their own
    assert {"--home", "--json"} <= options


def test_all_that_events_may_be_about_is_named() -> None:
    (about,) = (parameter for parameter in query.params if "--about" in parameter.opts)
    assert isinstance(about, click.Option)
    assert set(STREAMS) <= set(re.findall(r"\w+", about.help or ""))


def test_what_costs_has_a_dry_run() -> None:
    for path in (("run",), ("ask",), ("job", "submit"), ("job", "get"), ("node", "benchmark"), ("prefs", "set")):
        command = dict(ALL)[path]
        assert "--dry-run" in {option for parameter in command.params for option in parameter.opts}, path


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    listed = {name: entry.about for section in COMMANDS.values() for name, entry in section.items()}
    for name, about in listed.items():
        command = cli.get_command(CONTEXT, name)
        assert command is not None
        assert about.endswith(".")
        assert len(about) < 70
        if isinstance(command, click.Group):
            assert command.help == about


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_help_can_be_asked_for_both_ways(path: tuple[str, ...]) -> None:
    by_topic = CliRunner().invoke(cli, ["help", *path], prog_name="dms")
    assert by_topic.exit_code == 0
    assert by_topic.output.startswith(f"Usage: dms {' '.join(path)}")
    if path[0] in ("devnet", "sim"):
        return  # their --help is that of the module they start
    assert CliRunner().invoke(cli, [*path, "--help"], prog_name="dms").output == by_topic.output


def test_exit_codes_are_documented() -> None:
    text = CliRunner().invoke(cli, ["help", "exit-codes"]).output
    for code in EXIT_CODES:
        assert f"{code:>4}  " in text


def test_every_error_code_has_an_exit_code_that_is_documented() -> None:
    assert {exit_code_of(code) for code in CODES} <= set(EXIT_CODES)
    assert exit_code_of("bad_job") == 2
    assert exit_code_of("node_not_running") == 1


def test_a_mistyped_command_is_told_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["statsu"])
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.output
    assert CliRunner().invoke(cli, ["help", "nothing"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status", "--bogus", "--json"], 2, "No such option '--bogus'"),
        (["run", "--json"], 125, "What shall be run?"),
        (["run", "--json", "--cpu"], 125, "requires an argument"),
        (["statu", "--json"], 2, "Did you mean 'status'?"),
        (["--json"], 2, "No such option"),
        (["account", "export", "--csv", "--json"], 2, "choose one"),
    ],
)
def test_a_mistake_is_told_in_json_to_who_asked_for_json(arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(cli, arguments, prog_name="dms")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, error["code"], said in error["message"]) == (code, "bad_argument", True), error


def test_a_json_option_of_somebody_else_is_not_ours() -> None:
    result = CliRunner().invoke(cli, ["run", "--bogus", "--", "x", "--json"], prog_name="dms")
    assert result.stderr.startswith("Usage: dms run ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_for_dms(shell: str) -> None:
    output = CliRunner().invoke(cli, ["completion", shell]).output
    assert "_DMS_COMPLETE" in output


def _loaded_by(*arguments: str) -> set[str]:
    program = f"""
import sys, json, contextlib, io
from dms.cli.app import cli
with contextlib.redirect_stdout(io.StringIO()):
    try:
        cli({list(arguments)!r}, prog_name="dms")
    except SystemExit:
        pass
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "line", ["--help", "run --help", "job --help", "job submit --help", "status --help", "help exit-codes"]
)
def test_help_imports_nothing_heavy(line: str) -> None:
    assert not HEAVY & _loaded_by(*line.split())


def test_asking_a_node_that_is_not_there_imports_no_server_and_no_terminal() -> None:
    loaded = _loaded_by("status", "--home", "/nonexistent/dms")
    assert not {"asyncio", "aiohttp", "rich", "yaml", "trio", "pykka", "prompt_toolkit"} & loaded
    assert not {name for name in loaded if name.startswith(("dms.node", "dms.net", "dms.store", "dms_actors"))}


def test_reading_a_job_imports_no_terminal_library() -> None:
    loaded = _loaded_by("job", "submit", "/nonexistent.yaml", "--home", "/nonexistent/dms")
    assert not {"asyncio", "aiohttp", "rich", "prompt_toolkit", "typer", "trio"} & loaded


def test_the_version_is_said_by_option_and_by_command() -> None:
    option, command = (CliRunner().invoke(cli, [word]).output.split() for word in ("--version", "version"))

    assert option[1] == command[1]
