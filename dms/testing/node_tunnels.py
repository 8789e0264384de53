"""Tunnels of the node in memory: whatever they lead to echoes, unless they shall be cut; so do commands, which exit with 3."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

import asyncio
import socket

from dms.rpc.api.execs import AllocationExecParams, JobExecParams
from dms.rpc.api.tunnels import TunnelEnd, TunnelName, TunnelOpened, TunnelParams
from dms.rpc.registry import Handover
from dms_actors.splice import Splice
from dms_proto.errors import UserError
from dms_proto.exec_frames import Frames, Kind, frame
from dms_proto.ids import AllocationId, PeerId
from dms_proto.tunnels import Order


class MemoryTunnels:
    """The part of `MemoryNode` that is tunnels.

    Attributes:
        tunnels: those opened, by name.
        orders: the commands that were to be run.
        refusal: raised by the next calls, instead of opening one.
        babbles: what commands say in place of frames.
        cut: why the next ones are cut as soon as something is sent; empty: they are not.
    """

    def __init__(self, provider: PeerId) -> None:
        self.tunnels: dict[str, Splice] = {}
        self.refusal: UserError | None = None
        self.cut = ""
        self.babbles = b""
        self.orders: list[Order] = []
        self._provider = provider
        self._echoes: set[asyncio.Task[None]] = set()

    async def tunnel_open(self, params: TunnelParams) -> Handover:
        if self.refusal is not None:
            raise self.refusal.again()
        there, kept = socket.socketpair()
        tunnel = self.tunnels[f"t{len(self.tunnels)}"] = Splice(there)
        echo = asyncio.create_task(_cut(kept, tunnel, self.cut) if self.cut else _echo(kept))
        self._echoes.add(echo)
        echo.add_done_callback(self._echoes.discard)
        opened = TunnelOpened(f"t{len(self.tunnels) - 1}", AllocationId(f"a-{params.slot}"), self._provider)
        return Handover(opened, tunnel.join, tunnel.abort)

    async def job_exec(self, params: JobExecParams) -> Handover:
        return self._exec(params.order)

    async def alloc_exec(self, params: AllocationExecParams) -> Handover:
        return self._exec(params.order)

    def _exec(self, order: Order) -> Handover:
        if self.refusal is not None:
            raise self.refusal.again()
        self.orders.append(order)
        there, kept = socket.socketpair()
        tunnel = self.tunnels[f"t{len(self.tunnels)}"] = Splice(there)
        playing = asyncio.create_task(_cut(kept, tunnel, self.cut) if self.cut else _play(kept, self.babbles))
        self._echoes.add(playing)
        playing.add_done_callback(self._echoes.discard)
        opened = TunnelOpened(f"t{len(self.tunnels) - 1}", AllocationId("a-0"), self._provider)
        return Handover(opened, tunnel.join, tunnel.abort)

    async def tunnel_wait(self, params: TunnelName) -> TunnelEnd:
        if params.tunnel not in self.tunnels:
            raise UserError("not_found", f"no tunnel {params.tunnel!r}")
        return TunnelEnd(await self.tunnels[params.tunnel].wait_over())


async def _play(end: socket.socket, babbles: bytes) -> None:
    """A command that says what it hears, and the end of it, as an error."""
    with end:
        end.setblocking(False)
        loop, frames = asyncio.get_running_loop(), Frames()
        await loop.sock_sendall(end, babbles)
        while data := await loop.sock_recv(end, 65_536):
            for kind, body in frames.take(data):
                if kind == Kind.INPUT:
                    await loop.sock_sendall(end, frame(Kind.OUTPUT, body))
                elif kind == Kind.INPUT_END:
                    await loop.sock_sendall(end, frame(Kind.ERRORS, b"over\n") + frame(Kind.EXIT, b"\3"))
                    return


async def _echo(end: socket.socket) -> None:
    with end:
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(end, 65_536):
            await loop.sock_sendall(end, data)
        end.shutdown(socket.SHUT_WR)


async def _cut(end: socket.socket, tunnel: Splice, why: str) -> None:
    with end:
        end.setblocking(False)
        await asyncio.get_running_loop().sock_recv(end, 65_536)
        tunnel.cut(why)
