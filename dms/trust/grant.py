"""Grants as Biscuits: issued, narrowed, verified offline.

::

    sent form = issuer's Ed25519 public key : 32 bytes ‖ Biscuit
    text      = dmsg1: base64url( sent form ‖ first 4 bytes of its SHA-256 )

The issuer signs the first block. Whoever holds the grant may append blocks, which only narrow it, and nobody can take one away. The id of a grant is
derived from its last signature, so that each narrower grant has its own, and the ids of all it was made from are in it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from biscuit_auth import (
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    PrivateKey,
    PublicKey,
)

from dms.trust.pasted import Form
from dms.trust.statements import NOBODY, Said, read_statements, statements
from dms_proto.errors import UserError
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import Rights
from dms_proto.grants.trust import Proven, issuer_of
from dms_proto.ids import PUBLIC_KEY_BYTES, GrantId, PeerId, grant_id
from dms_proto.units import format_count
from dms_proto.wire import Signer
from dms_proto.wire.envelope import MAX_AUTH

FORM: Final = Form("dmsg1:", "grant", "bad_grant", "copy all of the line that begins with dmsg1:")
MAX_BLOCKS: Final = 8
"""A grant narrowed more often is not read: bounds what verifying one costs."""
CACHED: Final = 1_024
"""Grants whose verification is remembered, good and bad: at most 4 MiB."""

NEW: Final = GrantId("")
"""In place of the id of a grant that is renewed: it renews none."""


class Block(NamedTuple):
    """One signed part of a grant: the first grants, every other narrows. `said`: by its own word."""

    grant_id: GrantId
    said: Said

    @property
    def ids(self) -> tuple[GrantId, ...]:
        """Its ids, oldest first: of the grant that it stands for, if it renews one, and its own."""
        return (self.said.renews, self.grant_id) if self.said.renews else (self.grant_id,)


def issue(seed: bytes, rights: Rights, renewal: Renewal | None = None, renews: GrantId = NEW) -> bytes:
    """A grant by the node with this Ed25519 seed, in its sent form.

    Args:
        seed: of the node's key.
        rights: what it allows.
        renewal: the promise to make it anew; None: it runs out.
        renews: the grant that it stands for; empty: none.

    Raises:
        UserError: `bad_argument`: the rights allow nothing, or cannot be written.
    """
    token = BiscuitBuilder(_source(Said(rights, NOBODY, renewal, renews))).build(
        PrivateKey(f"ed25519-private/{seed.hex()}")
    )
    return _sent(Signer(seed).public_key, token)


def narrow(grant: bytes, by: Rights, delegator: PeerId = NOBODY) -> bytes:
    """A grant that allows what `grant` and `by` both allow. Needs nobody's key.

    Args:
        grant: in its sent form.
        by: the bounds to add.
        delegator: the node that passes it on, which may revoke it; empty: nobody may who could not before.

    Raises:
        UserError: `bad_grant`: it is none; `bad_argument`: nothing would be left, it would be too large, or was narrowed too often.
    """
    proven = read_grant(grant)
    if proven is None:
        raise FORM.refused("does not verify")
    _source(Said(proven.rights.narrowed(by)))  # refused here if nothing would be left
    token = _verified(grant)
    if token.block_count() >= MAX_BLOCKS:
        raise UserError("bad_argument", f"the grant was narrowed {format_count(MAX_BLOCKS - 1, 'time')} already")
    added = BlockBuilder(_source(Said(by, delegator)))
    return _sent(grant[:PUBLIC_KEY_BYTES], token.append(added))


@lru_cache(maxsize=CACHED)
def read_grant(grant: bytes) -> Proven | None:
    """Verifies a grant in its sent form against the issuer it names, and reads it. None: it is none, or says what is not understood.

    A `dms_proto.grants.trust.ReadGrant`. The same bytes are verified once: nothing about them changes.
    """
    parts = blocks(grant)
    if not parts:
        return None
    rights = parts[0].said.rights
    for part in parts[1:]:
        rights = rights.narrowed(part.said.rights)
    issuer, last = issuer_of(grant), parts[-1]
    return Proven(
        issuer,
        tuple(id_ for part in parts for id_ in part.ids),
        rights,
        tuple(part.said.delegator for part in parts for _ in part.ids),
        issuer if len(parts) == 1 else last.said.delegator,
        last.ids[0],
        last.said.renewal,
    )


def blocks(grant: bytes) -> tuple[Block, ...]:
    """What each signed part of a grant says, the first first. Empty: it is no grant, or says what is not understood."""
    if not PUBLIC_KEY_BYTES < len(grant) <= MAX_AUTH:
        return ()
    try:
        return _read(_verified(grant))
    except Exception:  # noqa: BLE001 - anybody sends bytes, the library has errors of many kinds, and whatever fails is no grant
        return ()


def _read(token: Biscuit) -> tuple[Block, ...]:
    count = token.block_count()
    if count > MAX_BLOCKS or any(token.block_external_key(number) for number in range(count)):
        return ()
    said = [read_statements(token.block_source(number), is_first=number == 0) for number in range(count)]
    ids = [grant_id(bytes.fromhex(signature)) for signature in token.revocation_ids]
    understood = tuple(Block(id_, part) for id_, part in zip(ids, said, strict=True) if part is not None)
    return understood if len(understood) == count else ()


def showable(grant: bytes, me: PeerId) -> bytes:
    """A grant in a form that anybody may see: for certain nodes only. One for whoever has it is bound to `me`; its ids stay in it.

    Raises:
        UserError: `bad_grant`: it is none; `bad_argument`: it was narrowed too often, or would be too large.
    """
    proven = read_grant(grant)
    if proven is not None and "peer" in proven.rights.one_of:
        return grant
    return narrow(grant, Rights(one_of={"peer": (me,)}))


def _source(said: Said) -> str:
    try:
        return statements(said)
    except ValueError as error:
        raise UserError("bad_argument", str(error)) from error


def _verified(grant: bytes) -> Biscuit:
    key = PublicKey(f"ed25519/{grant[:PUBLIC_KEY_BYTES].hex()}")
    return Biscuit.from_bytes(grant[PUBLIC_KEY_BYTES:], key)


def _sent(issuer: bytes, token: Biscuit) -> bytes:
    sent = issuer + bytes(token.to_bytes())
    if len(sent) > MAX_AUTH:
        raise UserError("bad_argument", f"the grant takes {format_count(len(sent), 'byte')}; at most {MAX_AUTH} fit")
    return sent
