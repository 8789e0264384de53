"""The bearer token for JSON-RPC over HTTP: a 0600 file that whoever can read may use."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from dms.config.paths import open_private, require_private
from dms_proto.errors import MachineError, UserError

TOKEN_BYTES: Final = 32


def load_token(path: Path) -> str:
    """The token in the file at `path`, made on first use.

    Raises:
        UserError: `bad_config`: others can read the file, or it is empty.
        MachineError: `store_failed`: it cannot be read or written.
    """
    try:
        if not path.exists():
            _make(path)
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


def is_token(given: str, token: str) -> bool:
    """Whether `given` is the token, in a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode(), token.encode())


def _make(path: Path) -> None:
    # Whole or not at all: two starting processes must not read half of it.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(draft, "x", encoding="ascii", opener=open_private) as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
