"""Tunnels as the node holds them: those it has opened, by number, and the decisions on what peers want. Lives on the node's asyncio loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket

from dms.net.child import Child
from dms.net.pipe import AbortTunnel, AskTunnel, OpenTunnel, RefuseTunnel, TunnelAnswered, TunnelOver
from dms_actors.ports import AcceptTunnel
from dms_proto.errors import DmsError, MachineError, UserError
from dms_proto.ids import PeerId
from dms_proto.tunnels import check_length, refused

logger = logging.getLogger(__name__)


class TunnelHandle:
    """Implements `ports.Tunnel` on the network process."""

    def __init__(self, number: int, child: Child) -> None:
        self.number = number
        self._child = child
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def join(self, end: socket.socket) -> None:
        """See `Tunnel.join`."""
        if self._over.done():
            end.close()
        elif not self._child.hand_over(self.number, end):
            self.abort()

    def abort(self) -> None:
        """See `Tunnel.abort`."""
        if not self._over.done():
            self._child.post(AbortTunnel(self.number))

    async def wait_over(self) -> str:
        """See `Tunnel.wait_over`."""
        return await asyncio.shield(self._over)

    def end(self, why: str) -> None:
        """It is over."""
        if not self._over.done():
            self._over.set_result(why)


class TunnelHandles:
    """All tunnels of a node.

    Attributes:
        accept: decides on what peers want.
    """

    def __init__(self) -> None:
        self.accept: AcceptTunnel = _refuse_all
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[TunnelAnswered]] = {}
        self._open: dict[int, TunnelHandle] = {}
        self._deciding: set[asyncio.Task[None]] = set()

    async def open(self, child: Child, peer: PeerId, opening: bytes) -> TunnelHandle:
        """See `Network.open_tunnel`."""
        check_length(opening)
        handle = TunnelHandle(next(self._numbers), child)
        answered = self._waiting[handle.number] = asyncio.get_running_loop().create_future()
        self._open[handle.number] = handle
        child.post(OpenTunnel(handle.number, peer, opening))
        try:
            answer = await answered
        except BaseException:
            handle.abort()
            raise
        finally:
            self._waiting.pop(handle.number, None)
        if answer.code:
            self._open.pop(handle.number, None)
            raise refused(answer.code, answer.message)
        return handle

    def on_message(self, child: Child, message: AskTunnel | TunnelAnswered | TunnelOver) -> None:
        """What the network process says of them."""
        match message:
            case AskTunnel(number, peer, opening):
                task = asyncio.create_task(self._decide(child, number, PeerId(peer), opening), name="tunnel decision")
                self._deciding.add(task)
                task.add_done_callback(self._deciding.discard)
            case TunnelAnswered(number):
                answered = self._waiting.get(number)
                if answered is not None and not answered.done():
                    answered.set_result(message)
                elif message.code:
                    self._end(number, message.message)
                else:
                    child.post(AbortTunnel(number))  # who asked for it has gone meanwhile
            case TunnelOver(number, why):
                self._end(number, why)

    def forget(self, why: str) -> None:
        """The network process is gone, and with it all tunnels."""
        for task in self._deciding:
            task.cancel()
        waiting, self._waiting = self._waiting, {}
        for answered in waiting.values():
            if not answered.done():
                answered.set_exception(MachineError("network_down", why, retryable=True))
        handles, self._open = self._open, {}
        for handle in handles.values():
            handle.end(why)

    def _end(self, number: int, why: str) -> None:
        if (handle := self._open.pop(number, None)) is not None:
            handle.end(why)

    async def _decide(self, child: Child, number: int, peer: PeerId, opening: bytes) -> None:
        try:
            end = await self.accept(peer, opening)
        except DmsError as error:
            child.post(RefuseTunnel(number, error.code, error.message))
        except Exception as error:  # a defect in a decision costs one opening, which hears no more than that
            logger.error("an opening could not be decided on", exc_info=error)
            child.post(RefuseTunnel(number, "peer_unreachable", "a defect of this node"))
        else:
            if not child.hand_over(number, end):
                child.post(RefuseTunnel(number, "peer_unreachable", "this node is busy; try again"))


async def _refuse_all(_peer: PeerId, _opening: bytes) -> socket.socket:
    raise UserError("not_found", "this node gives no tunnels")
