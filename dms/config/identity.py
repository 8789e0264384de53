"""Who the node is: an Ed25519 key in the home, and the names that follow from it.

::

    identity.key        PKCS#8 PEM, 0600, encrypted if a passphrase protects it (`protect`)
    identity.json       the names, and the successions that prove them: all public
    identity.key.next   only while the key is being replaced (`rotate`)

The key decides: names that do not follow from it are refused. A new key counts from the moment its names are written: a rotation that was cut
short before is as if it had not begun, one that was cut short after is completed by the next `load`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dms.config.key_file import (
    Opened,
    Passphrase,
    is_encrypted,
    move,
    read_key,
    replace,
    sweep,
    write_key,
    write_new,
)
from dms.config.passphrase import passphrases
from dms.config.paths import Home, require_private
from dms_proto import lineage
from dms_proto.errors import UserError
from dms_proto.ids import NodeId
from dms_proto.lineage import PublicIdentity, identity_of
from dms_proto.succession import MAX_SUCCESSIONS, Successions
from dms_proto.wire.signing import Signer


class Identity:
    """The node's key and names. Immutable; safe to share between threads. Its `repr` never shows the key."""

    __slots__ = ("_private", "node_id", "public_key", "successions")

    def __init__(self, private: Ed25519PrivateKey, successions: Successions = ()) -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()
        self.successions = successions
        names = self.public()
        self.node_id = NodeId(names.uuid, names.cid, names.peer_id, names.did)

    def __repr__(self) -> str:
        return f"Identity({self.node_id.peer_id})"

    def public(self) -> PublicIdentity:
        """What anyone may know."""
        return identity_of(self.public_key, self.successions)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `data`."""
        return self._private.sign(data)

    def seed(self) -> bytes:
        """The 32 secret bytes, for the network process, which proves the same PeerID on its connections."""
        return self._private.private_bytes_raw()

    def pem(self, secret: bytes = b"") -> bytes:
        """The key as PKCS#8 PEM, encrypted if `secret` is not empty."""
        return write_key(self._private, secret)


def create(home: Home) -> Identity:
    """Draws a key and writes it with its names; a key without names (a crash in between) is kept and completed.

    Raises:
        UserError: `already_onboarded`: the home holds a node; its key is never overwritten. `bad_config`: it holds names without their key.
        MachineError: `disk_full` or `store_failed`: not written; nothing half done.
    """
    home.prepare()
    if home.is_complete():
        raise UserError("already_onboarded", f"{home.root} already holds a node", hint="dms status shows it")
    check_key_and_names(home)
    if not home.identity_key.exists():
        write_new(home.identity_key, write_key(Ed25519PrivateKey.generate()))
    identity = Identity(_read(home.identity_key, passphrases(home, "")).private)
    write_new(home.identity_names, as_json(identity.public()))
    return identity


def check_key_and_names(home: Home) -> None:
    """Refuses a home that cannot be made a node: one that holds names without their key.

    Raises:
        UserError: `bad_config`.
    """
    if home.identity_names.exists() and not home.identity_key.exists():
        raise UserError(
            "bad_config",
            f"{home.identity_names} is there without its key",
            hint="put identity.key back, restore an export with `dms identity restore`, or remove identity.json to become another node",
        )


def load(home: Home) -> Identity:
    """The identity of the node in `home`. If its key is encrypted, a person at the terminal may be asked for the passphrase.

    Raises:
        UserError: `not_onboarded`: there is none; `bad_config`: others can read the key, it is damaged, or the names are another key's;
            `key_locked`: it is encrypted, and the passphrase is missing or wrong.
    """
    return unlock(home, passphrases(home, read_names(home).uuid))[0]


def unlock(home: Home, tried: Iterable[Passphrase]) -> tuple[Identity, Passphrase | None]:
    """The identity of the node in `home`, and which of the passphrases `tried` opened its key; None if it is not encrypted.

    Raises:
        UserError: as `load`.
    """
    names = read_names(home)
    opened = _read(home.identity_key, tried)
    identity = Identity(opened.private, names.successions)
    if identity.node_id.peer_id != names.peer_id and home.next_key.exists():
        used = [opened.passphrase] if opened.passphrase is not None else []
        identity = Identity(_read(home.next_key, used).private, names.successions)
        if identity.public() == names:
            move(home.next_key, home.identity_key)
    if identity.public() != names:
        raise UserError(
            "bad_config",
            f"{home.identity_names} names {names.peer_id}, but the key is that of {identity.node_id.peer_id}",
            hint="two homes were mixed: put the pair that belongs together back",
        )
    sweep(home.identity_key)
    return identity, opened.passphrase


def read_names(home: Home) -> PublicIdentity:
    """What anyone may know of the node in `home`, checked. Needs no passphrase.

    Raises:
        UserError: `not_onboarded`: there is none; `bad_config`: the names are missing, damaged, or do not follow from each other.
    """
    if not home.exists():
        raise UserError("not_onboarded", f"{home.root} holds no node yet", hint="dms onboard makes one")
    try:
        names = msgspec.json.decode(home.identity_names.read_bytes(), type=PublicIdentity)
    except FileNotFoundError as error:
        raise UserError(
            "bad_config", f"{home.identity_names} is missing", hint="dms onboard writes it anew and keeps the key"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError("bad_config", f"{home.identity_names} is damaged: {error}") from error
    try:
        lineage.check(names)
    except ValueError as error:
        raise UserError(
            "bad_config",
            f"{home.identity_names}: {error}",
            hint="put the file back from a backup; if the key was never replaced, remove it and run dms onboard, which keeps the key",
        ) from error
    return names


def is_protected(home: Home) -> bool:
    """Whether a passphrase is needed to read the key of an onboarded home."""
    return is_encrypted(home.identity_key.read_bytes())


def protect(home: Home, node: Identity, new: Passphrase | None) -> None:
    """Encrypts the key of `node`, loaded from `home`, under another passphrase, or (None) leaves it unencrypted.

    At every moment the old or the new file is there.

    Raises:
        UserError: `bad_argument`: the key was replaced since it was loaded, while a person thought about a passphrase.
        MachineError: `disk_full`, `store_failed`: nothing was changed.
    """
    if read_names(home) != node.public():
        raise UserError("bad_argument", "the key was replaced meanwhile; nothing was changed", hint="do it again")
    replace(home.identity_key, node.pem(new.secret if new is not None else b""))


def rotate(home: Home, now: int) -> Identity:
    """Gives the node of `home` a new key, under the same passphrase, and writes down the succession. The node must not run.

    Raises:
        UserError: as `load`; `bad_argument`: the node has had as many keys as a node may have.
        MachineError: `disk_full`, `store_failed`.
    """
    old, passphrase = unlock(home, passphrases(home, read_names(home).uuid))
    if len(old.successions) >= MAX_SUCCESSIONS:
        raise UserError(
            "bad_argument",
            f"the key was replaced {MAX_SUCCESSIONS} times, and no more can be proven",
            hint="onboard a new home",
        )
    private = Ed25519PrivateKey.generate()
    record = lineage.succeed(Signer(old.seed()), Signer(private.private_bytes_raw()), old.node_id.uuid, now)
    new = Identity(private, (*old.successions, record))
    replace(home.next_key, new.pem(passphrase.secret if passphrase is not None else b""))
    replace(home.identity_names, as_json(new.public()))  # from here on the new key is the node's
    move(home.next_key, home.identity_key)
    return new


def _read(file: Path, tried: Iterable[Passphrase]) -> Opened:
    require_private(file)
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise UserError("bad_config", f"{file} cannot be read: {error.strerror}") from error
    return read_key(pem, file, tried)


def as_json(names: PublicIdentity) -> bytes:
    """What an identity file holds."""
    return msgspec.json.format(msgspec.json.encode(names)) + b"\n"
