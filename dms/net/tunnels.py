"""Tunnels: bytes both ways between a socket here and one at a peer, each on a stream of its own (`/dms/tunnel/1`).

::

    opener                                    server
      opening                    ──────────►
                                 ◄──────────   ANSWER {code, message}; a code refuses, and the stream is closed
      bytes                      ◄─────────►   bytes, as they are

Opening and answer are a 4-byte big-endian length and the bytes. The end of a side of the stream is the end of that direction, a reset breaks the
tunnel off. What it leads to is the node's business: it reads the opening, and hands over the socket (`dms.net.handover`), so no byte of a tunnel
crosses the pipe or waits for the node.
"""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack, suppress
from typing import Final

import msgspec
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream

from dms.net.bridge import Bridge
from dms.net.config import TUNNEL_PROTOCOL
from dms.net.flow import Flow
from dms.net.guards.crashes import ENDS
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.handover import receive
from dms.net.host import Host
from dms.net.pipe import AskTunnel, TunnelAnswered, TunnelOver
from dms.net.quotas import Quota
from dms.net.shares import Shares, TakenError
from dms_proto.rules import MAX_LINE
from dms_proto.tunnels import MAX_OPENING
from dms_proto.units import format_count
from dms_proto.untrusted import read_msgpack

MAX_ANSWER: Final = 4 * MAX_LINE + 256
OPENING_S: Final = 10.0
"""Seconds a peer may take to say what it wants."""
DECIDE_S: Final = 10.0
"""Seconds the node may take to answer a peer."""
ANSWER_S: Final = OPENING_S + DECIDE_S
"""Seconds a peer may take to answer us."""
SOURCE_PART: Final = 4
"""So many sources have all tunnels. As many openings that are still to come one source has beside them: they are counted apart, and with no bound for
all, so that who only knocks keeps out nobody but its neighbours."""

_LENGTH: Final = struct.Struct(">I")


class Answer(msgspec.Struct, frozen=True):
    """Whether the opener is let in: `code` is empty, or says why not."""

    code: str = ""
    message: str = ""


class RefusedError(Exception):
    """There is no tunnel; `code` as told to the node or the peer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Awaited:
    """A tunnel whose socket the node has not given yet."""

    def __init__(self) -> None:
        self.end: socket.socket | None = None
        self.refusal: RefusedError | None = None
        self._settled = trio.Event()

    def give(self, end: socket.socket) -> None:
        self.end = end
        self._settled.set()

    def refuse(self, refusal: RefusedError) -> None:
        self.refusal = refusal
        self._settled.set()

    async def socket(self) -> socket.socket:
        await self._settled.wait()
        if self.refusal is not None:
            raise self.refusal
        assert self.end is not None
        return self.end


class Tunnels:
    """Opens and serves. Lives on the trio thread."""

    def __init__(self, host: Host, bridge: Bridge, beside: socket.socket) -> None:
        self._host = host
        self._bridge = bridge
        self._beside = beside
        self._quota = Quota(host.config.tunnel_limit)
        most = host.config.max_tunnels_served
        self._openings = Shares(most // SOURCE_PART)
        self._serving = Shares(most // SOURCE_PART, most)
        self._awaited: dict[int, _Awaited] = {}
        self._opened: dict[int, trio.CancelScope] = {}
        self._next = 0
        host.set_stream_handler(TProtocol(TUNNEL_PROTOCOL), self._serve)

    async def take_sockets(self) -> None:
        """Receives what the node hands over, until it closes."""
        while True:
            await trio.lowlevel.wait_readable(self._beside.fileno())
            try:
                given = receive(self._beside)
            except BlockingIOError:
                continue
            except OSError:
                return
            if given is None:
                return
            self._take(*given)

    def _take(self, number: int, end: socket.socket | None) -> None:
        awaited = self._awaited.get(number)
        if end is None:
            self.on_refused(number, "peer_unreachable", "too many files are open in the network process; try again")
        elif awaited is None or awaited.end is not None:
            end.close()  # its tunnel was over before
        else:
            end.setblocking(False)
            awaited.give(end)

    # ----------------------------------------------------------------------------------------------------------- opening

    async def open(self, number: int, peer: str, opening: bytes) -> None:
        """Opens a tunnel, tells the node whether the peer has let us in, and carries its bytes until it is over."""
        awaited = self._awaited[number] = _Awaited()
        why = "it was broken off here"
        try:
            with trio.CancelScope() as self._opened[number]:
                why = await self._open(number, peer, opening, awaited)
        except RefusedError as error:
            self._bridge.send(TunnelAnswered(number, error.code, str(error)))
            return
        except ENDS as error:
            self._bridge.send(TunnelAnswered(number, "peer_unreachable", f"no tunnel to {peer}: {error!r}"))
            return
        finally:
            del self._opened[number]
            self._let_go(number)
        self._bridge.send(TunnelOver(number, why))

    def abort(self, number: int) -> None:
        """Breaks one off that was opened here."""
        if (scope := self._opened.get(number)) is not None:
            scope.cancel()

    async def _open(self, number: int, peer: str, opening: bytes, awaited: _Awaited) -> str:
        connections = self._host.connections(peer)
        if not connections:
            raise RefusedError("peer_unreachable", f"not connected to {peer}")
        net_stream = await self._host.open_stream(connections[-1], TUNNEL_PROTOCOL)
        try:
            stream = stream_under(net_stream)
            await _ask(stream, opening)
            self._host.counters.add("tunnels.opened")
            self._bridge.send(TunnelAnswered(number))
            return await Flow(stream, await awaited.socket(), is_served=False).run()
        finally:
            _end(connections[-1], net_stream)

    # ----------------------------------------------------------------------------------------------------------- serving

    def on_refused(self, number: int, code: str, message: str) -> None:
        """The node refuses a peer."""
        if (awaited := self._awaited.get(number)) is not None:
            awaited.refuse(RefusedError(code, message))

    async def _serve(self, net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        peer = stream.muxed_conn.peer_id.to_base58()
        self._next -= 1
        number = self._next
        try:
            with ExitStack() as place:
                await self._serve_one(number, peer, stream, place)
        finally:
            self._let_go(number)

    async def _serve_one(self, number: int, peer: str, stream: SafeStream, place: ExitStack) -> None:
        try:
            end = await self._decide(number, peer, stream, place)
        except (RefusedError, TakenError) as error:
            self._host.counters.add("tunnels.refused")
            await stream.write(_item(msgspec.msgpack.encode(_refusal(error))))
            await stream.close()
            return
        self._host.counters.add("tunnels.served")
        stream.exempt()
        try:
            await stream.write(_item(msgspec.msgpack.encode(Answer())))
            await Flow(stream, end, is_served=True).run()
        finally:
            stream.break_off()

    async def _decide(self, number: int, peer: str, stream: SafeStream, place: ExitStack) -> socket.socket:
        source = self._host.source(peer)
        if offence := self._quota.judge(peer, source, 0, trio.current_time()):
            self._host.blame(peer, offence)
            raise RefusedError("peer_unreachable", "too many tunnels are asked for at a time; try again")
        if not self._host.is_admitted(peer):
            raise RefusedError("peer_unreachable", "a proof of work is asked of you first")
        with self._openings.place(peer, source):
            opening = await _opening(stream)
        place.enter_context(self._serving.place(peer, source))
        awaited = self._awaited[number] = _Awaited()
        self._bridge.send(AskTunnel(number, peer, opening))
        with trio.move_on_after(DECIDE_S):
            return await awaited.socket()
        raise RefusedError("peer_timeout", f"the node did not decide within {DECIDE_S:g} s")

    def _let_go(self, number: int) -> None:
        awaited = self._awaited.pop(number, None)
        if awaited is not None and awaited.end is not None:
            if number < 0:  # the node may hold the way to what it serves as well, to break it off
                with suppress(OSError):
                    awaited.end.shutdown(socket.SHUT_RDWR)
            awaited.end.close()


async def _opening(stream: SafeStream) -> bytes:
    """What a peer wants.

    Raises:
        RefusedError: it does not say, or says too much.
    """
    with trio.move_on_after(OPENING_S):
        return await _read_item(stream, MAX_OPENING)
    raise RefusedError("peer_timeout", f"no opening came within {OPENING_S:g} s")


def _refusal(error: RefusedError | TakenError) -> Answer:
    if isinstance(error, TakenError):
        return Answer("peer_unreachable", "busy: too many tunnels are open; try again")
    return Answer(error.code, str(error)[:MAX_LINE])


def read_answer(data: bytes) -> Answer:
    """What an opening was answered with.

    Raises:
        RefusedError: it is no answer.
    """
    try:
        return read_msgpack(data, Answer)
    except msgspec.DecodeError as error:
        raise RefusedError("peer_unreachable", f"not an answer to an opening: {error}") from error


async def _ask(stream: SafeStream, opening: bytes) -> None:
    """Says what is wanted.

    Raises:
        RefusedError: the peer does not let us in.
    """
    await stream.write(_item(opening))
    with trio.move_on_after(ANSWER_S) as patience:
        data = await _read_item(stream, MAX_ANSWER)
    if patience.cancelled_caught:
        raise RefusedError("peer_timeout", f"no answer within {ANSWER_S:g} s")
    answer = read_answer(data)
    if answer.code:
        raise RefusedError(answer.code, answer.message)


async def _read_item(stream: SafeStream, longest: int) -> bytes:
    """The next item, and nothing of what follows it.

    Raises:
        RefusedError: it is too long.
    """
    (length,) = _LENGTH.unpack(await _read_exactly(stream, _LENGTH.size))
    if length > longest:
        raise RefusedError("bad_argument", f"{format_count(length, 'byte')} announced, {longest} are the most")
    return await _read_exactly(stream, length)


async def _read_exactly(stream: SafeStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


def _item(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _end(connection: SwarmConn, net_stream: NetStream) -> None:
    stream_under(net_stream).break_off()
    connection.remove_stream(net_stream)
