"""The pipe between the node and its network process: messages, their bytes, and the credit that bounds both memories.

Bytes are a 4-byte big-endian length and a msgpack array whose first element names the message. Several messages travel in one write.
Both ends are ours and start from the same files, so there is no negotiation; a message that does not decode ends the network process.

Sockets cannot travel in it: those of tunnels come beside it, by the number of their tunnel (`dms.net.handover`).

Back-pressure: frames and gossip count in `cost` bytes. The node may have `queue_bytes` per peer under way and learns by `Sent` what left
(peer "" is gossip); the network process may have `pipe_window` under way, each peer and each source a share of it (`dms.net.windows`), and
learns by `Taken` what the node has dealt with.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from dms.net.config import NetConfig
from dms_proto.scope import Scope
from dms_proto.units import format_count

FRAME_OVERHEAD: Final = 256
"""Counted for each frame besides its bytes, so that a million empty frames do not fit into the credit."""
MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Longest message on the pipe; the largest real one is a statistics answer or a frame."""
READ_SIZE: Final = 256 * 1024
GOSSIP_QUEUE: Final = ""
"""Stands for gossip: in `Sent` for the queue of published messages, in `Taken` for what was heard."""

_LENGTH: Final = struct.Struct(">I")


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    pass


# ------------------------------------------------------------------------------------------------- node → network process


class Redial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A peer that was connected before the last death of the process.

    Attributes:
        addresses: its own, as it announced them.
        least: from where it was connected; what it announced of a narrower scope, it could not reach itself.
    """

    addresses: tuple[str, ...]
    least: Scope = Scope.MACHINE


class Configure(_Message, frozen=True):
    """The first message.

    Attributes:
        redial: who is dialled again.
        bans: peers that are refused, each with the seconds it still is.
        spared: peers that need not show any work, likewise.
    """

    config: NetConfig
    redial: tuple[Redial, ...] = ()
    bans: tuple[tuple[str, float], ...] = ()
    spared: tuple[tuple[str, float], ...] = ()


class SendFrame(_Message, frozen=True):
    """Queue a frame to a peer."""

    peer: str
    frame: bytes


class Publish(_Message, frozen=True):
    """Gossip a frame."""

    topic: str
    frame: bytes


class Dial(_Message, frozen=True):
    """Connect to the peer at the end of the addresses; answered by `Dialled`. `least`: what has a narrower scope is not tried."""

    request: int
    addresses: tuple[str, ...]
    least: Scope = Scope.MACHINE


class Fetch(_Message, frozen=True):
    """Fetch a blob into a file from those who hold it; answered by `Fetched`. `chunks`: the file with the list of its chunks, or empty."""

    request: int
    holders: tuple[str, ...]
    digest: str
    size: int
    into: str
    chunks: str = ""


class EndFetch(_Message, frozen=True):
    """Fetch it no further: nobody waits for the answer, and none is given."""

    request: int


class BlobAnswer(_Message, frozen=True):
    """Answers `AskBlob`. `path` None refuses."""

    request: int
    path: str | None


class OpenTunnel(_Message, frozen=True):
    """Ask a peer for a tunnel; answered by `TunnelAnswered`, and in the end by `TunnelOver`. Its socket comes beside the pipe."""

    number: int
    peer: str
    opening: bytes


class RefuseTunnel(_Message, frozen=True):
    """Answers `AskTunnel` with a no. The yes is the socket, which comes beside the pipe."""

    number: int
    code: str
    message: str


class AbortTunnel(_Message, frozen=True):
    """Break off a tunnel that was opened here."""

    number: int


class Ban(_Message, frozen=True):
    """Close connections to a peer and refuse it for a while. 0 seconds lifts a ban."""

    peer: str
    seconds: float


class Spare(_Message, frozen=True):
    """Ask a peer for no proof of work for a while. 0 seconds ends it."""

    peer: str
    seconds: float


class AskStats(_Message, frozen=True):
    """Answered by `Stats`."""

    request: int


class Taken(_Message, frozen=True):
    """The node has dealt with so many bytes (by `cost`) of each peer's `FrameIn`; under "", of `GossipIn`."""

    amounts: dict[str, int]


class Stop(_Message, frozen=True):
    """Say goodbye and end; answered by the end of the pipe."""


# ------------------------------------------------------------------------------------------------- network process → node


class Ready(_Message, frozen=True):
    """Listening. `listening` are the bound addresses; `announced` end in /p2p/PEER."""

    listening: tuple[str, ...]
    announced: tuple[str, ...]


class Failed(_Message, frozen=True):
    """Could not start, for this reason (a code of dms_proto.errors.CODES)."""

    code: str
    message: str
    hint: str = ""


class Up(_Message, frozen=True):
    """A peer's frame stream is open both ways. `inbound`: it dialled us. `remote`: the IP address at its end."""

    peer: str
    addresses: tuple[str, ...]
    relayed: bool = False
    inbound: bool = False
    remote: str = ""


class Down(_Message, frozen=True):
    """A peer is gone. `reason` as in dms_actors.ports.PeerDown."""

    peer: str
    reason: str


class Banned(_Message, frozen=True):
    """A peer was banned for abuse, for so many seconds."""

    peer: str
    seconds: float


class FrameIn(_Message, frozen=True):
    """A frame from a peer."""

    peer: str
    frame: bytes


class GossipIn(_Message, frozen=True):
    """A frame from a gossip topic."""

    topic: str
    forwarder: str
    frame: bytes


class Found(_Message, frozen=True):
    """mDNS saw a peer."""

    peer: str
    addresses: tuple[str, ...]


class Rtt(_Message, frozen=True):
    """A ping to a peer was answered; smoothed round trip in microseconds."""

    peer: str
    rtt_us: int


class Sent(_Message, frozen=True):
    """So many bytes (by `cost`) of the queue to a peer left or were discarded."""

    peer: str
    cost: int


class Dialled(_Message, frozen=True):
    """Answers `Dial`. `code` "" means connected; else `message` says what each address answered."""

    request: int
    peer: str
    code: str = ""
    message: str = ""


class Fetched(_Message, frozen=True):
    """Answers `Fetch`. `code` "" means the blob is in place. `wrong`: the holders that sent a wrong chunk. `came`: bytes kept of each holder."""

    request: int
    code: str = ""
    message: str = ""
    retryable: bool = True
    wrong: tuple[str, ...] = ()
    came: tuple[tuple[str, int], ...] = ()


class AskBlob(_Message, frozen=True):
    """A peer wants a blob; answered by `BlobAnswer`."""

    request: int
    peer: str
    digest: str


class AskTunnel(_Message, frozen=True):
    """A peer wants a tunnel; answered by its socket, or by `RefuseTunnel`. Numbers of those are negative."""

    number: int
    peer: str
    opening: bytes


class TunnelAnswered(_Message, frozen=True):
    """Answers `OpenTunnel`. `code` "" means that the peer has let us in."""

    number: int
    code: str = ""
    message: str = ""


class TunnelOver(_Message, frozen=True):
    """A tunnel that was opened here is over; `why` is empty if both sides have ended theirs."""

    number: int
    why: str = ""


class Stats(_Message, frozen=True):
    """Counters since the process started, by dotted name."""

    request: int
    counters: dict[str, int]


class Log(_Message, frozen=True):
    """A log record of the network process. `level` as in the logging module."""

    level: int
    logger: str
    message: str


ToNetwork = (
    Configure
    | SendFrame
    | Publish
    | Dial
    | Fetch
    | EndFetch
    | BlobAnswer
    | OpenTunnel
    | RefuseTunnel
    | AbortTunnel
    | Ban
    | Spare
    | AskStats
    | Taken
    | Stop
)
ToNode = (
    Ready
    | Failed
    | Up
    | Down
    | Banned
    | FrameIn
    | GossipIn
    | Found
    | Rtt
    | Sent
    | Dialled
    | Fetched
    | AskBlob
    | AskTunnel
    | TunnelAnswered
    | TunnelOver
    | Stats
    | Log
)

_encoder: Final = msgspec.msgpack.Encoder()
_to_network: Final = msgspec.msgpack.Decoder(ToNetwork)
_to_node: Final = msgspec.msgpack.Decoder(ToNode)


def encode(message: ToNetwork | ToNode) -> bytes:
    """The bytes of one message, length included."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def decode_to_network(body: bytes) -> ToNetwork:
    """A message to the network process.

    Raises:
        msgspec.ValidationError: not one of `ToNetwork`.
    """
    message: ToNetwork = _to_network.decode(body)
    return message


def decode_to_node(body: bytes) -> ToNode:
    """A message to the node.

    Raises:
        msgspec.ValidationError: not one of `ToNode`.
    """
    message: ToNode = _to_node.decode(body)
    return message


class Splitter:
    """Cuts a byte stream into length-prefixed bodies. Linear in what arrives; holds at most one unfinished body.

    Attributes:
        max_body: longest body accepted; checked before anything is stored for it.
    """

    __slots__ = ("_buffer", "max_body")

    def __init__(self, max_body: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self.max_body = max_body

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Takes bytes, gives the bodies that became complete, in order.

        Raises:
            ValueError: a body longer than `max_body` is announced. The stream cannot be read further.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        position, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, position)
                if length > self.max_body:
                    raise ValueError(
                        f"a body of {format_count(length, 'byte')} is announced, {self.max_body} is the longest accepted"
                    )
                if end - position - _LENGTH.size < length:
                    break
                position += _LENGTH.size
                bodies.append(bytes(view[position : position + length]))
                position += length
        del buffer[:position]
        return bodies

    @property
    def pending(self) -> int:
        """Bytes held of a body that is not complete."""
        return len(self._buffer)


def cost(frame: bytes) -> int:
    """What a frame counts against credit."""
    return len(frame) + FRAME_OVERHEAD


class Credit:
    """How much may be under way. The receiver gives back in steps of a quarter, so that acknowledging is rare and never late."""

    __slots__ = ("_owed", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._owed = 0

    def take(self, amount: int) -> bool:
        """Sender: counts `amount` as under way, or refuses when it does not fit."""
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        """Sender: the receiver took `amount`."""
        self.used = max(0, self.used - amount)

    def owe(self, amount: int) -> int:
        """Receiver: took `amount`; gives what to acknowledge now, or 0 while it is too little to be worth a message."""
        self._owed += amount
        if self._owed * 4 < self.limit:
            return 0
        owed, self._owed = self._owed, 0
        return owed
