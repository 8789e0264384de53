"""Who a node is and was: checks its names and successions from public data alone, and makes the next succession."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dms_proto.ids import NodeId, PeerId, node_id_of, public_key_of, uuid_of
from dms_proto.succession import Succession, Successions, signed_bytes
from dms_proto.units import format_count
from dms_proto.wire.signing import Signer, verify


class PublicIdentity(NodeId, frozen=True, omit_defaults=True):
    """All names of one node and what proves them. Nothing in it is secret.

    Attributes:
        successions: how the first key became the present one; empty if it still is the first.
    """

    successions: Successions = ()


def identity_of(public_key: bytes, successions: Successions = ()) -> PublicIdentity:
    """The names of the node that holds `public_key` and came to it by `successions`."""
    names = node_id_of(public_key, successions[0].uuid if successions else uuid_of(public_key))
    return PublicIdentity(names.uuid, names.cid, names.peer_id, names.did, successions)


def check(identity: PublicIdentity) -> tuple[PeerId, ...]:
    """The earlier names of the node, oldest first, if everything that `identity` says follows from its keys.

    Raises:
        ValueError: which name or record does not.
    """
    names = node_id_of(public_key_of(identity.peer_id), identity.uuid)
    for name in ("cid", "did"):
        if getattr(identity, name) != getattr(names, name):
            raise ValueError(f"the {name.upper()} is not that of {identity.peer_id}")
    return predecessors(identity.peer_id, identity.uuid, identity.successions)


def predecessors(peer: PeerId, uuid: str, successions: Sequence[Succession]) -> tuple[PeerId, ...]:
    """The earlier names of the node that now is `peer`, oldest first. Signatures are looked at last, since they cost most.

    Raises:
        ValueError: the UUID does not follow from the first key, or a record does not lead to the next.
    """
    names = (*(record.old for record in successions), peer)
    if uuid_of(public_key_of(names[0])) != uuid:
        raise ValueError(f"the UUID {uuid} does not follow from the key of {names[0]}")
    if len(set(names)) != len(names):
        raise ValueError("a key comes back in its successions")
    for number, (record, (_, new)) in enumerate(zip(successions, pairwise(names), strict=True), start=1):
        if record.new != new or record.uuid != uuid:
            raise ValueError(
                f"succession {number} of {format_count(len(successions), 'record')} does not lead to the next"
            )
    for number, record in enumerate(successions, start=1):
        _check_signatures(number, record)
    return names[:-1]


def _check_signatures(number: int, record: Succession) -> None:
    signed = signed_bytes(record.old, record.new, record.uuid, record.at)
    for whose, peer, signature in (
        ("old", record.old, record.old_signature),
        ("new", record.new, record.new_signature),
    ):
        if not verify(public_key_of(peer), signed, signature):
            raise ValueError(f"succession {number} is not signed by the {whose} key")


def succeed(old: Signer, new: Signer, uuid: str, at: int) -> Succession:
    """The record by which the node `uuid` goes from one key to another at `at` (Unix ms)."""
    signed = signed_bytes(old.peer_id, new.peer_id, uuid, at)
    return Succession(old.peer_id, new.peer_id, uuid, at, old.sign(signed), new.sign(signed))
