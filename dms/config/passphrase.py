"""Where the passphrase of an encrypted key comes from, in this order: a file or a command the owner named, the OS keyring, a person.

A passphrase is never an argument or an environment variable: both are read by every program of the same user, and inherited.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dms.config.key_file import Passphrase
from dms.config.loading import load_config
from dms.config.paths import Home, require_private
from dms_proto.errors import UserError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE: Final = "dms"
"""Under which the OS keyring keeps passphrases; the user name is the node's UUID, which stays when its key is replaced."""
MAX_BYTES: Final = 1024
COMMAND_S: Final = 60.0
"""Seconds that a command may take; it may wait for a person to touch a token."""


def passphrases(home: Home, uuid: str) -> Iterator[Passphrase]:
    """Those of the node `uuid` in `home`, each looked for when the one before did not do; a person at the terminal is the last.

    Raises:
        UserError: `key_locked`: what the owner named gives none; `bad_config`.
    """
    yield from unattended(home, uuid)
    if not is_named(home):
        yield from _from_person(f"Passphrase of {home.identity_key}: ")


def unattended(home: Home, uuid: str) -> Iterator[Passphrase]:
    """The same without a person.

    Raises:
        UserError: as `passphrases`.
    """
    settings = load_config(home).identity
    if settings.passphrase_file:
        yield from_file(Path(settings.passphrase_file).expanduser())
    elif settings.passphrase_command:
        yield _from_command(settings.passphrase_command)
    else:
        yield from from_keyring(uuid)


def is_named(home: Home) -> bool:
    """Whether the owner named where the passphrase comes from: then it comes from nowhere else."""
    settings = load_config(home).identity
    return bool(settings.passphrase_file or settings.passphrase_command)


def from_file(file: Path) -> Passphrase:
    """The first line of a file that its owner alone can read.

    Raises:
        UserError: `key_locked`: it cannot be read or is empty; `bad_config`: others can read it.
    """
    try:
        require_private(file)
        with file.open("rb") as stream:
            return _first_line(stream.read(MAX_BYTES), str(file))
    except OSError as error:
        raise UserError("key_locked", f"the passphrase file {file} cannot be read: {error.strerror}") from error


def chosen(file: Path | None, prompt: str) -> Passphrase:
    """A new passphrase: from `file`, or typed twice by a person.

    Raises:
        UserError: `key_locked`: there is neither; `bad_argument`: the two differ.
    """
    (first,) = given(file, prompt)
    if file is None and [first] != list(_from_person("The same again: ")):
        raise UserError("bad_argument", "the two passphrases differ; nothing was changed")
    return first


def given(file: Path | None, prompt: str) -> Iterator[Passphrase]:
    """One passphrase, when it is asked for: from `file`, or typed by a person.

    Raises:
        UserError: `key_locked`: there is neither.
    """
    found = [from_file(file)] if file is not None else list(_from_person(prompt))
    if not found:
        raise UserError("key_locked", "there is nobody to ask for a passphrase", hint="give --passphrase-file FILE")
    yield from found


def from_keyring(uuid: str) -> Iterator[Passphrase]:
    """What the OS keyring holds for a node; nothing without a keyring, or when it is locked."""
    backend, broken = _backend()
    try:
        secret = backend.get_password(SERVICE, uuid) if backend is not None else None
    except broken:
        return
    if secret:
        yield Passphrase(secret.encode(), "the OS keyring")


def into_keyring(uuid: str) -> Passphrase:
    """A passphrase of 256 random bits in the OS keyring. One that is there already is used again: a key may depend on it.

    Raises:
        UserError: `key_locked`: there is no keyring, or it refused.
    """
    backend, broken = _backend()
    if backend is None:
        raise UserError(
            "key_locked",
            "this system has no keyring that dms can use",
            hint="pip install 'dms[keyring]', or choose a passphrase",
        )
    for found in from_keyring(uuid):
        return found
    secret = secrets.token_urlsafe(32)
    try:
        backend.set_password(SERVICE, uuid, secret)
    except broken as error:
        raise UserError("key_locked", f"the OS keyring refused: {error}") from error
    return Passphrase(secret.encode(), "the OS keyring")


def _backend() -> tuple[KeyringBackend | None, type[Exception]]:
    """The OS keyring and what it raises. `keyring` is an extra: where it is missing or has no backend there is none."""
    try:
        import keyring  # noqa: PLC0415 - optional, and slow to import
        from keyring.errors import KeyringError  # noqa: PLC0415
    except ImportError:
        return None, OSError
    backend: Any = keyring.get_keyring()
    return (backend if backend.priority > 0 else None), KeyringError


def _from_command(command: Sequence[str]) -> Passphrase:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=COMMAND_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError("key_locked", f"identity.passphrase_command gave no passphrase: {error}") from error
    return _first_line(done.stdout, f"the command {command[0]}")


def _first_line(data: bytes, source: str) -> Passphrase:
    secret = data.partition(b"\n")[0].rstrip(b"\r")
    if not secret or len(secret) >= MAX_BYTES:
        raise UserError("key_locked", f"{source} gives no passphrase: its first line has to be one, shorter than 1 KiB")
    return Passphrase(secret, source)


def _from_person(prompt: str) -> Iterator[Passphrase]:
    """What a person types; nothing where nobody can, or wants to."""
    if not sys.stdin.isatty():
        return
    with suppress(EOFError):
        if secret := getpass(prompt):
            yield Passphrase(secret.encode(), "the terminal")
