"""dms identity: the key of the node, its names, and their proof."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, existing, with_io

if TYPE_CHECKING:
    from dms.config.export import Export
    from dms.config.key_file import Passphrase
    from dms_proto.lineage import PublicIdentity

identity: Final = group("identity", "The key of this node: protect, replace, export, restore, verify.")

PASSPHRASE_FILE: Final = click.option(
    "--passphrase-file",
    metavar="FILE",
    callback=lambda _context, _option, value: existing(value) if value else None,
    help="Take the passphrase from the first line of FILE instead of asking.",
)


@identity.command(context_settings=CONTEXT)
@with_io
def show(io: Io) -> None:
    """All names of this node, how often its key was replaced, and whether a passphrase protects it. Needs no running node.

    \b
    dms identity show --json > me.json
    """
    from dms.cli.views import identity as views  # noqa: PLC0415
    from dms.config.identity import is_protected, read_names  # noqa: PLC0415

    protected = is_protected(io.home) if io.home.exists() else False
    io.show(read_names(io.home), lambda names: views.own(names, protected=protected))


@identity.command(context_settings=CONTEXT)
@PASSPHRASE_FILE
@click.option("--keyring", is_flag=True, help="Draw a passphrase and keep it in this system's keyring.")
@with_io
def protect(io: Io, *, passphrase_file: Path | None, keyring: bool) -> None:
    """Encrypt the key under a passphrase, or change the passphrase. The running node is not disturbed.

    At its next start the node needs the passphrase: from identity.passphrase_file, identity.passphrase_command, the keyring, or typed.

    \b
    dms identity protect
    dms identity protect --passphrase-file /etc/dms/passphrase
    """
    from dms.config.identity import load, protect  # noqa: PLC0415
    from dms.config.passphrase import chosen, into_keyring  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    if keyring and passphrase_file is not None:
        raise UserError("bad_argument", "--keyring draws a passphrase: give it or --passphrase-file, not both")
    node = load(io.home)
    new = into_keyring(node.node_id.uuid) if keyring else chosen(passphrase_file, "New passphrase: ")
    protect(io.home, node, new)
    _tell(
        io,
        node.public(),
        f"the key is encrypted under the passphrase from {new.source}; without it the node does not start",
    )


@identity.command(context_settings=CONTEXT)
@with_io
def unprotect(io: Io) -> None:
    """Leave the key unencrypted, protected by its file's mode alone.

    \b
    dms identity unprotect
    """
    from dms.config.identity import load, protect  # noqa: PLC0415

    node = load(io.home)
    protect(io.home, node, None)
    _tell(io, node.public(), "the key is not encrypted any more: whoever can read its file is this node")


@identity.command(context_settings=CONTEXT)
@click.argument("file")
@PASSPHRASE_FILE
@with_io
def export(io: Io, *, file: str, passphrase_file: Path | None) -> None:
    """Write the identity to one encrypted file: key, names, successions. It does not hold the node's history.

    \b
    dms identity export dms-identity.json
    """
    from dms.config.export import export  # noqa: PLC0415

    names = export(io.home, existing(file), _chosen(passphrase_file))
    _tell(io, names, f"{file} holds {names.peer_id}; it is of no use without its passphrase")


@identity.command(context_settings=CONTEXT)
@click.argument("file")
@PASSPHRASE_FILE
@with_io
def restore(io: Io, *, file: str, passphrase_file: Path | None) -> None:
    """Make an empty home the home of an exported identity. The key stays under the passphrase of the file.

    \b
    dms identity restore dms-identity.json --home /srv/dms
    """
    from dms.config.export import restore  # noqa: PLC0415
    from dms.config.passphrase import given  # noqa: PLC0415

    names = restore(io.home, _read(file), given(passphrase_file, f"Passphrase of {file}: "))
    _tell(io, names, f"{io.home.root} holds {names.peer_id}; next: dms onboard")


@identity.command(context_settings=CONTEXT)
@with_io
def rotate(io: Io) -> None:
    """Give the node a new key. It stays the same node: a record signed by both keys says so to its peers.

    The node must be down, and nothing may be under way. Invitations that were given out end: they name the old key.

    \b
    dms down
    dms identity rotate
    """
    from dms.cli.node_process import become, command  # noqa: PLC0415

    become(command("rotate", io.home, *(["--json"] if io.as_json else [])))


@identity.command(context_settings=CONTEXT)
@click.argument("file")
@with_io
def verify(io: Io, *, file: str) -> None:
    """Check all names and successions in FILE (- for standard input) from what it says alone: an export, or what `show --json` printed.

    \b
    dms identity verify them.json
    """
    from dms.cli.views import identity as views  # noqa: PLC0415

    io.show(_read(file).public(), views.verified)


def _chosen(file: Path | None) -> Passphrase:
    from dms.config.passphrase import chosen  # noqa: PLC0415

    return chosen(file, "Passphrase of the export: ")


def _read(file: str) -> Export:
    """The identity in a file, checked; - is standard input."""
    from dms.config.export import MAX_BYTES, read  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        with click.open_file(file, "rb") as stream:
            return read(stream.read(MAX_BYTES), file)
    except OSError as error:
        raise UserError("bad_identity", f"{file} cannot be read: {error.strerror}") from error


def _tell(io: Io, names: PublicIdentity, said: str) -> None:
    if io.as_json:
        io.show_json(names)
    else:
        io.line(said)
