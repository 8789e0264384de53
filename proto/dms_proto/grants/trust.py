"""Whom a node believes about grants: its anchors, what it granted itself, and which grants are void. Stream "trust".

State     the anchors, the grants this node issued, the revocations it honours.
Stimuli   the owner's wishes about anchors and grants; revocations that peers tell of; holders that ask for a renewal.
Effects   a renewal is made and given, or refused. Of all else peers are told in the next hello.

A revocation is honoured when this node made it, or the grant's issuer did, or who passed the grant on. Peers tell each other those of grants of their
anchors in their hellos, so that one word reaches every node that accepts them, those too that were away when it was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec

from dms_proto.grants.access import NOTHING_SHOWN, Credential
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.revocations import is_genuine, signed_by
from dms_proto.grants.rights import TIME, Rights
from dms_proto.ids import PUBLIC_KEY_BYTES, GrantId, PeerId, peer_id_of, short
from dms_proto.machine import IGNORED, Blame, Decision, Effect, Event, Row, Send, Stimulus, Table
from dms_proto.messages import Refusal, Revocation
from dms_proto.messages.kinds import MAX_ANCHORS, MAX_REVOKED, NOT_GRANTED
from dms_proto.units import SECOND
from dms_proto.wire import CLOCK_SKEW_MS, Offence

MAX_ISSUED: Final = 1_024
"""Issued grants remembered for the owner's list; the oldest go first. They stay valid."""
MAX_HONOURED: Final = 512
"""Revocations by one anchor that are remembered, and as many by all who passed its grants on: bounds what they can make us remember. More are not
taken until some of them run out."""
MAX_DELEGATED: Final = 64
"""The same by all who passed on what came of one grant: whoever holds it can make any number of nodes up, and crowds out nobody who holds another."""
MAX_PROOFS_TOLD_BYTES: Final = 64 * 1024
"""Of what revocations in one hello rest on, grants and successions: it has to fit into a frame."""
MAX_FALSE: Final = 4
"""Revocations told at once that nobody has signed: of the rest none is looked at. Each costs a check of a signature; no honest node tells of one."""
SUCCESSION_BYTES: Final = 384
"""That one succession takes there, at the most."""

NOT_MADE_HERE: Final = "it was not made here, or with a key that was replaced"


class Proven(NamedTuple):
    """What a grant says, its signatures verified. Nothing is said of whether its issuer is believed.

    Attributes:
        issuer: who signed its first block.
        ids: of the grant (last) and of those it was made from, the first first.
        rights: what all its blocks together allow.
        delegators: of each of `ids`, who says to have made it of the one before; empty where nobody does.
        maker: who made the grant itself: its issuer, or who passed it on; empty: nobody says so.
        origin: the id by which its maker knows it: of the grant of which it is a renewal, or its own.
        renewal: by which its issuer makes it anew; None: it runs out.
    """

    issuer: PeerId
    ids: tuple[GrantId, ...]
    rights: Rights
    delegators: tuple[PeerId, ...] = ()
    maker: PeerId = PeerId("")
    origin: GrantId = GrantId("")
    renewal: Renewal | None = None

    @property
    def is_issued(self) -> bool:
        """Whether it is as its issuer signed it; otherwise it was made of another, by appending to it."""
        return self.maker == self.issuer and not self.delegators[-1]


class Delegation(msgspec.Struct, frozen=True):
    """By what a delegator's revocation counts: its grant came of `root`, which `issuer` has issued. `delegator`: as it is named there."""

    issuer: PeerId
    root: GrantId
    delegator: PeerId = PeerId("")


_name_of: Final = lru_cache(maxsize=MAX_ANCHORS * 4)(peer_id_of)
"""Spelling a key in base58 takes longer than all that is asked of a grant that was read before."""

ReadGrant = Callable[[bytes], Proven | None]
"""Verifies and reads a grant as it is sent in an envelope; None for what is none."""


# ---------------------------------------------------------------------------------------------------------------- stimuli


class AnchorWished(Stimulus, frozen=True):
    """The owner accepts the grants of a peer from now on, or (`wanted` False) no longer."""

    peer: PeerId
    wanted: bool = True


class GrantMade(Stimulus, frozen=True):
    """The owner issued a grant, or passed one on. The text is not kept; `proof`: of one passed on, what a revocation of it rests on."""

    grant_id: GrantId
    rights: Rights
    proof: bytes = b""
    renewal: Renewal | None = None


class RenewalAsked(Stimulus, frozen=True):
    """A peer asks for a renewal of the grant that it holds. `proven`: what that says; None: it is no grant of this node."""

    peer: PeerId
    grant: bytes
    proven: Proven | None


class RevocationsHeard(Stimulus, frozen=True):
    """The owner revokes (signed by this node), or a peer tells what it knows of. `delegations`: see `Trust.delegations`; empty: there are none."""

    revocations: tuple[Revocation, ...]
    delegations: tuple[Delegation | None, ...] = ()


# ----------------------------------------------------------------------------------------------------------------- events


class AnchorAdded(Event, frozen=True):
    """Grants of this peer are accepted from now on."""

    peer: PeerId


class AnchorRemoved(Event, frozen=True):
    """Grants of this peer are accepted no longer."""

    peer: PeerId


class GrantIssued(Event, frozen=True):
    """This node issued a grant, or passed one on."""

    grant_id: GrantId
    rights: Rights
    at: int
    proof: bytes = b""
    renewal: Renewal | None = None


class GrantRenewed(Event, frozen=True):
    """A grant that this node issued was made anew for a holder; told once for all holders of it, as long as it goes on no further."""

    grant_id: GrantId
    holder: PeerId
    until: int
    at: int


class GrantRevoked(Event, frozen=True):
    """A grant, and every one made from it, is void. `name`: of its signer in the grant, if that is not its present one."""

    revocation: Revocation
    at: int
    delegation: Delegation | None = None
    name: PeerId = PeerId("")


# ---------------------------------------------------------------------------------------------------------------- effects


class Renew(Effect, frozen=True):
    """Make the grant anew, until then (Unix ms), and give it to the peer."""

    peer: PeerId
    grant: bytes
    until: int


# ------------------------------------------------------------------------------------------------------------------ state


class TrustPhase(StrEnum):
    """There is one: trust has no life cycle."""

    HELD = "held"


class Issued(msgspec.Struct, frozen=True):
    """A grant this node issued, or passed on (`proof` is not empty). `renewed_until`: when the last renewal of it ends; 0: there was none."""

    grant_id: GrantId
    rights: Rights
    at: int
    proof: bytes = b""
    renewal: Renewal | None = None
    renewed_until: int = 0

    @property
    def until(self) -> int:
        """When it and its renewals end, Unix ms; 0: never."""
        return max(self.rights.until, self.renewed_until)

    @property
    def last(self) -> int:
        """When no renewal of it can be in force any more, Unix ms; 0: never."""
        return self.renewal.until if self.renewal is not None else self.rights.until


class Trust(msgspec.Struct, frozen=True):
    """Whom this node believes.

    Attributes:
        me: this node: always an anchor of its own.
        former: its names before its key was replaced.
        added: the other anchors, in the order they were added.
        issued: grants of this node, and those it passed on, oldest first.
        revoked: by grant and signer, as it is named in the grant, oldest first.
        delegated: of those in `revoked` that count by a delegation, which.
    """

    me: PeerId
    former: tuple[PeerId, ...] = ()
    added: tuple[PeerId, ...] = ()
    issued: Mapping[GrantId, Issued] = {}
    revoked: Mapping[tuple[GrantId, PeerId], Revocation] = {}
    delegated: Mapping[tuple[GrantId, PeerId], Delegation] = {}

    @property
    def anchors(self) -> tuple[PeerId, ...]:
        """Whose grants are accepted here."""
        return (self.me, *self.added)

    @property
    def holders(self) -> Mapping[PeerId, int]:
        """Whom a grant of this node names that it has not revoked, and until when it holds (Unix ms; 0: without end).

        One that was renewed for one of its holders counts as renewed for all of them.
        """
        holders: dict[PeerId, int] = {}
        for grant in self.issued.values():
            if grant.proof or any((grant.grant_id, name) in self.revoked for name in (self.me, *self.former)):
                continue
            for peer in map(PeerId, grant.rights.one_of.get("peer", ())):
                ends = (grant.until, holders.get(peer, grant.until))
                holders[peer] = max(ends) if all(ends) else 0
        return holders

    def told(self, now: int) -> tuple[Revocation, ...]:
        """The revocations to tell peers of: the newest of those that still matter, as many as fit."""
        newest: list[Revocation] = []
        room = MAX_PROOFS_TOLD_BYTES
        for revocation in reversed(tuple(self.revoked.values())):
            size = len(revocation.proof) + SUCCESSION_BYTES * len(revocation.successions)
            if _matters(revocation, now) and len(newest) < MAX_REVOKED and size <= room:
                room -= size
                newest.append(revocation)
        return tuple(reversed(newest))

    def delegations(self, revocations: Sequence[Revocation], read: ReadGrant) -> tuple[Delegation | None, ...]:
        """Of each revocation, by which delegation it would count. Proofs of grants that are nothing here, or known already, are not looked at."""
        return tuple(self._delegation(revocation, read) for revocation in revocations)

    def _delegation(self, revocation: Revocation, read: ReadGrant) -> Delegation | None:
        if self.knows(revocation) or issuer_of(revocation.proof) not in self.anchors:
            return None
        proven, names = read(revocation.proof), signed_by(revocation)
        parts = zip(proven.ids, proven.delegators, strict=False) if proven is not None else ()
        named = next((by for id_, by in parts if id_ == revocation.grant_id and by in names), None)
        return Delegation(proven.issuer, proven.ids[0], named) if proven is not None and named is not None else None

    def knows(self, revocation: Revocation) -> bool:
        """Whether a revocation is honoured already, under whatever name of its signer."""
        return any((revocation.grant_id, name) in self.revoked for name in signed_by(revocation))

    def credential(self, auth: bytes, peer: PeerId, now: int, read: ReadGrant, *, begun: bool = False) -> Credential:
        """What `peer` has shown with the authorisation `auth` of an envelope.

        Args:
            auth: the grant in its sent form, or empty.
            peer: the proven sender.
            now: Unix ms.
            read: verifies a grant; asked only when its issuer is believed.
            begun: the message goes on with what was agreed while the grant was in force: its end does not matter.
        """
        proven = read(auth) if issuer_of(auth) in self.anchors else None
        flaw = self._flaw(proven, peer, now, begun=begun) if proven is not None else self._stranger(auth)
        return Credential(proven.rights if proven is not None and not flaw else None, flaw, self.anchors)

    def _flaw(self, proven: Proven, peer: PeerId, now: int, *, begun: bool) -> str:
        """Why a grant of an anchor does not count for `peer` now; empty when it does."""
        if self.revoked and (void := self._void(proven)):
            return f"the grant {short(void)} is revoked"
        if not begun and any(proven.rights.unmet({TIME: now - CLOCK_SKEW_MS})):
            return f"the grant ended {(now - proven.rights.until) // SECOND} s ago"
        return "the grant is for another node" if any(proven.rights.unmet({"peer": peer})) else ""

    def renewal_flaw(self, proven: Proven, peer: PeerId, now: int) -> str:
        """Why this node does not make a grant anew for `peer` now; empty when it does."""
        if proven.issuer != self.me:
            return NOT_MADE_HERE
        if not proven.is_issued:
            return "it was made of another, which alone may be renewed"
        if flaw := self._flaw(proven, peer, now, begun=False):
            return flaw
        if proven.renewal is None:
            return "it is not renewed: it was made to run out"
        is_due = proven.renewal.is_due(proven.rights.until, now)
        return "" if is_due else "it is not near its end, or was to be renewed no longer"

    def _void(self, proven: Proven) -> str:
        """The id of it, or of the one that it was made from, that is revoked by this node, its issuer, or who passed that one on; or empty.

        That id is the one people know: what is shown was bound to its holder, and so has an id that nobody has seen.
        """
        for id_, delegator in zip_longest(proven.ids, proven.delegators):
            if any((id_, signer) in self.revoked for signer in (self.me, proven.issuer, delegator)):
                return str(id_)
        return ""

    def _stranger(self, auth: bytes) -> str:
        """Why what was shown is no grant of an anchor."""
        if not auth:
            return NOTHING_SHOWN.flaw
        issuer = issuer_of(auth)
        if not issuer or issuer in self.anchors:
            return "what was shown is no grant, or was changed"
        return f"a grant of {short(issuer)}, whose grants are not accepted here"


def issuer_of(auth: bytes) -> PeerId:
    """Who is named as the issuer of a grant in its sent form; empty when it is too short to name anybody. Proves nothing."""
    key = auth[:PUBLIC_KEY_BYTES]
    return _name_of(key) if len(key) == PUBLIC_KEY_BYTES else PeerId("")


def next_deadline(_trust: Trust) -> int | None:
    """None: what runs out is left out when it is looked at."""
    return None


def resume(_trust: Trust) -> tuple[Effect, ...]:
    """Nothing is ever under way."""
    return ()


def decide(trust: Trust, stimulus: Stimulus, now: int) -> Decision:
    """What the node does about `stimulus` at `now` (Unix ms)."""
    return TABLE[TrustPhase.HELD, type(stimulus)].handler(trust, stimulus, now)


def _anchor(trust: Trust, stimulus: AnchorWished, _now: int) -> Decision:
    peer = stimulus.peer
    if stimulus.wanted == (peer in trust.anchors) or peer == trust.me:
        return IGNORED
    if not stimulus.wanted:
        return Decision((AnchorRemoved(peer),))
    return Decision((AnchorAdded(peer),)) if len(trust.anchors) < MAX_ANCHORS else IGNORED


def _issue(_trust: Trust, stimulus: GrantMade, now: int) -> Decision:
    return Decision((GrantIssued(stimulus.grant_id, stimulus.rights, now, stimulus.proof, stimulus.renewal),))


def _renew(trust: Trust, stimulus: RenewalAsked, now: int) -> Decision:
    """An answer that was lost is asked for again, and given again: it is written down when the grant goes on further than was known."""
    peer, proven = stimulus.peer, stimulus.proven
    if proven is None and issuer_of(stimulus.grant) == trust.me:
        return Decision((), (Blame(peer, Offence.MALFORMED),))
    if proven is None:
        return _not_renewed(peer, "a grant", NOT_MADE_HERE)
    if flaw := trust.renewal_flaw(proven, peer, now):
        return _not_renewed(peer, proven.origin, flaw)
    assert proven.renewal is not None
    until = proven.renewal.end(now)
    events = (GrantRenewed(proven.origin, peer, until, now),) if _goes_on(trust, proven, until) else ()
    return Decision(events, (Renew(peer, stimulus.grant, until),))


def _not_renewed(peer: PeerId, what: str, why: str) -> Decision:
    return Decision((), (Send(peer, Refusal(NOT_GRANTED, detail=f"no renewal of {what}: {why}")),))


def _goes_on(trust: Trust, proven: Proven, until: int) -> bool:
    """Whether a renewal until then is worth writing down: one for each third of its span, however many holders there are."""
    known, renewal = trust.issued.get(proven.origin), proven.renewal
    if known is None or renewal is None or until <= known.until:
        return False
    return until == renewal.until or until - known.until >= renewal.span_ms // 3


def _hear(trust: Trust, stimulus: RevocationsHeard, now: int) -> Decision:
    fresh: dict[tuple[GrantId, PeerId], Event] = {}
    false = 0
    for revocation, delegation in zip_longest(stimulus.revocations, stimulus.delegations):
        name = delegation.delegator if delegation is not None else PeerId("")
        key = (revocation.grant_id, name or revocation.signer)
        if trust.knows(revocation) or key in fresh or not _matters(revocation, now):
            continue
        if len(fresh) >= _room(trust, revocation.signer, delegation):
            continue
        if is_genuine(revocation):
            counted = None if revocation.signer in trust.anchors else delegation
            fresh[key] = GrantRevoked(revocation, now, counted, name if name != revocation.signer else PeerId(""))
        elif (false := false + 1) >= MAX_FALSE:
            break
    return Decision(tuple(fresh.values()))


def _room(trust: Trust, signer: PeerId, delegation: Delegation | None) -> int:
    """How many more revocations are taken that count as this one does; 0 for one that does not count."""
    if signer in trust.anchors:
        return MAX_HONOURED - sum(by == signer for _, by in trust.revoked)
    if delegation is None or delegation.issuer not in trust.anchors:
        return 0
    of_issuer = MAX_HONOURED - sum(other.issuer == delegation.issuer for other in trust.delegated.values())
    return min(of_issuer, MAX_DELEGATED - sum(other.root == delegation.root for other in trust.delegated.values()))


def _matters(revocation: Revocation, now: int) -> bool:
    return not revocation.until or now <= revocation.until + 2 * CLOCK_SKEW_MS


def evolve(trust: Trust, event: Event) -> Trust:
    """The state after `event`."""
    change = msgspec.structs.replace
    match event:
        case AnchorAdded(peer=peer):
            return change(trust, added=(*trust.added, peer))
        case AnchorRemoved(peer=peer):
            return change(trust, added=tuple(other for other in trust.added if other != peer))
        case GrantIssued(grant_id=id_, rights=rights, at=at, proof=proof, renewal=renewal):
            issued = {**trust.issued, id_: Issued(id_, rights, at, proof, renewal)}
            return change(trust, issued=dict(tuple(issued.items())[-MAX_ISSUED:]))
        case GrantRenewed(grant_id=id_, until=until) if id_ in trust.issued:
            renewed = change(trust.issued[id_], renewed_until=until)
            return change(trust, issued={**trust.issued, id_: renewed})
        case GrantRevoked(revocation=revocation, at=at, delegation=delegation, name=name):
            key = (revocation.grant_id, name or revocation.signer)
            revoked = {id_: other for id_, other in trust.revoked.items() if _matters(other, at)} | {key: revocation}
            delegated = {id_: other for id_, other in trust.delegated.items() if id_ in revoked}
            return change(
                trust, revoked=revoked, delegated=delegated | ({key: delegation} if delegation is not None else {})
            )
        case _:
            return trust


def takes_back(event: Event) -> bool:
    """Whether a grant that counted before `event` may count no longer."""
    return isinstance(event, AnchorRemoved | GrantRevoked)


TABLE: Final[Table[Trust]] = {
    (TrustPhase.HELD, AnchorWished): Row(
        _anchor, "grants of the peer are accepted, or no longer; this node's own always"
    ),
    (TrustPhase.HELD, GrantMade): Row(_issue, "noted for the owner's list, without the grant itself"),
    (TrustPhase.HELD, RenewalAsked): Row(
        _renew,
        "made anew and given, if that was promised with it, it is near its end, and nobody has revoked it; or refused by name; "
        "what is no grant is an offence",
    ),
    (TrustPhase.HELD, RevocationsHeard): Row(
        _hear, "honoured when this node, an anchor, or who passed on a grant of one signed it; a repeat changes nothing"
    ),
}
