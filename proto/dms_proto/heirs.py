"""Names that are over, each with the present name of the same node: a node that replaces its key takes its place under the new one.

Whoever keeps such a mapping decides itself how long an earlier name is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from dms_proto.ids import PeerId
from dms_proto.machine import Stimulus


class PeerRenamed(Stimulus, frozen=True):
    """A peer has proven that it is the one known as `old`. Met by every machine that knows peers by their names for longer than they are there."""

    old: PeerId
    new: PeerId


def with_heir(heirs: Mapping[PeerId, PeerId], old: PeerId, new: PeerId) -> dict[PeerId, PeerId]:
    """`heirs` after `old` became `new`: the names before `old` lead to `new` as well, and a second heir takes the place of the first."""
    return {name: new if heir == old else heir for name, heir in heirs.items()} | {old: new}


def names_of(heirs: Mapping[PeerId, PeerId], peer: PeerId) -> tuple[PeerId, ...]:
    """The name of a peer, and those it had before as far as they are remembered."""
    return (peer, *(old for old, heir in heirs.items() if heir == peer))
