"""`python -m dms.node onboard|up|doctor|rotate|verify-accounts`: what the `dms` command starts, since it imports nothing heavy itself."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from dms import early
from dms.config.paths import Home, require_private, resolve_home
from dms_proto.errors import DmsError, UserError

if TYPE_CHECKING:
    from dms.rpc.api.accounts import LedgerReport


def main(arguments: list[str] | None = None) -> int:
    """Runs one of these; returns the exit code: 0, 1 for a failure, 2 for a wrong request."""
    options = _parser().parse_args(arguments)
    try:
        early.begun()
        result: int = options.run(options)
    except DmsError as error:
        _fail(error, as_json=options.json)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dms.node", description=__doc__)
    commands = parser.add_subparsers(required=True)
    onboard = commands.add_parser("onboard", help="make this machine a node")
    onboard.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="a setting to write")
    onboard.add_argument("--quick", action="store_true", help="measure for one second instead of six")
    onboard.add_argument("--no-benchmark", action="store_true", help="do not measure; the CPU score stays unknown")
    onboard.add_argument("--again", action="store_true", help="measure and register anew")
    onboard.set_defaults(run=_onboard)
    up = commands.add_parser("up", help="run the node until it is told to stop")
    up.add_argument("--quiet", action="store_true", help="log to the file only")
    up.set_defaults(run=_up)
    doctor = commands.add_parser("doctor", help="check what can be checked without a running node")
    doctor.set_defaults(run=_doctor)
    rotate = commands.add_parser("rotate", help="give the node, which must not run, a new key")
    rotate.set_defaults(run=_rotate)
    accounts = commands.add_parser("verify-accounts", help="check the accounts of the node, which must not run")
    accounts.set_defaults(run=_verify_accounts)
    for command in (onboard, up, doctor, rotate, accounts):
        command.add_argument("--home", help="the node's directory")
        command.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _onboard(options: argparse.Namespace) -> int:
    from dms.node.onboard import onboard  # noqa: PLC0415 - each command imports what it needs

    chosen: dict[str, Any] = {}
    for setting in options.set:
        key, separator, value = setting.partition("=")
        if not separator:
            raise UserError("bad_argument", f"--set {setting!r} is not SECTION.FIELD=VALUE")
        chosen[key] = _value(value)

    def report(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    done = asyncio.run(
        onboard(
            resolve_home(options.home),
            chosen=chosen,
            quick=options.quick,
            again=options.again,
            measure=not options.no_benchmark,
            report=report,
        )
    )
    if options.json:
        print(msgspec.json.encode(done).decode())
    else:
        for note in done.notes:
            print(f"note      {note}")
        print(f"onboarded {done.home}\nnext: `dms up -d`, then `dms run -- echo hello`")
    return 0


def _value(text: str) -> Any:
    """A setting's value: JSON where it is JSON (numbers, true, lists), otherwise the text itself. TOML knows no null."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if value is None else value


def _up(options: argparse.Namespace) -> int:
    from dms.net.launching import launch  # noqa: PLC0415

    def ready(line: str) -> None:
        print(json.dumps({"ready": True, "message": line}) if options.json else line, flush=True)

    home = resolve_home(options.home)
    _check_startable(home)
    with launch() as launched:  # loads libp2p while this process loads the rest
        from dms.config.identity import load  # noqa: PLC0415
        from dms.node.up import up  # noqa: PLC0415

        identity = load(home)
        asyncio.run(up(home, identity, foreground=not options.quiet, ready=ready, launched=launched))
    return 0


def _check_startable(home: Home) -> None:
    """What refuses most starts, and is seen at once: then libp2p is not loaded for nothing. Whatever takes longer is found out beside it.

    Raises:
        UserError: `not_onboarded`, `bad_config`.
        MachineError: `home_in_use`.
    """
    from dms.store.lock import StoreLock  # noqa: PLC0415

    if not home.identity_names.exists():
        from dms.config.identity import read_names  # noqa: PLC0415

        read_names(home)  # says what is missing
    require_private(home.root)
    StoreLock.acquire(home.events).release()


def _doctor(options: argparse.Namespace) -> int:
    from dms.node.doctor import main as doctor  # noqa: PLC0415

    return doctor(resolve_home(options.home), as_json=options.json)


def _rotate(options: argparse.Namespace) -> int:
    from dms.node.rotation import rotate_key  # noqa: PLC0415

    names = asyncio.run(rotate_key(resolve_home(options.home)))
    if options.json:
        print(msgspec.json.encode(names).decode())
    else:
        old = names.successions[-1].old
        print(f"{old} is {names.peer_id} from now on, and still the node {names.uuid}")
        print("its peers are told when it starts: `dms up -d`")
    return 0


def _verify_accounts(options: argparse.Namespace) -> int:
    from dms.config.identity import read_names  # noqa: PLC0415
    from dms.node.api.accounts import ledger_report  # noqa: PLC0415
    from dms.node.stopped import open_stopped  # noqa: PLC0415

    home = resolve_home(options.home)

    async def report() -> LedgerReport:
        async with await open_stopped(home) as store:
            return await ledger_report(store, read_names(home).peer_id)

    print(msgspec.json.encode(found := asyncio.run(report())).decode())
    return 0 if found.is_right else 1


def _fail(error: DmsError, *, as_json: bool) -> None:
    if as_json:
        told = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
        print(json.dumps({"error": told}), flush=True)
    else:
        print(f"dms: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
