"""Noise encryption as plain functions on bytes.

Stock fault: the stock session encrypts, counts the nonce and then awaits the socket. A cancelled write leaves the nonce counted and the
frame half sent, so the peer can decrypt nothing more: the connection is dead at the first of 60 cancelled writes.

Remedy: the handshake stays libp2p's; afterwards its cipher states are used here without any ``await`` between counting a nonce and
handing the bytes to the sending buffer, so nothing can come between. It also costs a fraction: no lock, no task switch per packet.
"""

from __future__ import annotations

import struct
from typing import Final

import trio
from libp2p.abc import ISecureConn
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

MAX_PLAINTEXT: Final = 65535 - 16
"""Longest plaintext in a Noise message: 65535 bytes less the tag (Noise specification, section 3)."""

_LENGTH: Final = struct.Struct(">H")


class WireError(Exception):
    """Bytes that are not an authentic message of this session."""


class SecureWire:
    """The encrypted connection under a multiplexer: seals and opens bytes; the socket is used by the owner.

    Attributes:
        stream: the TCP stream; closed by the owner.
        leftover: plaintext that the negotiation read ahead; to be treated as the first bytes opened.
    """

    __slots__ = ("_noise", "_partial", "leftover", "stream")

    def __init__(self, session: ISecureConn) -> None:
        """Takes over a session after its negotiation.

        Raises:
            TypeError: not Noise over TCP; no other kind is ever offered.
        """
        if not isinstance(session, SecureSession) or not isinstance(session.conn, NoiseTransportReadWriter):
            raise TypeError(f"not a Noise session: {session!r}")
        raw = session.conn.read_writer.read_write_closer
        if not isinstance(raw, RawConnection) or not isinstance(raw.stream, TrioTCPStream):
            raise TypeError(f"not Noise over TCP: {raw!r}")
        self._noise = session.conn.noise_state
        self.stream: trio.SocketStream = raw.stream.stream
        self.leftover: bytes = session._drain(None)
        self._partial = b""

    def seal(self, plaintext: bytes) -> bytes:
        """The bytes to send for `plaintext`. They must be sent, in order, or the connection closed."""
        encrypt = self._noise.encrypt
        if len(plaintext) <= MAX_PLAINTEXT:
            sealed: bytes = encrypt(plaintext)
            return _LENGTH.pack(len(sealed)) + sealed
        parts: list[bytes] = []
        for start in range(0, len(plaintext), MAX_PLAINTEXT):
            sealed = encrypt(plaintext[start : start + MAX_PLAINTEXT])
            parts += (_LENGTH.pack(len(sealed)), sealed)
        return b"".join(parts)

    def open(self, data: bytes) -> bytes:
        """Takes bytes from the socket, gives the plaintext of the messages that became complete.

        Raises:
            WireError: a message is not authentic. Nothing after it can be read.
        """
        if self._partial:
            data = self._partial + data
        position, end = 0, len(data)
        parts: list[bytes] = []
        try:
            while end - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(data, position)
                stop = position + _LENGTH.size + length
                if stop > end:
                    break
                parts.append(self._noise.decrypt(data[position + _LENGTH.size : stop]))
                position = stop
        except Exception as error:  # the noise package raises its own, cryptography's and plain ValueErrors here
            raise WireError(str(error) or type(error).__name__) from error
        self._partial = data[position:]
        return parts[0] if len(parts) == 1 else b"".join(parts)
