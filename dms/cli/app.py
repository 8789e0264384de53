"""The top of the command line: every command by name and one line, loaded when used, so that `dms --help` is instant."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Entry(NamedTuple):
    """Where a command is, and its line in the list."""

    module: str
    about: str


COMMANDS: Final[dict[str, dict[str, Entry]]] = {
    "Start": {
        "onboard": Entry("onboard", "Make this machine a node: identity, measurement, offer."),
        "up": Entry("up", "Start the node."),
        "down": Entry("up", "Stop the node."),
        "join": Entry("peers", "Join a market with an invitation."),
        "invite": Entry("peers", "Print an invitation to this node's market."),
        "token": Entry("token", "Print or replace the bearer tokens for HTTP."),
        "doctor": Entry("doctor", "Check everything a node needs, and say what to fix."),
    },
    "Work": {
        "run": Entry("run", "Run a command somewhere good, as if it ran here."),
        "task": Entry("task", "Run a kind of task by its name and parameters."),
        "job": Entry("job", "Submit jobs, see why they run where they do, fetch results."),
        "ask": Entry("ask", "Ask what every node would answer to a job, without running it."),
        "service": Entry("service", "Services: install and offer them, call those of others."),
        "pool": Entry("pool", "What this node keeps warm for calls, and why calls went where."),
        "forward": Entry("forward", "Lead a port of this machine to one that a job declares."),
        "data": Entry("data", "Datasets of this node: added once, named in jobs."),
        "alloc": Entry("alloc", "Single runs, here for others and elsewhere for you."),
    },
    "Market": {
        "bids": Entry("bids", "Bids made and received."),
        "price": Entry("price", "What the node's history says about its prices."),
        "prefs": Entry("prefs", "How bids are compared for your jobs."),
        "account": Entry("account", "What this node and its peers owe each other."),
        "peers": Entry("peers", "Other nodes: list, show, ping, ban."),
        "grant": Entry("grant", "Signed permissions: who may ask whom for work."),
    },
    "Look": {
        "status": Entry("node", "The node at a glance."),
        "node": Entry("node", "The node: status, capability, benchmark, identity."),
        "identity": Entry("identity", "The key of this node: protect, replace, export, restore, verify."),
        "events": Entry("events", "Everything that happened: query, follow, verify."),
        "trace": Entry("events", "The story of one job, step by step."),
        "audit": Entry("audit", "Proof of what was agreed, run and owed: export, verify."),
        "version": Entry("about", "The version of dms."),
        "help": Entry("about", "Help on a command, or on exit-codes."),
        "completion": Entry("about", "A script for your shell that completes dms commands."),
    },
    "Try": {
        "devnet": Entry("devnet", "A whole market on this machine."),
        "sim": Entry("devnet", "A simulated market under faults."),
    },
}


_JSON: Final = f"{__name__}.json"


def _asks_for_json(args: Sequence[str]) -> bool:
    """Whether ``--json`` stands among our own options: after ``--`` comes somebody else's command line."""
    return "--json" in args[: args.index("--")] if "--" in args else "--json" in args


@contextmanager
def _usage_errors_told(*, as_json: bool) -> Iterator[None]:
    """A mistake in options and arguments is an error like any other, where errors are read by programs."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        if not as_json:
            raise
        from dms.cli.context import Failure  # noqa: PLC0415 - only for a mistake
        from dms_proto.errors import UserError  # noqa: PLC0415

        hint = f"{error.ctx.command_path} --help" if error.ctx is not None else ""
        told = UserError("bad_argument", error.format_message(), hint=hint)
        raise Failure(told, as_json=True, exit_code=error.exit_code) from None


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, and tells mistakes in JSON to who asked for JSON."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parses up to the command's name."""
        as_json = _asks_for_json(args)
        with _usage_errors_told(as_json=as_json):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_JSON] = as_json
        return context

    def invoke(self, ctx: click.Context) -> Any:  # what the command returns
        """Parses the rest, and runs."""
        with _usage_errors_told(as_json=ctx.meta[_JSON]):
            return super().invoke(ctx)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All names, in the order they are shown."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command called `name`, imported now."""
        for section in COMMANDS.values():
            if name in section:
                command = getattr(import_module(f"dms.cli.commands.{section[name].module}"), name.replace("-", "_"))
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` name, or an error with the nearest name."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped name

            close = get_close_matches(name, self.list_commands(ctx), n=1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands by section, without importing them."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.about) for name, entry in section.items()], col_max=14)


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.option("--home", metavar="DIR", help="Directory of the node. Default: $DMS_HOME, else your data directory.")
@click.version_option(package_name="dms", message="%(prog)s %(version)s", help="The version of dms.")
def cli(home: str | None) -> None:
    """A node of a peer-to-peer compute market: run work on other machines, and theirs on yours.

    \b
    First steps:  dms onboard    dms up -d    dms run -- echo hello
    """


class Group(click.Group):
    """A group that shows each command's whole first sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in found if command])


def group(name: str, about: str) -> click.Group:
    """An ordinary group of commands, with our settings."""
    return Group(name, help=about, context_settings=CONTEXT)
