"""Identities: names, and the successions that prove them."""

from __future__ import annotations

from collections.abc import Iterator

from dms.cli.blocks import Block, Box, Line, Table
from dms.cli.views.words import clock
from dms_proto.ids import NodeId
from dms_proto.lineage import PublicIdentity


def names(node: NodeId) -> Box:
    """All names of a node."""
    return Box("Identity", (("peer id", node.peer_id), ("did", node.did), ("cid", node.cid), ("uuid", node.uuid)))


def own(identity: PublicIdentity, *, protected: bool) -> Iterator[Block]:
    """This node's names, its earlier keys, and whether a passphrase protects the present one."""
    yield names(identity)
    yield from _successions(identity)
    if protected:
        yield Line("the key is encrypted under a passphrase")
    else:
        yield Line("the key is not encrypted; `dms identity protect` does it", "warn")


def verified(identity: PublicIdentity) -> Iterator[Block]:
    """An identity that was checked."""
    yield names(identity)
    yield from _successions(identity)
    yield Line("every name follows from the key, and every succession is signed by both keys", "good")


def _successions(identity: PublicIdentity) -> Iterator[Block]:
    if identity.successions:
        rows = [(clock(record.at), record.old, record.new) for record in identity.successions]
        yield Table(("KEY REPLACED", "BEFORE", "AFTER"), rows)
