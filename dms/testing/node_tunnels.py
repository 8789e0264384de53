"""Tunnels of the node in memory: whatever they lead to echoes."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

import asyncio
import socket

from dms.rpc.api.tunnels import TunnelEnd, TunnelName, TunnelOpened, TunnelParams
from dms.rpc.registry import Handover
from dms_actors.splice import Splice
from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, PeerId


class MemoryTunnels:
    """The part of `MemoryNode` that is tunnels.

    Attributes:
        tunnels: those opened, by name.
        refusal: raised by the next calls, instead of opening one.
    """

    def __init__(self, provider: PeerId) -> None:
        self.tunnels: dict[str, Splice] = {}
        self.refusal: UserError | None = None
        self._provider = provider
        self._echoes: set[asyncio.Task[None]] = set()

    async def tunnel_open(self, params: TunnelParams) -> Handover:
        if self.refusal is not None:
            raise self.refusal.again()
        there, kept = socket.socketpair()
        echo = asyncio.create_task(_echo(kept))
        self._echoes.add(echo)
        echo.add_done_callback(self._echoes.discard)
        tunnel = self.tunnels[f"t{len(self.tunnels)}"] = Splice(there)
        opened = TunnelOpened(f"t{len(self.tunnels) - 1}", AllocationId(f"a-{params.slot}"), self._provider)
        return Handover(opened, tunnel.join, tunnel.abort)

    async def tunnel_wait(self, params: TunnelName) -> TunnelEnd:
        if params.tunnel not in self.tunnels:
            raise UserError("not_found", f"no tunnel {params.tunnel!r}")
        return TunnelEnd(await self.tunnels[params.tunnel].wait_over())


async def _echo(end: socket.socket) -> None:
    with end:
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(end, 65_536):
            await loop.sock_sendall(end, data)
        end.shutdown(socket.SHUT_WR)
