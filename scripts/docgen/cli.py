"""The reference of the command line, read from the commands."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click

from dms.cli.app import COMMANDS, cli
from dms.cli.exit_codes import EXIT_CODES, FAILURE, exit_code_of
from dms_proto.errors import CODES

from .text import cell, code, page, table

PASSED_ON = {
    ("devnet",): "dms.devnet",
    ("sim",): "dms.sim",
    ("onboard",): "dms.node onboard",
}
"""Commands that hand their options to another program, whose options are listed as well."""


def every_command() -> Iterator[tuple[click.Context, click.Command]]:
    """Every command with its context, groups before what is in them."""
    yield from _walk(cli, click.Context(cli, info_name="dms"))


def reference() -> str:
    """The page."""
    sections = [
        "| | |\n| --- | --- |\n"
        + "\n".join(
            f"| **{title}** | " + " ".join(f"[`{name}`](#dms-{name})" for name in names) + " |"
            for title, names in COMMANDS.items()
        )
    ]
    sections += [_section(context, command) for context, command in every_command() if context.parent]
    about = (
        "Every command takes `--home DIR` (default: `$DMS_HOME`, else your data directory) and `--json`; both are left out below. "
        "Ids may be shortened as long as they are unique. What the exit codes mean is on [their own page](exit-codes.md)."
    )
    return page("Command line", about, *sections)


def exit_codes() -> str:
    """The page of exit codes."""
    usage = [name for name in CODES if exit_code_of(name) != FAILURE]
    return page(
        "Exit codes",
        "What `dms` returns to the shell. `dms help exit-codes` prints the same.",
        table(("code", "meaning"), [(str(number), meaning) for number, meaning in EXIT_CODES.items()]),
        "Error codes that lead to 2: "
        + ", ".join(f"[`{name}`](errors.md#{name})" for name in usage)
        + ". All others lead to 1, and to 125 in `dms run`.",
    )


def undocumented() -> list[str]:
    """Commands and options without a word about them."""
    wrong = []
    for context, command in every_command():
        path = context.command_path
        if not (command.help or "").strip():
            wrong.append(f"{path} has no help")
        options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
        wrong += [f"{path} {option.opts[0]} has no help" for option in options if not option.help]
    return wrong


def _walk(command: click.Command, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk(inner, click.Context(inner, info_name=name, parent=context))


def _section(context: click.Context, command: click.Command) -> str:
    path = context.command_path
    depth = "##" if path.count(" ") == 1 else "###"
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"{depth} {path}", f"```text\n{usage}\n```", _prose(command)]
    if isinstance(command, click.Group):
        names = command.list_commands(context)
        parts.append("Commands: " + ", ".join(f"[`{name}`](#{path.replace(' ', '-')}-{name})" for name in names))
    else:
        records = [
            record
            for parameter in command.params
            if isinstance(parameter, click.Option)
            and parameter.name not in ("home", "as_json", "help")
            and (record := parameter.get_help_record(context))
        ]
        names = tuple(path.split()[1:])
        records += _passed_on(PASSED_ON[names]) if names in PASSED_ON else []
        if names == ("onboard",):
            parts.append("These stand after `--`, as in `dms onboard -- --quick`:")
        if records:
            parts.append(table(("option", "meaning"), [(code(left), right) for left, right in records]))
    return "\n\n".join(part for part in parts if part)


def _prose(command: click.Command) -> str:
    """The help text; what click keeps as it is (after a backspace) is code."""
    text = inspect.cleandoc(command.help or "")
    prose, marker, kept = text.partition("\b\n")
    shown = " ".join(prose.split())
    return (
        f"{shown}\n\n```console\n" + "\n".join(f"$ {line}" for line in kept.strip().splitlines()) + "\n```"
        if marker
        else shown
    )


def _passed_on(program: str) -> list[tuple[str, str]]:
    """The options of an argparse program, read from its help."""
    done = subprocess.run(
        [sys.executable, "-m", *program.split(), "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"},
    )  # fmt: skip
    found = re.findall(r"^ {2}(-[^\n]*?)(?: {2,}|\n {6,})(\S[^\n]*)$", done.stdout, re.MULTILINE)
    return [
        (option, cell(meaning))
        for option, meaning in found
        if not option.startswith("-h") and option.split()[0] not in ("--home", "--json")
    ]
