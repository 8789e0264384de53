"""A run that never was."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

from dms_actors.ports import ExecutorEvent, Exited
from dms_proto.capability import Resources
from dms_proto.errors import UserError
from dms_proto.tunnels import Target
from dms_proto.work import Ending


class RefusedRun:
    """Implements `dms_actors.ports.Run`: its only event is the end."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """The end, at once."""
        yield Exited(self._ending)

    async def stop(self, grace_ms: int) -> None:
        """Nothing to stop."""

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`: it is over."""

    async def thaw(self) -> None:
        """See `Run.thaw`."""

    async def resize(self, resources: Resources) -> None:
        """Nothing has a size."""
        raise UserError("not_running", "the job never ran")

    async def connect(self, target: Target) -> socket.socket:
        """Nobody is there."""
        raise UserError("not_running", "the job never ran")
