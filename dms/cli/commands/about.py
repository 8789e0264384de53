"""dms version, dms help, dms completion."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import click

from dms.cli.app import CONTEXT, cli
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import EXIT_CODES

SHELLS = ("bash", "zsh", "fish")


@click.command(context_settings=CONTEXT)
@with_io
def version(io: Io) -> None:
    """The version of dms.

    \b
    dms version --json
    """
    from importlib.metadata import version as installed  # noqa: PLC0415
    from platform import python_version  # noqa: PLC0415

    if io.as_json:
        io.show_json({"dms": installed("dms"), "python": python_version()})
    else:
        io.line(f"dms {installed('dms')} (Python {python_version()})")


@click.command("help", context_settings=CONTEXT)
@click.argument("topic", nargs=-1, metavar="[COMMAND | exit-codes]")
@click.pass_context
def help_(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Help on a command, or on exit-codes.

    \b
    dms help job submit
    dms help exit-codes
    """
    if topic == ("exit-codes",):
        for code, meaning in EXIT_CODES.items():
            click.echo(click.wrap_text(meaning, 100, f"{code:>4}  ", "      "))
        return
    assert ctx.parent is not None
    context: click.Context = ctx.parent
    command: click.Command = cli
    for name in topic:
        found = command.get_command(context, name) if isinstance(command, click.Group) else None
        if found is None:
            raise click.UsageError(f"There is no command {' '.join(topic)!r}. dms --help lists them.")
        command = found
        context = click.Context(command, parent=context, info_name=name)
    click.echo(command.get_help(context))


help = help_  # noqa: A001 - the command's name


@click.command(context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """A script for your shell that completes dms commands.

    \b
    dms completion bash > ~/.local/share/bash-completion/completions/dms
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "dms", "_DMS_COMPLETE").source())
