"""What the warden and the next node have to know of a container that was frozen: its labels, which are made with it, cannot say it.

One small file a container, by its run's name, replaced as a whole. `warden_main` reads `deadline_ms` of it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec


class Noted(msgspec.Struct, frozen=True):
    """When and for how long it stood still.

    Attributes:
        frozen_at: Unix ms since which it stands still; 0 while it goes on.
        frozen_ms: for how long it stood still before that, in all.
        let_go_at: Unix ms at which its engine was asked to let it go on; 0: not since `frozen_at`.
        deadline_ms: Unix ms at which its time is over, if nobody says more.
    """

    frozen_at: int = 0
    frozen_ms: int = 0
    deadline_ms: int = 0
    let_go_at: int = 0


class Notes:
    """The files of one executor."""

    def __init__(self, directory: Path) -> None:
        """Touches nothing yet."""
        self.directory = directory

    def read(self, name: str) -> Noted:
        """What was noted of a run; of one that never stood still, and of what cannot be read: nothing."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.directory / name).read_bytes(), type=Noted)
        return Noted()

    def write(self, name: str, noted: Noted) -> None:
        """Notes it.

        Raises:
            OSError: no room.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        fresh = self.directory / f".{name}"
        fresh.write_bytes(msgspec.json.encode(noted))
        fresh.replace(self.directory / name)

    def remove(self, name: str) -> None:
        """Forgets a run. Idempotent."""
        (self.directory / name).unlink(missing_ok=True)

    def sweep(self, keep: Collection[str]) -> None:
        """Forgets all but these."""
        for name in (path.name for path in self.directory.glob("[!.]*")):
            if name not in keep:
                self.remove(name)
