"""grants.*: signed permissions: whose are accepted here, what this node granted, what it holds."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from dms.rpc.registry import method
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import Rights
from dms_proto.ids import GrantId, PeerId

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class AnchorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer whose grants are to be accepted, or no longer.

    Attributes:
        peer: its PeerID; of a peer this node knows also a unique beginning or end of it, or its name.
        wanted: whether they are.
    """

    peer: str
    wanted: bool = True


class Anchors(msgspec.Struct, frozen=True):
    """Peers whose grants are accepted here.

    Attributes:
        anchors: this node itself first, the others in the order they were added.
    """

    anchors: tuple[PeerId, ...]


class CreateGrantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant to be issued by this node.

    Attributes:
        rights: what it allows.
        renew_until: this node makes it anew for a holder that uses it, each time for as long as the first lasts, until then at the latest (Unix ms);
            0: it runs out.
    """

    rights: Rights
    renew_until: Moment = 0


class DelegateGrantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant to be made narrower.

    Attributes:
        grant: its text, or the id of one this node holds.
        by: what it is to allow at most from then on; the old bounds stay.
    """

    grant: Text
    by: Rights


class GrantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant.

    Attributes:
        grant: its text, or the id of one this node holds.
    """

    grant: Text


class RevokeGrantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant to make void, with every one made from it.

    Attributes:
        grant: its id, or its text. An id may be a unique beginning of one this node issued or holds, or any in full.
    """

    grant: Text


class GrantPart(msgspec.Struct, frozen=True):
    """One signed part of a grant: the first grants, every other narrows.

    Attributes:
        grant_id: of the grant up to here.
        rights: what this part says.
        delegator: the node that made it, by its own word, and may revoke it; empty: nobody says so.
        renews: the grant that it stands for; empty: none.
    """

    grant_id: GrantId
    rights: Rights
    delegator: PeerId = PeerId("")
    renews: GrantId = GrantId("")


class GrantView(msgspec.Struct, frozen=True):
    """A grant, verified.

    Attributes:
        grant_id: its id.
        issuer: who signed its first part.
        rights: what all parts together allow.
        parts: each of them, the first first.
        held: whether this node keeps it.
        flaw: why this node would not accept it now, if its holder showed it; empty: it would.
        revoked: whether whoever may say so has told this node, which holds it, that it is void.
        renewal: by which its issuer makes it anew while it is in use; null: it runs out.
    """

    grant_id: GrantId
    issuer: PeerId
    rights: Rights
    parts: tuple[GrantPart, ...]
    held: bool = False
    flaw: str = ""
    revoked: bool = False
    renewal: Renewal | None = None


class Grant(msgspec.Struct, frozen=True):
    """A grant that was just made.

    Attributes:
        text: the grant itself: whoever has it can use it, unless it names its holders. It is not kept.
        view: what it says.
    """

    text: str
    view: GrantView


class IssuedGrant(msgspec.Struct, frozen=True):
    """A grant this node issued, or made of one it was given.

    Attributes:
        grant_id: its id.
        rights: what it allows.
        at: Unix ms.
        revoked: whether this node made it void.
        of: who issued the grant that it was made from; empty: this node.
        renewal: by which this node makes it anew while it is in use; null: it runs out.
        renewed_until: when its last renewal ends, Unix ms; 0: there was none.
    """

    grant_id: GrantId
    rights: Rights
    at: int
    revoked: bool
    of: PeerId = PeerId("")
    renewal: Renewal | None = None
    renewed_until: int = 0


class GrantList(msgspec.Struct, frozen=True):
    """Grants.

    Attributes:
        issued: by this node, and those it made of grants it was given, oldest first.
        held: by this node: what it shows to those who ask for one.
        revoked: void here.
    """

    issued: tuple[IssuedGrant, ...]
    held: tuple[GrantView, ...]
    revoked: tuple[GrantId, ...]


class GrantMethods(Protocol):
    """Signed permissions."""

    @method("grants.anchors")
    async def grants_anchors(self) -> Anchors:
        """Whose grants are accepted here."""
        ...

    @method("grants.anchor", mutates=True)
    async def grants_anchor(self, params: AnchorParams) -> Anchors:
        """Accepts the grants of a peer from now on, or no longer."""
        ...

    @method("grants.create", mutates=True)
    async def grants_create(self, params: CreateGrantParams) -> Grant:
        """Issues a grant, signed by this node's key."""
        ...

    @method("grants.delegate", mutates=True)
    async def grants_delegate(self, params: DelegateGrantParams) -> Grant:
        """Makes a narrower grant of one. Nothing is signed by this node's key, and nothing is kept; it may be used as the one it was made of."""
        ...

    @method("grants.inspect")
    async def grants_inspect(self, params: GrantParams) -> GrantView:
        """Verifies a grant and says what it allows."""
        ...

    @method("grants.keep", mutates=True)
    async def grants_keep(self, params: GrantParams) -> GrantView:
        """Keeps a grant, to be shown to those who ask for it."""
        ...

    @method("grants.forget", mutates=True)
    async def grants_forget(self, params: GrantParams) -> GrantView:
        """Keeps a grant no longer. It stays valid."""
        ...

    @method("grants.revoke", mutates=True)
    async def grants_revoke(self, params: RevokeGrantParams) -> GrantList:
        """Makes a grant void here, and where its issuer's word counts, if that is this node."""
        ...

    @method("grants.list")
    async def grants_list(self) -> GrantList:
        """What this node granted, holds and made void."""
        ...
