"""Proof of work: what a new identity costs whoever makes it up. A hashcash over who shows it, to whom, and the day. Pure.

A stamp is a number of 8 bytes. It is worth as many bits as ``SHA-256("dms-work" ‖ by ‖ 0 ‖ to ‖ 0 ‖ day ‖ stamp)`` begins with zeros: `by` shows it,
`to` looks at it, both as PeerIDs in ASCII, the day since 1970 in 8 bytes, big-endian. One day more and one less count, too: clocks differ. A stamp is
good for nobody else, for no other receiver and for no longer, so it cannot be collected; coming again within the day costs nothing.
"""

from __future__ import annotations

import hashlib
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.units import HOUR

STAMP_BYTES: Final = 8
MAX_BITS: Final = 22
"""The most that a node works for: 4 million hashes, ten seconds or so. Whoever wants more is not joined."""
DAY_MS: Final = 24 * HOUR
_DOMAIN: Final = b"dms-work"
_NUMBERS: Final = 2 ** (8 * STAMP_BYTES)


def day_of(now: int) -> int:
    """The day of a time in Unix ms."""
    return now // DAY_MS


def worth(stamp: bytes, by: PeerId, to: PeerId, day: int) -> int:
    """How many bits a stamp of `by` is worth to `to` on `day`. Nothing if it is none."""
    if len(stamp) != STAMP_BYTES:
        return 0
    return max(_zeros(_prefix(by, to, near) + stamp) for near in (day, day - 1, day + 1))


def make_stamp(by: PeerId, to: PeerId, day: int, bits: int) -> bytes:
    """A stamp worth `bits` or more, 0 to `MAX_BITS`. Takes 2 ** `bits` hashes on average: 16 bits a tenth of a second or two.

    Raises:
        ValueError: more bits than a node works for.
    """
    check_bits(bits)
    stamp = find_stamp(by, to, day, bits, range(_NUMBERS))
    assert stamp is not None, "one in four million is worth that"
    return stamp


def check_bits(bits: int) -> None:
    """Looks whether this is work that a node does.

    Raises:
        ValueError: more bits than a node works for.
    """
    if not 0 <= bits <= MAX_BITS:
        raise ValueError(f"{bits} bits of work are wanted; a node works for {MAX_BITS} at most")


def find_stamp(by: PeerId, to: PeerId, day: int, bits: int, numbers: range) -> bytes | None:
    """The first stamp among `numbers` that is worth `bits` or more; None if there is none."""
    start, limit = hashlib.sha256(_prefix(by, to, day)), 1 << (256 - bits)
    for number in numbers:
        stamp = number.to_bytes(STAMP_BYTES, "big")
        tried = start.copy()
        tried.update(stamp)
        if int.from_bytes(tried.digest(), "big") < limit:
            return stamp
    return None


def _prefix(by: PeerId, to: PeerId, day: int) -> bytes:
    return b"".join((_DOMAIN, by.encode(), b"\0", to.encode(), b"\0", max(0, day).to_bytes(8, "big")))


def _zeros(data: bytes) -> int:
    return 256 - int.from_bytes(hashlib.sha256(data).digest(), "big").bit_length()
