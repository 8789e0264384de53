"""OS keyrings for tests: one in memory, and none. The machine's own is never asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import keyring
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

NO_KEYRING: Final = {"PYTHON_KEYRING_BACKEND": f"{NoKeyring.__module__}.{NoKeyring.__qualname__}"}
"""Environment of a process that finds no keyring."""


class MemoryKeyring(KeyringBackend):
    """A keyring of this process."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        """What was set; None if nothing was."""
        return self._kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keeps a password."""
        self._kept[service, username] = password


@contextmanager
def desktop() -> Iterator[MemoryKeyring]:
    """A machine with a keyring; at the end it has none."""
    there = MemoryKeyring()
    keyring.set_keyring(there)
    try:
        yield there
    finally:
        server()


def server() -> None:
    """A machine without a keyring, from now on."""
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
