"""The only transport, security and multiplexer that are ever offered: TCP, Noise, `SafeYamux`.

Stock faults: the default security list also offers plaintext, over which anyone can claim to be any peer; the listener sets SO_REUSEPORT,
so a second node on the same port starts without an error and takes half of the first one's connections; a yamux class given in the options
is ignored; kernel buffers hide megabytes of bulk in front of a frame.
"""

from __future__ import annotations

import socket
from typing import Final

import libp2p.transport.tcp.tcp as stock_tcp
import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.transport.upgrader import TransportUpgrader

from dms.net.guards.yamux import PROTOCOL_ID as YAMUX
from dms.net.guards.yamux import SafeYamux, YamuxHooks

NOT_SENT_LOW_WATER: Final = 128 * 1024
"""Bytes the kernel may hold unsent before the socket counts as full (TCP_NOTSENT_LOWAT): what bulk can put before a frame."""
NEGOTIATE_S: Final = 10


class SafeYamuxNegotiation(MuxerMultistream):
    """Agrees on yamux and nothing else, and makes a `SafeYamux`."""

    def __init__(self, hooks: YamuxHooks) -> None:
        super().__init__({TProtocol(YAMUX): SafeYamux}, NEGOTIATE_S)
        self._hooks = hooks

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Negotiates on `conn`, which the result then owns."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        yamux = SafeYamux(conn, peer_id, hooks=self._hooks)
        try:
            yamux._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_LOW_WATER)
        except OSError:
            yamux.shut("lost before it was set up")
        return self._annotate_connection(yamux, conn, protocol)


def safe_upgrader(keys: KeyPair, hooks: YamuxHooks) -> TransportUpgrader:
    """Noise and `SafeYamux`, nothing else."""
    noise = NoiseTransport(keys, noise_privkey=create_x25519_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {TProtocol(YAMUX): SafeYamux}, NEGOTIATE_S)
    upgrader.muxer_multistream = SafeYamuxNegotiation(hooks)
    return upgrader


def own_the_port() -> None:
    """Makes listeners claim their port for themselves, so that the system refuses a second one at once."""

    def set_reuse_address(sock: trio.socket.SocketType) -> None:
        """Allows a port whose old connections still linger (TIME_WAIT), but not one that is listened on."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    stock_tcp._set_reuse_flags = set_reuse_address
