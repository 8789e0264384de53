"""Bearer tokens for JSON-RPC over HTTP: two 0600 files, one that opens everything and one that only looks. Whoever can read a file may use it.

The files are the truth: they are looked at whenever a token is shown, so that one that was rotated is worth nothing from then on, and one that others
were let read opens nothing until it is private again.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from pathlib import Path
from typing import Final

from dms.config.paths import Home, open_private, require_private
from dms.rpc.registry import Access
from dms_proto.errors import DmsError, MachineError, UserError

logger = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32


def token_file(home: Home, access: Access) -> Path:
    """Where the token that gives `access` lies."""
    return home.token if access is Access.FULL else home.reading_token


def load_token(path: Path) -> str:
    """The token in the file at `path`, made on first use.

    Raises:
        UserError: `bad_config`: others can read the file, or it is empty.
        MachineError: `store_failed`: it cannot be read or written.
    """
    try:
        if not path.exists():
            _make(path, replace=False)
        require_private(path)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError("store_failed", f"{path} cannot be used as token file: {error}") from error
    if len(token) < TOKEN_BYTES:
        raise UserError(
            "bad_config",
            f"{path} holds no token of at least {TOKEN_BYTES} characters",
            hint=f"rm {path} and start again",
        )
    return token


def rotate_token(path: Path) -> str:
    """Replaces the token in the file at `path`; the old one opens nothing any more, also at a running node.

    Raises:
        MachineError: `store_failed`: it cannot be written.
    """
    try:
        _make(path, replace=True)
    except OSError as error:
        raise MachineError("store_failed", f"{path} cannot be used as token file: {error}") from error
    return load_token(path)


def is_token(given: str, token: str) -> bool:
    """Whether `given`, as a header brought it, is the token, in a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


class Tokens:
    """The tokens of one home, as its files have them now.

    Raises:
        UserError: `bad_config`: others can read a file, or it holds no token.
        MachineError: `store_failed`: a file cannot be read or made.
    """

    def __init__(self, home: Home) -> None:
        self._files = {access: token_file(home, access) for access in Access}
        self._read = {access: (_version(path), load_token(path)) for access, path in self._files.items()}

    def access_of(self, given: str) -> Access | None:
        """What a caller who shows `given` may do; None when it is no token of ours."""
        # All are compared, so that the time does not tell which was nearly right; a full token wins.
        opened = [access for access in Access if is_token(given, self._now(access))]
        return opened[-1] if opened else None

    def _now(self, access: Access) -> str:
        """The token, or what nobody can show while its file cannot be used."""
        path = self._files[access]
        version, token = self._read[access]
        if (there := _version(path)) != version:
            try:
                token = load_token(path)
            except DmsError as error:
                logger.warning("nobody comes in by %s: %s", path.name, error.message)
                token = secrets.token_urlsafe(TOKEN_BYTES)
            self._read[access] = there, token
        return token


def _version(path: Path) -> tuple[int, int]:
    """What changes whenever the file is written, replaced, or given to others; zeros: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_ctime_ns


def _make(path: Path, *, replace: bool) -> None:
    # Whole or not at all: two starting processes must not read half of it.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(draft, "x", encoding="ascii", opener=open_private) as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    if replace:
        draft.replace(path)
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
