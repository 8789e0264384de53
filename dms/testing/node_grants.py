"""The grants of the in-memory node: real tokens, kept in a dict."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

from dms.node.api.grants import parts_of
from dms.rpc.api import grants
from dms.rpc.ids import match_id
from dms.trust.grant import FORM, issue, narrow, read_grant
from dms_proto.grants.renewal import promised
from dms_proto.grants.trust import issuer_of
from dms_proto.ids import GrantId, PeerId


class MemoryGrants:
    """The part of `dms.testing.node_api.MemoryNode` about grants.

    Args:
        me: the node.
        seed: of its key.
    """

    def __init__(self, me: PeerId, seed: bytes) -> None:
        self.anchors: dict[PeerId, None] = {me: None}
        self.issued: dict[GrantId, bytes] = {}
        self.held: dict[GrantId, bytes] = {}
        self.void: dict[GrantId, None] = {}
        self._me = me
        self._seed = seed

    async def grants_anchors(self) -> grants.Anchors:
        return grants.Anchors(tuple(self.anchors))

    async def grants_anchor(self, params: grants.AnchorParams) -> grants.Anchors:
        if params.wanted:
            self.anchors[PeerId(params.peer)] = None
        else:
            del self.anchors[PeerId(match_id(params.peer, self.anchors, "anchor"))]
        return await self.grants_anchors()

    async def grants_create(self, params: grants.CreateGrantParams) -> grants.Grant:
        renewal = promised(params.renew_until, params.rights.until, 0)
        made = self._made(issue(self._seed, params.rights, renewal))
        self.issued[made.view.grant_id] = FORM.read(made.text)
        return made

    async def grants_delegate(self, params: grants.DelegateGrantParams) -> grants.Grant:
        made = self._made(narrow(self._grant(params.grant), params.by, self._me))
        self.issued[made.view.grant_id] = FORM.read(made.text)
        return made

    async def grants_inspect(self, params: grants.GrantParams) -> grants.GrantView:
        return self._grant_view(self._grant(params.grant))

    async def grants_keep(self, params: grants.GrantParams) -> grants.GrantView:
        grant = FORM.read(params.grant)
        self.held[self._grant_view(grant).grant_id] = grant
        return self._grant_view(grant)

    async def grants_forget(self, params: grants.GrantParams) -> grants.GrantView:
        view = self._grant_view(self._grant(params.grant))
        del self.held[view.grant_id]
        return view

    async def grants_revoke(self, params: grants.RevokeGrantParams) -> grants.GrantList:
        self.void[GrantId(match_id(params.grant, self.issued, "grant"))] = None
        return await self.grants_list()

    async def grants_list(self) -> grants.GrantList:
        issued = (
            grants.IssuedGrant(id_, view.rights, 0, id_ in self.void, self._of(grant), view.renewal)
            for id_, grant in self.issued.items()
            for view in (self._grant_view(grant),)
        )
        held = (self._grant_view(grant) for grant in self.held.values())
        return grants.GrantList(tuple(issued), tuple(held), tuple(self.void))

    def _of(self, grant: bytes) -> PeerId:
        issuer = issuer_of(grant)
        return PeerId("") if issuer == self._me else issuer

    def _grant(self, given: str) -> bytes:
        if given.startswith(FORM.prefix):
            return FORM.read(given)
        return self.held[GrantId(match_id(given, self.held, "grant"))]

    def _made(self, grant: bytes) -> grants.Grant:
        return grants.Grant(FORM.write(grant), self._grant_view(grant))

    def _grant_view(self, grant: bytes) -> grants.GrantView:
        proven = read_grant(grant)
        if proven is None:
            raise FORM.refused("does not verify")
        id_ = proven.ids[-1]
        return grants.GrantView(
            id_, proven.issuer, proven.rights, parts_of(grant), id_ in self.held, renewal=proven.renewal
        )
