"""peers.*: the nodes this one knows."""

from __future__ import annotations

import asyncio
import os
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from dms.config.changing import with_setting, write_config
from dms.node import invite
from dms.node.api.base import call_id
from dms.node.api.grants import GrantGroup
from dms.node.projecting.tables import ALLOCATIONS, JOBS
from dms.node.verdicts import benchmark_view
from dms.rpc.api.peers import (
    BanParams,
    EvidenceView,
    Invite,
    InviteParams,
    Joined,
    JoinParams,
    Moved,
    PeerList,
    PeerParams,
    PeerState,
    PeerView,
    PingParams,
    PingResult,
)
from dms.trust.grant import read_grant
from dms_actors.letters import ListenFor, StopListening
from dms_actors.node import NodeState
from dms_actors.ports import LinkFacts
from dms_proto.capability import Capability
from dms_proto.errors import PeerError, UserError
from dms_proto.grants.access import Access
from dms_proto.grants.rights import MARKET, TIME, Rights
from dms_proto.heirs import names_of
from dms_proto.ids import PeerId, short
from dms_proto.membership.machine import Peer, PeerPhase
from dms_proto.messages import AnyMessage, Probe
from dms_proto.reputation import FULL, NOTHING_KNOWN, Kind, source_of, standing
from dms_proto.reputation.evidence import WHOLE
from dms_proto.units import format_count

GREET_S: Final = 5.0
"""Seconds a node that was dialled may take to say who it is."""
DIAL_S: Final = 20.0
"""Seconds for dialling all addresses of an invitation."""
PING_S: Final = 3.0
"""Seconds after which a probe counts as lost."""
_UNREACHED: Final = "is it up, and still at that address? `dms invite` there prints the address of now"
TOPIC_VARIABLE: Final = "DMS_NETWORK_TOPIC"
_NONCES: Final = 2**32
"""Our probes begin here; those of the membership count from 1."""


class PeerGroup(GrantGroup):
    """The methods of `dms.rpc.api.peers.PeerMethods`. Inviting grants, so it shares the ways of `GrantGroup`."""

    async def peers_list(self) -> PeerList:
        """See `PeerMethods`."""
        state = await self._state()
        views = [self._view_of(peer, state) for peer in state.membership.peers.values()]
        views.sort(key=lambda view: (view.state is not PeerState.CONNECTED, -view.last_seen))
        return PeerList(tuple(views))

    async def peers_show(self, params: PeerParams) -> PeerView:
        """See `PeerMethods`."""
        state = await self._state()
        return self._view_of(state.membership.peers[self._peer(params.peer, state)], state)

    async def peers_join(self, params: JoinParams) -> Joined:
        """See `PeerMethods`."""
        services, invitation = self._services, invite.read(params.invite)
        if invitation.peer == self._me:
            raise UserError("bad_invite", "this is this node's own invitation", hint="use it on another machine")
        if invitation.topic != services.config.network.topic:
            raise self._in_another(invitation.topic, "")
        held = self._services.wallet.keep(invitation.grant) if invitation.grant else None
        heard = asyncio.Event()
        stop = self._parts.hub.listen("peers", lambda _row: heard.set())
        try:
            async with asyncio.timeout(DIAL_S):
                await self._dial(invitation.peer, await self._name_of(invitation.peer), invitation.addresses)
            peer = await self._until_greeted(invitation.peer, heard)
        except TimeoutError:
            raise PeerError("peer_unreachable", f"no answer within {DIAL_S:.0f} s", hint=_UNREACHED) from None
        finally:
            stop()
        state = await self._state()
        return Joined(self._view_of(peer, state), len(services.network.links()), held.grant_id if held else "")

    def _in_another(self, market: str, why: str) -> UserError:
        ours = self._services.config.network.topic
        return UserError(
            "other_market",
            f"the invitation is to the market {market!r}; this node is in {ours!r}{why}",
            hint=f'set network.topic = "{market}" in {self._services.home.config} and restart the node',
        )

    async def peers_move(self, params: JoinParams) -> Moved:
        """See `PeerMethods`."""
        services, market = self._services, invite.read(params.invite).topic
        ours, file = services.config.network.topic, services.home.config
        if market == ours:
            raise UserError(
                "bad_argument", f"this node is in the market {market!r} already", hint="dms join INVITATION"
            )
        text = file.read_text() if file.exists() else ""
        if "topic" in tomllib.loads(text).get("network", {}) or TOPIC_VARIABLE in os.environ:
            raise self._in_another(market, ", by the word of its owner")
        work = (await self._count(JOBS, {"open": 1}), await self._count(ALLOCATIONS, {"open": 1}))
        if any(work):
            jobs, runs = format_count(work[0], "job"), format_count(work[1], "allocation")
            raise self._in_another(market, f", and has {jobs} and {runs} that are not over")
        write_config(file, with_setting(text, "network.topic", market))
        return Moved(market, ours)

    async def _name_of(self, peer: PeerId) -> str:
        known = (await self._state()).membership.peers.get(peer)
        return known.hello.name if known is not None and known.hello is not None else ""

    async def _dial(self, peer: PeerId, name: str, addresses: Sequence[str]) -> None:
        """Connects to a peer.

        Raises:
            PeerError: `peer_unreachable`, with who it is and what to look at; `incompatible_version`.
            MachineError: `network_down`.
        """
        try:
            await self._services.network.dial(addresses)
        except PeerError as error:
            if error.code != "peer_unreachable":
                raise
            called = f"{name} ({short(peer)})" if name else short(peer)
            raise PeerError(error.code, f"{called} cannot be reached: {error.message}", hint=_UNREACHED) from error

    async def _until_greeted(self, peer_id: PeerId, heard: asyncio.Event) -> Peer:
        """Waits until a dialled peer takes part.

        Raises:
            PeerError: `incompatible_version`, `clock_skew`: it cannot; `peer_timeout`: it said nothing.
        """
        deadline = self._services.loop.time() + GREET_S
        while True:
            heard.clear()
            peer = (await self._state()).membership.peers.get(peer_id)
            if peer is not None and peer.phase is PeerPhase.GREETED:
                return peer
            if peer is not None and peer.phase is PeerPhase.REFUSED:
                code = "clock_skew" if "clock" in peer.refused_because else "incompatible_version"
                raise PeerError(code, f"it was reached, and {peer.refused_because}", retryable=False)
            try:
                async with asyncio.timeout_at(deadline):
                    await heard.wait()
            except TimeoutError:
                raise PeerError("peer_timeout", f"it was reached, and said nothing within {GREET_S:.0f} s") from None

    async def peers_invite(self, params: InviteParams) -> Invite:
        """See `PeerMethods`."""
        state = await self._state()
        addresses = state.membership.hello.addresses if state.membership.hello is not None else ()
        topic = self._services.config.network.topic
        warning = invite.warning(addresses) or self._port_warning()
        if state.book.policy.is_public:
            if params.renew_until:
                raise UserError(
                    "bad_argument", "this market asks for no grant, so there is none to renew", hint="leave --renew out"
                )
            return Invite(invite.make(topic, addresses, self._me), addresses, warning)
        at_most = {TIME: params.until} if params.until else {}
        rights = _invited(at_most, own=state.book.policy.access is Access.OWN)
        grant = await self._issue(rights, params.renew_until)
        proven = read_grant(grant)
        assert proven is not None
        return Invite(invite.make(topic, addresses, self._me, grant), addresses, warning, proven.origin)

    def _port_warning(self) -> str:
        ends = [listen for listen in self._services.config.network.listen if listen.endswith("/tcp/0")]
        return "it ends when this node restarts: network.listen leaves the port to the system" if ends else ""

    async def peers_ping(self, params: PingParams) -> PingResult:
        """See `PeerMethods`."""
        state = await self._state()
        peer = self._peer(params.peer, state)
        known = state.membership.peers[peer]
        link = await self._connected(known)
        answered = [rtt for rtt in [await self._probe(peer) for _ in range(params.count)] if rtt is not None]
        return PingResult(
            peer=peer,
            name=known.hello.name if known.hello is not None else "",
            rtt_us=tuple(answered),
            lost=params.count - len(answered),
            relayed=link.relayed,
            address=link.addresses[0] if link.addresses else "",
        )

    async def _connected(self, known: Peer) -> LinkFacts:
        """The link to a peer, made if need be.

        Raises:
            PeerError: `peer_unreachable`.
        """
        network = self._services.network
        if known.peer not in network.links():
            named = tuple(a if "/p2p/" in a else f"{a}/p2p/{known.peer}" for a in known.addresses)
            if not named:
                raise PeerError("peer_unreachable", f"no address of {known.peer} is known")
            await self._dial(known.peer, known.hello.name if known.hello is not None else "", named)
        return network.links().get(known.peer) or LinkFacts(known.peer)

    async def _probe(self, peer: PeerId) -> int | None:
        """One round trip to the node behind a connection, in microseconds; None: it did not answer in time."""
        services, nonce = self._services, _NONCES + secrets.randbelow(_NONCES)
        loop = services.loop
        answered: asyncio.Future[float] = loop.create_future()

        def settle(at: float) -> None:
            if not answered.done():
                answered.set_result(at)

        def hear(sender: PeerId, _message: AnyMessage) -> None:
            if sender == peer:
                loop.call_soon_threadsafe(settle, loop.time())

        services.node.tell(ListenFor(f"probe:{nonce}", hear))
        began = loop.time()
        services.post.send(peer, Probe(nonce), call_id("peers.ping"))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    return max(round((await answered - began) * 1_000_000), 1)
            return None
        finally:
            services.node.tell(StopListening(f"probe:{nonce}", hear))

    async def peers_ban(self, params: BanParams) -> PeerView:
        """See `PeerMethods`."""
        state = await self._state()
        peer = self._peer(params.peer, state)
        for name in names_of(state.membership.heirs, peer) if not params.seconds else (peer,):
            self._services.network.ban(name, params.seconds)
            self._parts.bans.pop(name, None)
        if params.seconds:
            self._parts.bans[peer] = self._now() + params.seconds * 1000
        return self._view_of((await self._state()).membership.peers.get(peer) or Peer(peer), state)

    def _view_of(self, peer: Peer, state: NodeState) -> PeerView:
        hello = peer.hello
        link = self._services.network.links().get(peer.peer)
        phase, detail = self._standing(peer, state)
        evidence, finding = state.evidence.get(peer.peer, NOTHING_KNOWN), state.benchmarks.get(peer.peer)
        stands = standing(evidence, self._now())
        return PeerView(
            peer_id=peer.peer,
            name=hello.name if hello is not None else "",
            state=phase,
            detail=detail,
            addresses=peer.addresses,
            relayed=link.relayed if link is not None else peer.relayed,
            rtt_us=(link.rtt_us if link is not None else 0) or max(peer.rtt_ms, 0) * 1000,
            clock_skew_ms=peer.clock_offset_ms,
            software=hello.software if hello is not None else "",
            accepts_work=hello.accepts_work if hello is not None else False,
            last_seen=peer.seen_at,
            successes=evidence.counts.get(Kind.KEPT, 0),
            failures=evidence.counts.get(Kind.FAULT, 0),
            standing=stands.score / FULL,
            evidence=tuple(EvidenceView(part.kind, part.count, part.points / WHOLE) for part in stands.summands),
            benchmark=benchmark_view(finding) if finding is not None else None,
            source=source_of(peer.remote),
            summary=hello.summary if hello is not None else Capability(),
            uuid=hello.uuid if hello is not None else "",
            aside=state.set_aside.get(peer.peer),
            unanswered=state.unanswered.get(peer.peer, 0),
        )

    def _standing(self, peer: Peer, state: NodeState) -> tuple[PeerState, str]:
        banned_until = max(self._parts.bans.get(name, 0) for name in names_of(state.membership.heirs, peer.peer))
        if banned_until > self._now():
            return PeerState.BANNED, f"for {(banned_until - self._now()) // 1000} s more, by this node's owner"
        match peer.phase:
            case PeerPhase.GREETED:
                return PeerState.CONNECTED, ""
            case PeerPhase.CONNECTED:
                return PeerState.CONNECTED, "has not said who it is yet"
            case PeerPhase.REFUSED:
                return PeerState.INCOMPATIBLE, peer.refused_because
            case PeerPhase.MET:
                return PeerState.KNOWN, f"not connected: {peer.left_because}" if peer.left_because else "not connected"


def _invited(at_most: Mapping[str, int], *, own: bool) -> Rights:
    """What an invitation grants: to take part in the market; to a machine of the same owner everything."""
    return Rights(at_most, own=True) if own else Rights(at_most, {"kind": tuple(sorted(MARKET))})
