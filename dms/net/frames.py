"""The bytes on a frame stream (`/dms/frames/1`): length, kind, body. Pure.

Each peer opens one stream to the other and sends its frames on it. On the same stream, in the other direction, only answers travel::

    opener                                   accepter
      HELLO {network, …}        ───────────►
                                ◄───────────   WELCOME {network, …}   or   REFUSED {reason}, then the stream is closed
                                               or   WORK {bits}: then once more HELLO, with a stamp of proof of work
      FRAME bytes …             ───────────►
      PING 8 bytes              ───────────►
                                ◄───────────   PONG the same 8 bytes
      BYE {reason}              ───────────►   (then the connection is closed)

Every item is a 4-byte big-endian length (of kind and body), one byte of kind, the body. Bodies in braces are msgpack maps, so that fields
can be added. An unknown kind is ignored: a newer peer may send one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import msgspec

from dms.net.config import MAX_FRAME

MAX_ITEM: Final = MAX_FRAME + 1
"""Longest item: kind and the longest frame."""
MAX_GREETING: Final = 4096
"""Longest item before the greeting is over."""
MAX_ADDRESSES: Final = 8
PING_BYTES: Final = 8
HEAD_BYTES: Final = 5
"""Length and kind before each body."""

_HEAD: Final = struct.Struct(">IB")


class Kind(IntEnum):
    """First byte of an item."""

    FRAME = 0
    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    PING = 4
    PONG = 5
    BYE = 6
    WORK = 7


class Greeting(msgspec.Struct, frozen=True):
    """HELLO and WELCOME: what the peer speaks, and where it can be dialled (multiaddrs, at most `MAX_ADDRESSES` are looked at).

    `work`: a stamp (`dms_proto.wire.stamps`), where the accepter asked for one, now or earlier in the day.
    """

    network: str
    agent: str = ""
    addresses: tuple[str, ...] = ()
    work: bytes = b""


class Work(msgspec.Struct, frozen=True):
    """WORK: how many bits a stamp has to be worth."""

    bits: int


class Reason(msgspec.Struct, frozen=True):
    """REFUSED and BYE: why, for people and for the log."""

    reason: str


_encoder: Final = msgspec.msgpack.Encoder()
_greeting: Final = msgspec.msgpack.Decoder(Greeting)
_work: Final = msgspec.msgpack.Decoder(Work)
_reason: Final = msgspec.msgpack.Decoder(Reason)


def item(kind: Kind, body: bytes) -> bytes:
    """The bytes of one item."""
    return _HEAD.pack(len(body) + 1, kind) + body


def frame(body: bytes) -> bytes:
    """The bytes of one frame.

    Raises:
        ValueError: longer than `MAX_FRAME`.
    """
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame has at most {MAX_FRAME} bytes, this has {len(body)}")
    return _HEAD.pack(len(body) + 1, Kind.FRAME) + body


def greeting(kind: Kind, content: Greeting) -> bytes:
    """The bytes of a HELLO or WELCOME."""
    return item(kind, _encoder.encode(content))


def reason(kind: Kind, text: str) -> bytes:
    """The bytes of a REFUSED or BYE."""
    return item(kind, _encoder.encode(Reason(text[:200])))


def read_greeting(body: bytes) -> Greeting | None:
    """The greeting in an item body (after the kind), or None if it is not one."""
    try:
        return _greeting.decode(body)
    except msgspec.DecodeError:
        return None


def work_wanted(bits: int) -> bytes:
    """The bytes of a WORK."""
    return item(Kind.WORK, _encoder.encode(Work(bits)))


def read_work(body: bytes) -> int | None:
    """The bits that a WORK asks for, or None if it is not readable."""
    try:
        return _work.decode(body).bits
    except msgspec.DecodeError:
        return None


def read_reason(body: bytes) -> str:
    """The text in a REFUSED or BYE body; a fixed text if it is not readable."""
    try:
        return _reason.decode(body).reason[:200]
    except msgspec.DecodeError:
        return "no readable reason"
