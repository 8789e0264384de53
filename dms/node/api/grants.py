"""grants.*: signed permissions."""

from __future__ import annotations

import msgspec

from dms.node.api.base import Base, call_id
from dms.rpc.api.grants import (
    AnchorParams,
    Anchors,
    CreateGrantParams,
    DelegateGrantParams,
    Grant,
    GrantList,
    GrantParams,
    GrantPart,
    GrantView,
    IssuedGrant,
    RevokeGrantParams,
)
from dms.rpc.ids import match_id, match_peer
from dms.trust.grant import FORM, blocks, issue, narrow, read_grant, showable
from dms_actors.node import NodeState
from dms_proto.errors import UserError
from dms_proto.grants.renewal import Renewal, promised
from dms_proto.grants.revocations import revoke
from dms_proto.grants.rights import CEILINGS, LISTS, TIME, Rights
from dms_proto.grants.trust import AnchorWished, GrantMade, RevocationsHeard, Trust, issuer_of
from dms_proto.ids import GrantId, PeerId, public_key_of
from dms_proto.messages.kinds import MAX_ANCHORS
from dms_proto.rules import GoodGrantId
from dms_proto.units import MAX_QUANTITY, format_age
from dms_proto.wire import Signer


class GrantGroup(Base):
    """The methods of `dms.rpc.api.grants.GrantMethods`."""

    async def grants_anchors(self) -> Anchors:
        """See `GrantMethods`."""
        return Anchors((await self._state()).grants.anchors)

    async def grants_anchor(self, params: AnchorParams) -> Anchors:
        """See `GrantMethods`."""
        state = await self._state()
        known: dict[str, str] = dict.fromkeys(state.grants.anchors, "")
        for met in state.membership.peers.values():
            known[met.peer] = met.hello.name if met.hello is not None else ""
        peer = PeerId(params.peer) if _is_peer_id(params.peer) else PeerId(match_peer(params.peer, known))
        if peer == self._me and not params.wanted:
            raise UserError("bad_argument", "this node always accepts its own grants")
        after = (await self._wish(AnchorWished(peer, params.wanted), call_id("grants.anchor"))).grants.anchors
        if params.wanted != (peer in after):
            raise UserError("bad_argument", f"grants of {MAX_ANCHORS} nodes are accepted already, which is the most")
        return Anchors(after)

    async def grants_create(self, params: CreateGrantParams) -> Grant:
        """See `GrantMethods`."""
        rights = self._of_peers(params.rights, await self._state())
        return self._made(await self._issue(rights, params.renew_until), (await self._state()).grants)

    def _of_peers(self, rights: Rights, state: NodeState) -> Rights:
        """The rights, with the peers that are named in them by their whole PeerIDs."""
        if "peer" not in rights.one_of:
            return rights
        peers = (given if _is_peer_id(given) else self._peer(given, state) for given in rights.one_of["peer"])
        return msgspec.structs.replace(rights, one_of={**rights.one_of, "peer": tuple(sorted(set(peers)))})

    async def _issue(self, rights: Rights, renew_until: int) -> bytes:
        """A grant by this node, written down as issued."""
        _check(rights, self._now())
        grant = issue(self._services.identity.seed(), rights, _renewal(renew_until, rights.until, self._now()))
        proven = read_grant(grant)
        assert proven is not None
        made = GrantMade(proven.origin, proven.rights, renewal=proven.renewal)
        await self._wish(made, call_id("grants.create"))
        return grant

    async def grants_delegate(self, params: DelegateGrantParams) -> Grant:
        """See `GrantMethods`."""
        _check(params.by, self._now())
        if params.by.own:
            raise UserError("bad_argument", "own is granted by an anchor; delegating can only take rights away")
        of, by = self._grant(params.grant), self._of_peers(params.by, await self._state())
        grant = narrow(of, by, self._me)
        proven = read_grant(grant)
        assert proven is not None
        made = GrantMade(proven.origin, proven.rights, showable(grant, self._me))
        return self._made(grant, (await self._wish(made, call_id("grants.delegate"))).grants)

    async def grants_inspect(self, params: GrantParams) -> GrantView:
        """See `GrantMethods`."""
        return self._grant_view(self._grant(params.grant), (await self._state()).grants)

    async def grants_keep(self, params: GrantParams) -> GrantView:
        """See `GrantMethods`."""
        held = self._services.wallet.keep(FORM.read(params.grant))
        return self._grant_view(held.grant, (await self._state()).grants)

    async def grants_forget(self, params: GrantParams) -> GrantView:
        """See `GrantMethods`."""
        grant = self._grant(params.grant)
        view = self._grant_view(grant, (await self._state()).grants)
        self._services.wallet.forget(view.grant_id)
        return msgspec.structs.replace(view, held=False)

    async def grants_revoke(self, params: RevokeGrantParams) -> GrantList:
        """See `GrantMethods`."""
        state = (await self._state()).grants
        id_, until, proof = self._to_revoke(params.grant, state)
        identity = self._services.identity
        revocation = revoke(Signer(identity.seed()), id_, until, proof, identity.successions if proof else ())
        after = await self._wish(RevocationsHeard((revocation,)), call_id("grants.revoke"))
        if (id_, self._me) not in after.grants.revoked:
            raise UserError("bad_argument", f"the grant {id_} has ended, or too many are revoked already")
        return await self.grants_list()

    def _to_revoke(self, given: str, trust: Trust) -> tuple[GrantId, int, bytes]:
        """The id that is meant, when that grant ends (0: never, or not known), and what the revocation rests on if this node passed it on."""
        if given.startswith(FORM.prefix):
            grant = FORM.read(given)
            proven = read_grant(grant)
            if proven is None:
                raise FORM.refused("does not verify")
            passed_on = [
                id_ for id_, by in zip(proven.ids, proven.delegators, strict=True) if by in (trust.me, *trust.former)
            ]
            if proven.issuer != self._me and passed_on:
                return passed_on[-1], 0, showable(grant, self._me)
            return proven.origin, proven.renewal.until if proven.renewal is not None else proven.rights.until, b""
        ends = {id_: issued.last for id_, issued in trust.issued.items()}
        ends |= {id_: held.proven.rights.until for id_, held in self._services.wallet.held.items()}
        if given not in ends and _is_whole_id(given):
            return GrantId(given), 0, b""
        id_ = GrantId(match_id(given, ends, "grant"))
        return id_, ends[id_], trust.issued[id_].proof if id_ in trust.issued else b""

    async def grants_list(self) -> GrantList:
        """See `GrantMethods`."""
        trust = (await self._state()).grants
        void = dict.fromkeys(id_ for id_, _ in trust.revoked)
        issued = (
            IssuedGrant(
                one.grant_id,
                one.rights,
                one.at,
                one.grant_id in void,
                issuer_of(one.proof),
                one.renewal,
                one.renewed_until,
            )
            for one in trust.issued.values()
        )
        held = (self._grant_view(one.grant, trust) for one in self._services.wallet.held.values())
        return GrantList(tuple(issued), tuple(held), tuple(void))

    def _grant(self, given: str) -> bytes:
        """The grant that a person means: its text, or the id of a held one."""
        if given.startswith(FORM.prefix):
            return FORM.read(given)
        held = self._services.wallet.held
        return held[GrantId(match_id(given, held, "grant"))].grant

    def _made(self, grant: bytes, trust: Trust) -> Grant:
        return Grant(FORM.write(grant), self._grant_view(grant, trust))

    def _grant_view(self, grant: bytes, trust: Trust) -> GrantView:
        proven = read_grant(grant)
        if proven is None:
            raise FORM.refused("does not verify, or says what this version does not understand")
        holder = PeerId(next(iter(proven.rights.one_of.get("peer", ())), self._me))
        flaw = trust.credential(grant, holder, self._now(), read_grant).flaw
        is_held = proven.origin in self._services.wallet.held
        is_void = proven.origin in self._services.wallet.void
        return GrantView(
            proven.origin, proven.issuer, proven.rights, parts_of(grant), is_held, flaw, is_void, proven.renewal
        )


def parts_of(grant: bytes) -> tuple[GrantPart, ...]:
    """What each signed part of a grant says."""
    return tuple(
        GrantPart(part.grant_id, part.said.rights, part.said.delegator, part.said.renews) for part in blocks(grant)
    )


def _renewal(until: int, end: int, now: int) -> Renewal | None:
    """The promise to renew a grant that ends at `end`, until `until`; 0: none is made.

    Raises:
        UserError: `bad_argument`: nothing would ever be renewed by it.
    """
    renewal = promised(until, end, now)
    if until and renewal is None:
        what = "a grant without end needs no renewal" if not end else "it would be renewed no longer than it lasts"
        raise UserError("bad_argument", what, hint="let it end (--until) before the last renewal does (--renew)")
    return renewal


def _is_whole_id(text: str) -> bool:
    try:
        msgspec.convert(text, GoodGrantId)
    except msgspec.ValidationError:
        return False
    return True


def _is_peer_id(text: str) -> bool:
    try:
        public_key_of(text)
    except ValueError:
        return False
    return True


def _check(rights: Rights, now: int) -> None:
    """Refuses rights that no grant could carry, or that ended before `now` (Unix ms).

    Raises:
        UserError: `bad_argument`: names what is wrong.
    """
    for name, most in rights.at_most.items():
        if name not in CEILINGS and name != TIME:
            raise UserError("bad_argument", f"there is no bound {name!r}", hint=f"bounds are {', '.join(CEILINGS)}")
        if not 0 <= most <= MAX_QUANTITY:
            raise UserError("bad_argument", f"{name} is {most}; it must be from 0 to {MAX_QUANTITY}")
    if rights.until and rights.until <= now:
        ago = format_age(now - rights.until)
        raise UserError("bad_argument", f"the grant would have ended {ago} ago", hint="write an end that is to come")
    for name, allowed in rights.one_of.items():
        if name not in LISTS:
            raise UserError("bad_argument", f"there is no list {name!r}", hint=f"lists are {', '.join(LISTS)}")
        known = LISTS[name].known
        for value in allowed:
            if known and value not in known:
                hint = f"they are {', '.join(sorted(known))}"
                raise UserError("bad_argument", f"{value!r} is none of the {LISTS[name].words}", hint=hint)
