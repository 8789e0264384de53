"""Private files of an identity: an Ed25519 key as PKCS#8 PEM, encrypted or not, and how a file is written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dms.config.paths import open_private
from dms_proto.errors import MachineError, UserError

WAYS_OUT: Final = "name a file in identity.passphrase_file, or start in the foreground: dms up"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class Passphrase(NamedTuple):
    """What opens an encrypted key.

    Attributes:
        secret: the passphrase.
        source: where it came from, for people.
    """

    secret: bytes
    source: str

    def __repr__(self) -> str:
        return f"Passphrase({self.source})"


class Opened(NamedTuple):
    """A key, and the passphrase that opened it; None if it was not encrypted."""

    private: Ed25519PrivateKey
    passphrase: Passphrase | None


def write_key(private: Ed25519PrivateKey, secret: bytes = b"") -> bytes:
    """The key as PKCS#8 PEM, encrypted if `secret` is not empty."""
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def read_key(pem: bytes, place: object, passphrases: Iterable[Passphrase]) -> Opened:
    """The key in `pem`, which came from `place`. The `passphrases` are tried in order, and looked for only if the key is encrypted.

    Raises:
        UserError: `bad_config`: it is no Ed25519 key; `key_locked`: it is encrypted, and there is no passphrase or none opens it.
    """
    if not is_encrypted(pem):
        return Opened(_decode(pem, None, place), None)
    tried = ""
    for passphrase in passphrases:
        try:
            return Opened(_decode(pem, passphrase.secret, place), passphrase)
        except UserError:
            tried = passphrase.source
    if tried:
        raise UserError("key_locked", f"the passphrase from {tried} does not open {place}", hint="check the passphrase")
    raise UserError("key_locked", f"{place} is protected by a passphrase", hint=WAYS_OUT)


def _decode(pem: bytes, secret: bytes | None, place: object) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError("bad_config", f"{place} is not a private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError("bad_config", f"{place} holds a {type(key).__name__}, not an Ed25519 key")
    return key


def is_encrypted(pem: bytes) -> bool:
    """Whether a passphrase is needed to read the key."""
    return pem.lstrip().startswith(_ENCRYPTED)


def write_new(file: Path, data: bytes) -> None:
    """Writes a new file whole or not at all, durably, and never over an existing one.

    Raises:
        UserError: `already_onboarded`: it exists.
        MachineError: `disk_full`, `store_failed`.
    """
    try:
        with _partial(file, data) as partial:
            os.link(partial, file)  # unlike a rename, fails if the name is taken
    except FileExistsError as error:
        raise UserError("already_onboarded", f"{file} was just written by another process") from error


def replace(file: Path, data: bytes) -> None:
    """Puts a new file in the place of an old one, durably: at every moment one of the two is there, whole.

    Raises:
        MachineError: `disk_full`, `store_failed`.
    """
    with _partial(file, data) as partial:
        partial.replace(file)


def move(file: Path, to: Path) -> None:
    """Renames a file over another, durably.

    Raises:
        MachineError: `store_failed`.
    """
    with _told(to):
        file.replace(to)
        _sync_directory(to.parent)


def sweep(file: Path) -> None:
    """Removes what a process that was killed while it wrote `file` left behind: it may be the key, unencrypted."""
    for left in file.parent.glob(f".{file.name}.*"):
        left.unlink(missing_ok=True)


@contextmanager
def _partial(file: Path, data: bytes) -> Iterator[Path]:
    """`data` on disk under another name, for the block to put it where it belongs."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with _told(file):
        try:
            with open(partial, "xb", opener=open_private) as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            yield partial
            _sync_directory(file.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store_failed"
        raise MachineError(code, f"{file} cannot be written: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
