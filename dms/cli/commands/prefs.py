"""dms prefs: how bids are compared for the owner's jobs."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dms.cli.blocks import Block
    from dms_proto.market.preferences import Preferences

prefs: Final = group("prefs", "How bids are compared for your jobs.")


@prefs.command(context_settings=CONTEXT)
@with_io
def get(io: Io) -> None:
    """Print the preferences in force.

    \b
    dms prefs get --json > prefs.json
    """
    from dms_proto.market.preferences import Preferences  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("node.get_preferences", None, Preferences), _blocks)


@prefs.command("set", context_settings=CONTEXT)
@click.argument("what", metavar="PRESET | FILE")
@click.option("--dry-run", is_flag=True, help="Check only.")
@with_io
def set_(io: Io, *, what: str, dry_run: bool) -> None:
    """Set the preferences: a preset, or a YAML or JSON file with constraints, weights, rank, spread_percent and comparator.

    \b
    dms prefs set cheapest
    dms prefs set prefs.yaml --dry-run
    """
    from dms.rpc.api.node import PreferencesParams  # noqa: PLC0415
    from dms_proto.market.preferences import PRESETS, Preferences  # noqa: PLC0415

    chosen = PRESETS[what]() if what in PRESETS else _read(Path(what))
    with io.node() as node:
        io.show(node.call("node.set_preferences", PreferencesParams(chosen, dry_run), Preferences), _blocks)


@prefs.command(context_settings=CONTEXT)
@with_io
def presets(io: Io) -> None:
    """List the presets and what each weighs.

    \b
    dms prefs presets
    """
    from dms.cli.blocks import Line, Table  # noqa: PLC0415
    from dms_proto.market.preferences import PRESETS  # noqa: PLC0415

    if io.as_json:
        io.show_json({name: make() for name, make in PRESETS.items()})
        return
    rows = [(name, (make.__doc__ or "").strip(), _weights(make())) for name, make in PRESETS.items()]
    io.blocks([Table(("PRESET", "MEANS", "WEIGHTS"), rows), Line("dms prefs set PRESET", "dim")])


def _read(path: Path) -> Preferences:
    import msgspec  # noqa: PLC0415

    from dms.jobs.problems import nearest  # noqa: PLC0415
    from dms.jobs.source import parse  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.market.preferences import PRESETS, Preferences  # noqa: PLC0415

    if not path.is_file():
        raise UserError(
            "bad_argument",
            f"{path} is neither a preset nor a file; {nearest(str(path), PRESETS)}",
            hint="dms prefs presets",
        )
    try:
        return msgspec.convert(parse(path.read_bytes(), str(path)).plain(), Preferences)
    except msgspec.ValidationError as error:
        raise UserError("bad_argument", f"{path}: {error}", hint="dms prefs get --json shows the form") from error


def _blocks(found: Preferences) -> Iterator[Block]:
    from dms.cli.blocks import Box  # noqa: PLC0415

    yield Box(
        "Preferences",
        (
            ("weights", _weights(found)),
            *(("constraint", rule) for rule in found.constraints),
            ("rank", found.rank or "none"),
            *((("comparator", found.comparator),) if found.comparator else ()),
            ("spread", f"bids within {found.spread_percent}% of the best share the wins"),
        ),
    )


def _weights(found: Preferences) -> str:
    return (
        ", ".join(f"{name} {weight:g}" for name, weight in sorted(found.weights.items(), key=lambda item: -item[1]))
        or "none"
    )
