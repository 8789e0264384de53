"""A succession: the signed record by which a node gets a new key and stays the same node.

::

    first key ──record──▶ second key ──record──▶ present key
        └── the UUID follows from it               └── PeerID, DID, CID follow from it

Both keys sign the same bytes: the old one gives its name away, the new one takes it. `dms_proto.lineage` makes and checks records.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.ids import public_key_of
from dms_proto.rules import Amount, GoodPeerId, Uuid

DOMAIN: Final = b"dms/succession/1\0"
"""Before the signed bytes: no other signature of a node can be shown as one of these."""
MAX_SUCCESSIONS: Final = 16
"""Records of one node. They travel in its hellos, and whoever meets it first checks two signatures for each: about 10 ms for all, once."""

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Succession(msgspec.Struct, frozen=True):
    """From now on the node `uuid` is known by `new` and no longer by `old`.

    Attributes:
        old: its name until then.
        new: its name from then on.
        uuid: the node's; the same in all its records.
        at: Unix ms by the node's clock.
        old_signature: Ed25519 of `signed_bytes` by the old key.
        new_signature: the same by the new key.
    """

    old: GoodPeerId
    new: GoodPeerId
    uuid: Uuid
    at: Amount
    old_signature: Signature
    new_signature: Signature


Successions = Annotated[tuple[Succession, ...], msgspec.Meta(max_length=MAX_SUCCESSIONS)]
"""All records of one node, oldest first."""


def signed_bytes(old: str, new: str, uuid: str, at: int) -> bytes:
    """What both keys sign: the domain, both raw public keys, the UUID's 16 bytes, the time as 8 bytes, big-endian.

    Raises:
        ValueError: `old` or `new` is no PeerID.
    """
    return DOMAIN + public_key_of(old) + public_key_of(new) + bytes.fromhex(uuid.replace("-", "")) + at.to_bytes(8)
