"""Io: what every command needs of the world, and how what goes wrong becomes one line and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click

from dms.cli.exit_codes import INTERRUPTED, exit_code_of
from dms.early import begun, interrupt_or_leave
from dms_proto.errors import DmsError

if TYPE_CHECKING:
    from dms.cli.blocks import Block
    from dms.config.paths import Home
    from dms.rpc.client import Client

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class Failure(click.ClickException):
    """A `DmsError` as the command line tells it: what, why, next step, on one line."""

    def __init__(self, error: DmsError, *, as_json: bool, exit_code: int | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.as_json = as_json
        # Declared by click as belonging to the class, and read from the instance.
        self.__dict__["exit_code"] = exit_code_of(error.code) if exit_code is None else exit_code

    def show(self, file: Any = None) -> None:
        """Writes it to standard error."""
        if self.as_json:
            import json  # noqa: PLC0415

            error = self.error
            fields = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
            click.echo(json.dumps({"error": fields}), err=True)
            return
        from dms.cli.blocks import clean  # noqa: PLC0415

        # A list of problems keeps its lines; anything else stays on one, whatever a peer wrote into it.
        lines = [clean(line) for line in self.error.message.split("\n")]
        hint = f"; {clean(self.error.hint)}" if self.error.hint else ""
        click.echo(
            "\n".join([f"dms: {lines[0]}", *(f"  {line.strip()}" for line in lines[1:])])
            + f" [{self.error.code}]{hint}",
            err=True,
        )


class Io:
    """What a command is given: where the node lives, how to print, whom to ask.

    Attributes:
        as_json: whether the output is JSON.
    """

    def __init__(self, home: str | None, *, as_json: bool) -> None:
        self._home = home
        self.as_json = as_json

    @functools.cached_property
    def home(self) -> Home:
        """The node's directory."""
        from dms.config.paths import resolve_home  # noqa: PLC0415

        return resolve_home(self._home)

    def node(self, *, timeout: float = 30.0) -> Client:
        """A connection to the running node.

        Raises:
            UserError: `not_onboarded`, `node_not_running`.
        """
        from dms.rpc.client import Client  # noqa: PLC0415
        from dms_proto.errors import UserError  # noqa: PLC0415

        try:
            return Client(self.home.socket, timeout=timeout)
        except UserError:
            if not self.home.exists():
                raise UserError(
                    "not_onboarded", f"{self.home.root} holds no node yet", hint="dms onboard makes one"
                ) from None
            raise

    def names(self, node: Client) -> Mapping[str, str]:
        """What the peers of the node are called, by PeerID; nothing where the output is for programs."""
        if self.as_json:
            return {}
        from dms.rpc.api.peers import PeerList  # noqa: PLC0415

        return {peer.peer_id: peer.name for peer in node.call("peers.list", None, PeerList).peers}

    def show(self, value: V, render: Callable[[V], Iterable[Block]]) -> None:
        """Prints a result: as JSON when asked for, in colour on a terminal, else as plain text."""
        if self.as_json:
            self.show_json(value)
        else:
            self.blocks(render(value))

    def show_json(self, value: object) -> None:
        """Prints any value as indented JSON."""
        import msgspec  # noqa: PLC0415

        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())

    def blocks(self, blocks: Iterable[Block]) -> None:
        """Prints blocks."""
        if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
            from dms.cli.terminal import show  # noqa: PLC0415

            show(blocks)
            return
        from dms.cli.text import plain  # noqa: PLC0415

        for line in plain(blocks):
            click.echo(line)

    def line(self, text: str) -> None:
        """Prints one line for a person; nothing when the output is JSON."""
        if not self.as_json:
            from dms.cli.blocks import Line  # noqa: PLC0415

            self.blocks([Line(text)])

    def remark(self, *texts: str) -> None:
        """Says something beside the output, a line each on standard error; nothing when the output is JSON."""
        if self.as_json or not texts:
            return
        from dms.cli.blocks import clean  # noqa: PLC0415

        for text in texts:
            click.echo(f"dms: {clean(text)}", err=True)

    def fail(self, error: DmsError, *, exit_code: int | None = None) -> NoReturn:
        """Ends the command with an error.

        Raises:
            Failure: always.
        """
        raise Failure(error, as_json=self.as_json, exit_code=exit_code)


def with_io(function: Callable[Concatenate[Io, P], R]) -> Callable[P, R]:
    """Gives a command `--home` and `--json`, an `Io` as its first argument, and error handling."""

    @click.option("--home", metavar="DIR", help="Directory of the node. Default: $DMS_HOME, else your data directory.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        context = click.get_current_context()
        given = kwargs.pop("home")
        inherited = context.find_root().params.get("home")
        io = Io(_text(given) or _text(inherited), as_json=bool(kwargs.pop("as_json")))
        try:
            begun(interrupt_or_leave)
            return function(io, *args, **kwargs)
        except DmsError as error:
            io.fail(error, exit_code=getattr(context.command, "failure_exit_code", None))
        except KeyboardInterrupt:
            click.echo(err=True)
            raise SystemExit(INTERRUPTED) from None

    return command


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def existing(path: str) -> Path:
    """A path a person typed, as a `Path`."""
    return Path(path).expanduser()
