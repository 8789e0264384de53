"""Who the node is: an Ed25519 key in the home, and the names that follow from it.

``identity.key`` is PKCS#8 PEM, unencrypted, 0600; ``identity.json`` holds the names, so that a person (or a
backup script) can see whose home this is. The key decides: names that do not follow from it are refused.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dms.config.paths import Home, open_private, require_private
from dms_proto.errors import DmsError, MachineError, UserError
from dms_proto.ids import NodeId, node_id_of, uuid_of


class Identity:
    """The node's key and names. Immutable; safe to share between threads. Its `repr` never shows the key."""

    __slots__ = ("_private", "node_id", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()
        self.node_id: NodeId = node_id_of(self.public_key, uuid_of(self.public_key))

    def __repr__(self) -> str:
        return f"Identity({self.node_id.peer_id})"

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `data`."""
        return self._private.sign(data)

    def seed(self) -> bytes:
        """The 32 secret bytes, for the network process, which proves the same PeerID on its connections."""
        return self._private.private_bytes_raw()


def create(home: Home) -> Identity:
    """Draws a key and writes it with its names; a key without names (a crash in between) is kept and completed.

    Raises:
        UserError: `already_onboarded`: the home holds a node; its key is never overwritten.
        MachineError: `disk_full` or `store_failed`: not written; nothing half done.
    """
    home.prepare()
    if home.identity_key.exists() and home.identity_names.exists():
        raise UserError("already_onboarded", f"{home.root} already holds a node", hint="dms status shows it")
    if not home.identity_key.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_once(home.identity_key, pem)
    identity = Identity(_read_key(home.identity_key))
    _write_once(home.identity_names, msgspec.json.format(msgspec.json.encode(identity.node_id)) + b"\n")
    return identity


def load(home: Home) -> Identity:
    """The identity of the node in `home`.

    Raises:
        UserError: `not_onboarded`: there is none; `bad_config`: others can read the key, it is damaged, or the names are another key's.
    """
    if not home.identity_key.exists():
        raise UserError("not_onboarded", f"{home.root} holds no node yet", hint="dms onboard makes one")
    private = _read_key(home.identity_key)
    try:
        names = msgspec.json.decode(home.identity_names.read_bytes(), type=NodeId)
    except FileNotFoundError as error:
        raise UserError(
            "bad_config", f"{home.identity_names} is missing", hint="dms onboard writes it anew and keeps the key"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError("bad_config", f"{home.identity_names} is damaged: {error}") from error
    identity = Identity(private)
    if identity.node_id != names:
        raise UserError(
            "bad_config",
            f"{home.identity_names} names {names.peer_id}, but the key is that of {identity.node_id.peer_id}",
            hint="two homes were mixed: put the pair that belongs together back",
        )
    return identity


def _read_key(file: Path) -> Ed25519PrivateKey:
    require_private(file)
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError("bad_config", f"{file} is not an unencrypted private key: {error}") from error
    except OSError as error:
        raise UserError("bad_config", f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError("bad_config", f"{file} holds a {type(key).__name__}, not an Ed25519 key")
    return key


def _write_once(file: Path, data: bytes) -> None:
    """Writes a new file whole or not at all, durably, and never over an existing one."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(partial, "xb", opener=open_private) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, file)  # unlike a rename, fails if the name is taken
        _sync_directory(file.parent)
    except FileExistsError as error:
        raise UserError("already_onboarded", f"{file} was just written by another process") from error
    except OSError as error:
        raise _machine_error(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _machine_error(file: Path, error: OSError) -> DmsError:
    code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store_failed"
    return MachineError(code, f"{file} cannot be written: {error.strerror}")
