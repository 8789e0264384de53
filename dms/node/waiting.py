"""Frames for peers that are being dialled: those of whom gossip was heard, and who said where an answer reaches them.

Anybody can say that, of any number of identities, and of addresses where nobody answers. So those who wait are few, and so is what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from dms_proto.ids import PeerId
from dms_proto.units import MIB

MAX_PEERS: Final = 256
"""Peers that are dialled for it at a time; each dial takes some seconds at most, and a socket. An answer to one more is dropped."""
MAX_OF_PEER: Final = 64
"""Frames for one of them; the oldest go."""
MAX_BYTES: Final = 8 * MIB
"""Of all of them together."""


class _Frame(NamedTuple):
    frame: bytes
    expires: int


class Waiting:
    """One per post; lives on the loop."""

    def __init__(self, *, most_peers: int = MAX_PEERS, most_bytes: int = MAX_BYTES) -> None:
        self._most_peers = most_peers
        self._most_bytes = most_bytes
        self._frames: dict[PeerId, deque[_Frame]] = {}
        self._bytes = 0

    def keep(self, peer: PeerId, frame: bytes, now: int, expires: int) -> bool:
        """Keeps a frame until `expires` (`now`, Unix ms). False: there is no room for it."""
        if not self._has_room(peer, len(frame)):
            self._let_expire(now)
            if not self._has_room(peer, len(frame)):
                return False
        mine = self._frames.setdefault(peer, deque())
        if len(mine) >= MAX_OF_PEER:
            self._bytes -= len(mine.popleft().frame)
        mine.append(_Frame(frame, expires))
        self._bytes += len(frame)
        return True

    def take(self, peer: PeerId, now: int) -> Sequence[bytes]:
        """What waits for a peer and has not expired, oldest first; nothing waits for it any more."""
        mine = self._frames.pop(peer, deque())
        self._bytes -= sum(len(one.frame) for one in mine)
        return [one.frame for one in mine if one.expires > now]

    def __len__(self) -> int:
        return len(self._frames)

    def _has_room(self, peer: PeerId, size: int) -> bool:
        is_there = peer in self._frames or len(self._frames) < self._most_peers
        return is_there and self._bytes + size <= self._most_bytes

    def _let_expire(self, now: int) -> None:
        """Of who was reached and never came up, or whose dial is long over."""
        for peer in [peer for peer, frames in self._frames.items() if frames[-1].expires <= now]:
            self.take(peer, now)
