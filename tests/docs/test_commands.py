"""Every command line that the pages show is one: dms commands parse, make targets exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import click
import pytest

from dms.cli.app import cli
from dms.node.commands import _parser
from dms.node.doctor import CHECKS

sys.path.insert(0, str(Path(__file__).parent))

from .pages import PAGES, ROOT, commands, inline, name_of

_OPERATORS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}
_PLACEHOLDERS = {"…": "x"}
DMS = [(page, line) for page, line in commands() if re.search(r"(^|[|&;] ?)dms ", line)]


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def options_of(module: str) -> str:
    return subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout


def split(line: str) -> list[list[str]]:
    """The single commands of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for token in lexer:
        if token in _OPERATORS:
            found.append([])
        else:
            found[-1].append(token)
    return found


def parse(arguments: list[str]) -> None:
    """Parses as the command line would, without running anything."""
    command: click.Command = cli
    context = click.Context(cli, info_name="dms")
    rest = list(arguments)
    while isinstance(command, click.Group):
        assert rest, f"{context.command_path} needs a command"
        name = rest.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{context.command_path} has no command {name}"
        if isinstance(found, click.Group):
            context = click.Context(found, info_name=name, parent=context)
        command = found
    if arguments[0] in ("devnet", "sim"):
        known = options_of(f"dms.{arguments[0]}")
        assert all(word in known for word in rest if word.startswith("--"))
        return
    try:
        command.make_context(command.name, list(rest), parent=context)
    except click.exceptions.Exit:
        return  # --help
    if arguments[0] == "onboard" and "--" in rest:
        _parser().parse_args(["onboard", *rest[rest.index("--") + 1 :]])


@pytest.mark.parametrize(("page", "line"), DMS, ids=[f"{page}: {line}" for page, line in DMS])
def test_a_dms_line_parses(page: str, line: str) -> None:
    for words in split(line):
        if words[:1] == ["dms"]:
            parse(words[1:])


def test_there_are_dms_lines_to_parse() -> None:
    assert len(DMS) > 80


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_dms_command_named_in_a_sentence_exists(page: Path) -> None:
    for text in inline(page):
        if not re.match(r"dms [a-z]", text):
            continue
        context = click.Context(cli, info_name="dms")
        command: click.Command = cli
        words = text.split()[1:]
        while words and isinstance(command, click.Group):
            found = command.get_command(context, words[0])
            assert found is not None, text
            command = found
            words = words[1:]
        own, _, _ = " ".join(words).partition("-- ")
        known = {option for parameter in command.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in own.split() if word.startswith("-") and word != "--"}
        assert given <= known or command.name in ("devnet", "sim"), text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"^\$ make ([a-z]+)", text, re.MULTILINE)) | set(re.findall(r"`make ([a-z]+)`", text))
    assert named <= targets()


def test_the_entry_points_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    for target in ("demo", "test", "setup"):
        assert f"make {target}" in readme
        assert target in targets()


def test_a_wrong_line_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(["job", "submit", "--nonsense", "x.yaml"])
    with pytest.raises(AssertionError):
        parse(["job", "explian", "r-abc"])
    with pytest.raises(SystemExit):
        parse(["onboard", "--", "--nonsense"])


@cache
def texts() -> dict[str, Path]:
    """Every string of the sources, with a file in which it stands."""
    return {
        node.value: path
        for room in ("dms", "actors", "proto")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_hints_and_docstrings_name_commands_that_exist() -> None:
    missing = {"config"}  # a hint of dms/config/loading.py
    named = {name: path for text, path in texts().items() for name in re.findall(r"(?:`|^)dms ([a-z]+)", text)}
    unknown = {name: path for name, path in named.items() if cli.get_command(click.Context(cli), name) is None}
    assert set(unknown) <= missing, unknown


def test_hints_name_checks_of_the_doctor_that_exist() -> None:
    named = {
        check: path for text, path in texts().items() for check in re.findall(r"(?:`|^)dms doctor --only (\w+)", text)
    }
    assert "peers" in named
    assert {check: path for check, path in named.items() if check not in CHECKS} == {}
