"""Two ends of a multiplexed, encrypted connection in one trio run, stock or guarded, over a real socket pair and a real Noise handshake."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import Yamux

from dms.net.guards.yamux import SafeYamux, YamuxHooks


class RecordingHooks(YamuxHooks):
    """Remembers refusals. `stall_s` as given."""

    def __init__(self, stall_s: float = 30.0) -> None:
        self.stall_s = stall_s
        self.refusals: list[str] = []
        self.crashes: list[BaseException] = []

    def refused(self, kind: str, peer: str, detail: str) -> None:
        """Remembers the kind."""
        self.refusals.append(kind)

    def crashed(self, where: str, error: BaseException) -> None:
        """Remembers the defect."""
        self.crashes.append(error)


def safe(hooks: RecordingHooks) -> Callable[[ISecureConn, ID], Any]:
    """Makes guarded ends."""
    return lambda session, peer: SafeYamux(session, peer, hooks=hooks)


def stock(session: ISecureConn, peer: ID) -> Any:
    """Makes libp2p's own ends."""
    return Yamux(session, peer, is_initiator=session.is_initiator)


@asynccontextmanager
async def yamux_pair(
    make_a: Callable[[ISecureConn, ID], Any], make_b: Callable[[ISecureConn, ID], Any]
) -> AsyncIterator[tuple[Any, Any]]:
    """The initiator's and the responder's end, running while the block is entered."""
    keys_a, keys_b = create_new_key_pair(), create_new_key_pair()
    ours, theirs = (trio.socket.from_stdlib_socket(end) for end in _non_blocking_pair())
    try:
        session_a, session_b = await _sessions(ours, theirs, keys_a, keys_b)
        a = make_a(session_a, ID.from_pubkey(keys_b.public_key))
        b = make_b(session_b, ID.from_pubkey(keys_a.public_key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.start)
            nursery.start_soon(b.start)
            await a.event_started.wait()
            await b.event_started.wait()
            try:
                yield a, b
            finally:
                nursery.cancel_scope.cancel()
    finally:
        ours.close()
        theirs.close()


def _non_blocking_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


async def _sessions(
    ours: trio.socket.SocketType, theirs: trio.socket.SocketType, keys_a: KeyPair, keys_b: KeyPair
) -> tuple[ISecureConn, ISecureConn]:
    sessions: dict[str, ISecureConn] = {}

    async def dial() -> None:
        noise = NoiseTransport(keys_a, create_x25519_key_pair().private_key)
        raw = RawConnection(TrioTCPStream(trio.SocketStream(ours)), True)
        sessions["a"] = await noise.secure_outbound(raw, ID.from_pubkey(keys_b.public_key))

    async def answer() -> None:
        noise = NoiseTransport(keys_b, create_x25519_key_pair().private_key)
        sessions["b"] = await noise.secure_inbound(RawConnection(TrioTCPStream(trio.SocketStream(theirs)), False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return sessions["a"], sessions["b"]
