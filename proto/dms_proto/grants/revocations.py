"""Revocations: a signed word that a grant, and every one made from it, is void.

It counts if the grant's issuer signed it, the node that checks, or, for the grant that it passed on, the node that the grant names as its delegator.

::

    signature = Ed25519( "dms/revocation/1" 0x00 + grant id + 0x00 + until as decimal digits )
"""

from __future__ import annotations

from typing import Final

from dms_proto.ids import GrantId, public_key_of
from dms_proto.messages import Revocation
from dms_proto.wire.signing import Signer, verify

DOMAIN: Final = b"dms/revocation/1\0"


def revoke(signer: Signer, grant_id: GrantId, until: int, proof: bytes = b"") -> Revocation:
    """The revocation of a grant by `signer`.

    Args:
        signer: who revokes.
        grant_id: of the grant, or of the one it was made from.
        until: when the grant ends by itself, after which nobody need remember this; Unix ms, 0: never.
        proof: of a delegator: the grant, in a form that is for certain nodes only.
    """
    return Revocation(grant_id, signer.peer_id, until, signer.sign(_signed(grant_id, until)), proof)


def is_genuine(revocation: Revocation) -> bool:
    """Whether it was signed by whom it names."""
    signed = _signed(revocation.grant_id, revocation.until)
    try:
        return verify(public_key_of(revocation.signer), signed, revocation.signature)
    except ValueError:
        return False


def _signed(grant_id: GrantId, until: int) -> bytes:
    return DOMAIN + grant_id.encode() + b"\0" + str(until).encode()
