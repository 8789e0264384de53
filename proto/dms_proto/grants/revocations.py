"""Revocations: a signed word that a grant, and every one made from it, is void.

It counts if the grant's issuer signed it, the node that checks, or, for the grant that it passed on, the node that the grant names as its delegator.
That node is the same after its key was replaced: its revocation shows how.

::

    signature = Ed25519( "dms/revocation/1" 0x00 + grant id + 0x00 + until as decimal digits )
"""

from __future__ import annotations

from typing import Final

from dms_proto.ids import GrantId, PeerId, public_key_of
from dms_proto.lineage import predecessors
from dms_proto.messages import Revocation
from dms_proto.succession import Successions
from dms_proto.wire.signing import Signer, verify

DOMAIN: Final = b"dms/revocation/1\0"


def revoke(
    signer: Signer, grant_id: GrantId, until: int, proof: bytes = b"", successions: Successions = ()
) -> Revocation:
    """The revocation of a grant by `signer`.

    Args:
        signer: who revokes.
        grant_id: of the grant, or of the one it was made from.
        until: when the grant ends by itself, after which nobody need remember this; Unix ms, 0: never.
        proof: of a delegator: the grant, in a form that is for certain nodes only.
        successions: of a delegator: how it got its key, if the grant may name it by an earlier one.
    """
    return Revocation(grant_id, signer.peer_id, until, signer.sign(_signed(grant_id, until)), proof, successions)


def signed_by(revocation: Revocation) -> tuple[PeerId, ...]:
    """The names of the node that has signed it, by its own word: the present one, and those before. Whether it is true says `is_genuine`."""
    return (PeerId(revocation.signer), *(PeerId(record.old) for record in revocation.successions))


def is_genuine(revocation: Revocation) -> bool:
    """Whether it was signed by whom it names, who had the names before that it says. Costs a check of a signature, and two for each earlier name."""
    signed, signer = _signed(revocation.grant_id, revocation.until), PeerId(revocation.signer)
    try:
        if not verify(public_key_of(signer), signed, revocation.signature):
            return False
        if records := revocation.successions:
            predecessors(signer, records[0].uuid, records)
    except ValueError:
        return False
    return True


def _signed(grant_id: GrantId, until: int) -> bytes:
    return DOMAIN + grant_id.encode() + b"\0" + str(until).encode()
