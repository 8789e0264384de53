"""Spared: whom the owner has let in shows no proof of work at the door. The door knows no grants and no accounts, so the node tells it.

::

    grants of this node that name a peer, anchors, limits ──▶ named ──┐
    a grant that counts, shown                            ──▶ shown ──┴─ the later of both ──▶ the door
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dms_actors.strangers import NO_END, Strangers
from dms_proto.ids import PeerId


class Spared:
    """One per node; lives on the actors' thread."""

    def __init__(self, strangers: Strangers, spare: Callable[[PeerId, int], None]) -> None:
        """`strangers` know who has shown a grant; `spare` tells the door: a peer, and until when it is asked for nothing (Unix ms)."""
        self._strangers = strangers
        self._spare = spare
        self._named: Mapping[PeerId, int] = {}

    def name(self, named: Mapping[PeerId, int], now: int) -> None:
        """Whom the owner has let in by name, each until when (Unix ms; 0: without end). Who is not among them any more is asked again."""
        before, self._named = self._named, {peer: until or NO_END for peer, until in named.items()}
        self.settle((peer for peer in {**before, **self._named} if before.get(peer) != self._named.get(peer)), now)

    def settle(self, peers: Iterable[PeerId], now: int) -> None:
        """Tells the door how it stands with peers, since one has shown a grant, or what was shown counts no longer."""
        for peer in peers:
            self._spare(peer, max(self._named.get(peer, now), self._strangers.let_in_until(peer)))
