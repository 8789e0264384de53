"""Who is there: the peers of one node, how they were met, what they said of themselves, and whether they still answer.

A peer's life, seen from here::

    MET ──connected──▶ CONNECTED ──hello──▶ GREETED ──left, silent──▶ MET …  ──long unseen──▶ forgotten
                             └──incompatible version, other clock──▶ REFUSED

The network process keeps connections alive; probes from here ask whether the *node* behind a connection still answers.
Peers tell each other about peers in their hellos, so an invitation to one is an invitation to all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.capability import Capability
from dms_proto.heirs import with_heir
from dms_proto.ids import PeerId, short
from dms_proto.machine import (
    IGNORED,
    Decision,
    Effect,
    Event,
    Row,
    Send,
    Stimulus,
    Table,
    TimeCame,
    Transient,
    earliest,
)
from dms_proto.messages import Hello, KnownPeer, Probe
from dms_proto.reputation.sources import source_of
from dms_proto.units import HOUR, MINUTE

PROTOCOL_VERSION: Final = 1
"""What this node speaks; a peer with another version is refused by name."""
WANTED_PEERS: Final = 12
"""Connections sought; more are accepted, so that a node ends up with about twice as many. Enough to reach everybody, few enough to be cheap."""
TOLD_PEERS: Final = 16
"""Peers named in a hello."""
ASK_EVERY_MS: Final = 30_000
"""A node with fewer peers than it wants says hello again to some; their answers name others."""
ASKED_AT_ONCE: Final = 3
ANSWER_EVERY_MS: Final = 5_000
"""A repeated hello is answered, but not one that answers ours."""
MAX_PEERS: Final = 512
"""Peers remembered; bounds what strangers can make us remember."""
PROBE_EVERY_MS: Final = 5 * MINUTE
"""The network process asks its connections every 15 s; this asks the node behind, which only fails when it hangs, and measures the way."""
PROBE_AGAIN_MS: Final = 10_000
"""After a probe that was not answered."""
PROBE_FIRST_MS: Final = 1_000
"""After the greeting: ranking wants to know the distance soon."""
PROBE_SLACK_MS: Final = 30_000
"""Probes due within this are sent together, so that a node wakes now and then, not once per peer."""
PROBE_MISSES: Final = 2
"""Unanswered probes after which a peer counts as silent."""
CLOCK_TOLERANCE_MS: Final = 30_000
"""The envelope's tolerance: a peer whose clock is further off cannot be understood (docs/protocol)."""
REDIAL_MS: Final = (1_000, 2_000, 5_000, 15_000, 60_000, 5 * MINUTE)
FORGET_MS: Final = 7 * 24 * HOUR
"""Asked for every peer when the table is full."""


# ---------------------------------------------------------------------------------------------------------------- stimuli


class SelfDescribed(Stimulus, frozen=True):
    """What this node says of itself has changed."""

    hello: Hello


class PeerConnected(Stimulus, frozen=True):
    """The network has a connection to a peer. `remote`: the IP address at its other end."""

    peer: PeerId
    addresses: tuple[str, ...] = ()
    relayed: bool = False
    remote: str = ""


class PeerDisconnected(Stimulus, frozen=True):
    """The network has none any more. `reason` as in `ports.PeerDown`."""

    peer: PeerId
    reason: str


class HelloHeard(Stimulus, frozen=True):
    """A peer said who it is."""

    peer: PeerId
    hello: Hello
    predecessors: tuple[PeerId, ...] = ()
    """Its earlier names, oldest first, proven by its successions; empty also where they were proven before."""
    doubt: str = ""
    """Why what it says of its identity is not proven; empty if it is."""


class ProbeHeard(Stimulus, frozen=True):
    """A probe, or the answer to one."""

    peer: PeerId
    probe: Probe


class ForgetWished(Stimulus, frozen=True):
    """The owner wants a peer forgotten."""

    peer: PeerId


# ----------------------------------------------------------------------------------------------------------------- events


class DescriptionChanged(Transient, frozen=True):
    """This is what this node says of itself from now on."""

    hello: Hello


class PeerMet(Event, frozen=True):
    """A peer was heard of, or is reachable at new addresses."""

    peer: PeerId
    addresses: tuple[str, ...]
    at: int


class PeerAttached(Transient, frozen=True):
    """A connection to a peer is open; its hello is awaited."""

    peer: PeerId
    relayed: bool
    at: int
    remote: str = ""


class PeerGreeted(Event, frozen=True):
    """A peer said who it is; it takes part from now on. `clock_offset_ms`: its clock less ours, half a round trip included."""

    peer: PeerId
    hello: Hello
    clock_offset_ms: int
    at: int


class HelloSaid(Transient, frozen=True):
    """This node said hello to a peer again."""

    peer: PeerId
    at: int


class PeersNamed(Transient, frozen=True):
    """A peer said hello again: nothing new of itself, but whom it knows."""

    peer: PeerId
    hello: Hello


class PeerRefused(Event, frozen=True):
    """A peer cannot take part, and why."""

    peer: PeerId
    why: str


class PeerSucceeded(Event, frozen=True):
    """A node has a new key: what is known of `old` is known of `new` from now on. Both may be this node itself."""

    old: PeerId
    new: PeerId
    at: int


class PeerLeft(Event, frozen=True):
    """A peer cannot be reached any more."""

    peer: PeerId
    reason: str
    at: int


class PeerProbed(Transient, frozen=True):
    """A probe was sent."""

    peer: PeerId
    nonce: int
    at: int


class PeerAnswered(Transient, frozen=True):
    """A probe was answered after `rtt_ms`."""

    peer: PeerId
    rtt_ms: int


class DialTried(Transient, frozen=True):
    """A dial was asked for."""

    peer: PeerId
    at: int


class DialGivenUp(Transient, frozen=True):
    """A peer that was only named by another could not be reached."""

    peer: PeerId


class LookedAround(Transient, frozen=True):
    """What was due was done; `next_at`: when something is due again."""

    next_at: int


class PeerForgotten(Event, frozen=True):
    """A peer is not remembered any more."""

    peer: PeerId


# ---------------------------------------------------------------------------------------------------------------- effects


class Dial(Effect, frozen=True):
    """Try to connect to a peer. Success shows as `PeerConnected`; failure as nothing, and it is tried again later.

    `giver`: who said that it is there, the peer itself or another one.
    """

    peer: PeerId
    addresses: tuple[str, ...]
    giver: PeerId


class Drop(Effect, frozen=True):
    """Close the connections to a peer."""

    peer: PeerId
    why: str


class TellJoined(Effect, frozen=True):
    """A peer takes part: tell the actors that may wait for it."""

    peer: PeerId


class Inherit(Effect, frozen=True):
    """Move to `new` what else is known of `old`, such as how its work went."""

    old: PeerId
    new: PeerId


class TellLost(Effect, frozen=True):
    """A peer is gone: tell the actors that depend on it. `ours`: it is this node's own network that is down."""

    peer: PeerId
    ours: bool


# ------------------------------------------------------------------------------------------------------------------ state


class PeerPhase(StrEnum):
    """How a peer stands to this node."""

    MET = "met"
    CONNECTED = "connected"
    GREETED = "greeted"
    REFUSED = "refused"


class Peer(msgspec.Struct, frozen=True):
    """What is known of one peer. `remote`: the IP address at the other end of the last connection to it."""

    peer: PeerId
    phase: PeerPhase = PeerPhase.MET
    addresses: tuple[str, ...] = ()
    hello: Hello | None = None
    relayed: bool = False
    remote: str = ""
    clock_offset_ms: int = 0
    seen_at: int = 0
    refused_because: str = ""
    left_because: str = ""
    dials: int = 0
    dial_at: int = 0
    probe_nonce: int = 0
    probed_at: int = 0
    unanswered: int = 0
    told_at: int = 0
    rtt_ms: int = -1


class Membership(msgspec.Struct, frozen=True):
    """Everybody this node knows."""

    me: PeerId
    hello: Hello | None = None
    peers: Mapping[PeerId, Peer] = {}
    heirs: Mapping[PeerId, PeerId] = {}
    """Names whose keys were replaced, each with the present name of its node. Remembered as long as that node is."""
    look_at: int = 0
    """When the next probe or dial may be due; 0 for never. Kept, since finding it out means looking at every peer."""

    def greeted(self) -> tuple[Peer, ...]:
        """The peers that take part now."""
        greeted = PeerPhase.GREETED
        return tuple([peer for peer in self.peers.values() if peer.phase is greeted])

    def summary_of(self, peer: PeerId) -> Capability | None:
        """What a peer says it has."""
        known = self.peers.get(peer)
        return known.hello.summary if known is not None and known.hello is not None else None


def next_deadline(membership: Membership) -> int | None:
    """When the next probe or dial is due, or a peer is to be forgotten."""
    return membership.look_at or None


def resume(membership: Membership) -> tuple[Effect, ...]:
    """After a restart nobody is connected; everybody with an address is dialled."""
    known = [peer for peer in membership.peers.values() if peer.addresses and peer.phase is not PeerPhase.REFUSED]
    return tuple(Dial(peer.peer, peer.addresses, peer.peer) for peer in known[:WANTED_PEERS])


# ----------------------------------------------------------------------------------------------------------------- decide


def decide(membership: Membership, stimulus: Stimulus, now: int) -> Decision:
    """What the node does about `stimulus` at `now` (Unix ms)."""
    subject = getattr(stimulus, "peer", None)
    known = membership.peers.get(subject) if subject is not None else None
    phase = known.phase if known is not None else PeerPhase.MET
    return TABLE[phase, type(stimulus)].handler(membership, stimulus, now)


def _describe(membership: Membership, stimulus: SelfDescribed, now: int) -> Decision:
    if stimulus.hello == membership.hello:
        return IGNORED
    event = DescriptionChanged(stimulus.hello)
    after = evolve(membership, event)
    connected = [peer.peer for peer in after.peers.values() if _is_connected(peer)]
    said = (HelloSaid(peer, now) for peer in connected)
    own = _successions(membership, membership.me, tuple(record.old for record in stimulus.hello.successions), now)
    hellos = (Send(peer, _hello(after, peer, now)) for peer in connected)
    return Decision((event, *own.events, *said), (*own.effects, *hellos))


def _connected(membership: Membership, stimulus: PeerConnected, now: int) -> Decision:
    events: tuple[Event, ...] = (PeerAttached(stimulus.peer, stimulus.relayed, now, stimulus.remote),)
    known = membership.peers.get(stimulus.peer)
    if known is None or (stimulus.addresses and known.addresses != stimulus.addresses):
        events = (PeerMet(stimulus.peer, stimulus.addresses, now), *events, *_make_room(membership))
    hello = (Send(stimulus.peer, _hello(membership, stimulus.peer, now)),) if membership.hello is not None else ()
    return Decision(events, hello)


def _make_room(membership: Membership) -> tuple[Event, ...]:
    """Of those that are away, of the source with most peers, who was away longest: a crowd of identities pushes out its own, and not the others."""
    if len(membership.peers) < MAX_PEERS:
        return ()
    away = [peer for peer in membership.peers.values() if not _is_connected(peer)]
    if not away:
        return ()
    crowd = Counter(map(_origin, membership.peers.values()))
    return (PeerForgotten(min(away, key=lambda peer: (-crowd[_origin(peer)], peer.seen_at)).peer),)


def _origin(peer: Peer) -> str | None:
    """Where a peer is; None for one that was never greeted, such as those that others only name."""
    return source_of(peer.remote) if peer.hello is not None else None


def _greet(membership: Membership, stimulus: HelloHeard, now: int) -> Decision:
    hello, peer = stimulus.hello, stimulus.peer
    offset = hello.now - now
    known = membership.peers.get(peer)
    room = _make_room(membership) if known is None else ()
    refusal = stimulus.doubt or _refusal(hello, offset) or _usurpation(membership, stimulus)
    if refusal:
        gone = (TellLost(peer, ours=False),) if _phase(membership, peer) is PeerPhase.GREETED else ()
        return Decision((*room, PeerRefused(peer, refusal)), (*gone, Drop(peer, refusal)))
    succeeded = _successions(membership, peer, stimulus.predecessors, now)
    events: list[Event] = [*room, *succeeded.events]
    if known is None or (hello.addresses and hello.addresses != known.addresses):
        events.append(PeerMet(peer, hello.addresses, now))
    joined = known is None or known.phase is not PeerPhase.GREETED
    if known is None or joined or known.hello is None or _says_something_new(known.hello, hello):
        events.append(PeerGreeted(peer, hello, offset, now))
    else:
        events.append(PeersNamed(peer, hello))
    effects = [*succeeded.effects, *((TellJoined(peer),) if joined else ())]
    introduces = joined and any(other.peer != peer for other in membership.greeted())
    asked = known is not None and not joined and now >= known.told_at + ANSWER_EVERY_MS
    if introduces or asked:  # who came first introduces those it knows by now; who is asked again, too
        events.append(HelloSaid(peer, now))
        effects.append(Send(peer, _hello(membership, peer, now)))
    dials = _dials(membership, peer, hello, now)
    events += [DialTried(dial.peer, now) for dial in dials]
    return Decision(tuple(events), (*effects, *dials))


def _refusal(hello: Hello, offset: int) -> str:
    if hello.version != PROTOCOL_VERSION:
        return f"speaks protocol version {hello.version}, this node speaks {PROTOCOL_VERSION}; the older one needs an upgrade"
    if abs(offset) > CLOCK_TOLERANCE_MS:
        return f"its clock is {offset / 1000:+.1f} s off from ours; {CLOCK_TOLERANCE_MS // 1000} s are tolerated"
    return ""


def _usurpation(membership: Membership, stimulus: HelloHeard) -> str:
    """Why a peer cannot have the name it goes by: of two that succeed the same key, the one heard of first is the node."""
    chain = (*stimulus.predecessors, stimulus.peer)
    for name in chain:
        heir = membership.heirs.get(name)
        if heir is not None and (name == stimulus.peer or heir not in chain):
            return f"the key of {short(name)} was replaced: its node goes on as {heir}"
    return ""


def _successions(membership: Membership, peer: PeerId, predecessors: tuple[PeerId, ...], now: int) -> Decision:
    """What follows from the names a peer had before, each once."""
    fresh = [old for old in predecessors if old not in membership.heirs]
    lost = [TellLost(old, ours=False) for old in fresh if _phase(membership, old) is PeerPhase.GREETED]
    events = tuple(PeerSucceeded(old, peer, now) for old in fresh)
    return Decision(events, (*(Inherit(old, peer) for old in fresh), *lost))


def _says_something_new(before: Hello, after: Hello) -> bool:
    return msgspec.structs.replace(before, now=0, peers=()) != msgspec.structs.replace(after, now=0, peers=())


def _dials(membership: Membership, giver: PeerId, hello: Hello, now: int) -> tuple[Dial, ...]:
    """Peer exchange: whoever a peer names and we do not know is dialled, as long as we want more. Dials under way count."""
    fresh = [told for told in hello.peers if told.peer != membership.me and told.addresses]
    wanted = [told for told in fresh if _may_be_dialled(membership.peers.get(told.peer), now)]
    if not wanted:
        return ()
    there = sum(_is_connected(peer) or _is_being_dialled(peer, now) for peer in membership.peers.values())
    return tuple(Dial(told.peer, told.addresses, giver) for told in wanted[: max(WANTED_PEERS - there, 0)])


def _is_being_dialled(peer: Peer, now: int) -> bool:
    return peer.phase is PeerPhase.MET and peer.dials > 0 and peer.dial_at > now


def _may_be_dialled(peer: Peer | None, now: int) -> bool:
    return peer is None or (peer.phase is PeerPhase.MET and not _is_being_dialled(peer, now))


def _left(membership: Membership, stimulus: PeerDisconnected, now: int) -> Decision:
    known = membership.peers.get(stimulus.peer)
    if known is None or not _is_connected(known):
        return IGNORED
    ours = stimulus.reason == "network_down"
    lost = (TellLost(stimulus.peer, ours),) if known.phase is PeerPhase.GREETED else ()
    return Decision((PeerLeft(stimulus.peer, stimulus.reason, now),), lost)


def _probe(membership: Membership, stimulus: ProbeHeard, now: int) -> Decision:
    probe, peer = stimulus.probe, stimulus.peer
    if not probe.reply:
        return Decision((), (Send(peer, Probe(probe.nonce, reply=True, now=now)),))
    known = membership.peers.get(peer)
    if known is None or probe.nonce != known.probe_nonce or not known.unanswered:
        return IGNORED
    return Decision((PeerAnswered(peer, max(now - known.probed_at, 0)),))


def _forget(membership: Membership, stimulus: ForgetWished, _now: int) -> Decision:
    known = membership.peers.get(stimulus.peer)
    if known is None:
        return IGNORED
    lost = (TellLost(stimulus.peer, ours=False),) if known.phase is PeerPhase.GREETED else ()
    return Decision((PeerForgotten(stimulus.peer),), (*lost, Drop(stimulus.peer, "forgotten by its owner's wish")))


def _time(membership: Membership, _stimulus: TimeCame, now: int) -> Decision:
    if not membership.look_at or now < membership.look_at:
        return IGNORED
    events: list[Event] = []
    effects: list[Effect] = []
    few = len(membership.greeted()) < WANTED_PEERS
    for peer in membership.peers.values():
        if peer.phase is PeerPhase.GREETED and now + PROBE_SLACK_MS >= _probe_due(peer):
            _probe_again(peer, now, events, effects)
        elif peer.phase is PeerPhase.MET:
            _dial_or_forget(peer, now, few, events, effects)
    if few:
        _ask_for_peers(membership, now, events, effects)
    for event in events:
        membership = evolve(membership, event)
    return Decision((*events, LookedAround(_next_look(membership, now))), tuple(effects))


def _dial_or_forget(peer: Peer, now: int, few: bool, events: list[Event], effects: list[Effect]) -> None:
    """Dials a peer that is not there, or forgets one that has not been there for long."""
    if not peer.addresses:
        if now >= peer.dial_at:
            events.append(DialGivenUp(peer.peer))
    elif now >= peer.seen_at + FORGET_MS:
        events.append(PeerForgotten(peer.peer))
    elif few and now >= peer.dial_at:
        events.append(DialTried(peer.peer, now))
        effects.append(Dial(peer.peer, peer.addresses, peer.peer))


def _ask_for_peers(membership: Membership, now: int, events: list[Event], effects: list[Effect]) -> None:
    """Says hello again to those who have not been told for longest: their answers name others."""
    due = [peer for peer in membership.greeted() if now >= peer.told_at + ASK_EVERY_MS]
    for peer in sorted(due, key=lambda peer: peer.told_at)[:ASKED_AT_ONCE]:
        events.append(HelloSaid(peer.peer, now))
        effects.append(Send(peer.peer, _hello(membership, peer.peer, now)))


def _probe_again(peer: Peer, now: int, events: list[Event], effects: list[Effect]) -> None:
    """Probes a peer, or gives it up when it has not answered for too long."""
    if peer.unanswered >= PROBE_MISSES and now >= _probe_due(peer):
        events.append(PeerLeft(peer.peer, "silent", now))
        effects += [TellLost(peer.peer, ours=False), Drop(peer.peer, "it does not answer probes")]
    elif peer.unanswered < PROBE_MISSES and (peer.unanswered == 0 or now >= _probe_due(peer)):
        nonce = peer.probe_nonce + 1
        events.append(PeerProbed(peer.peer, nonce, now))
        effects.append(Send(peer.peer, Probe(nonce)))


def _probe_due(peer: Peer) -> int:
    return peer.probed_at + (PROBE_AGAIN_MS if peer.unanswered else PROBE_EVERY_MS)


def _next_look(membership: Membership, now: int) -> int:
    """When something is due after `now`; 0 for never."""
    few = len(membership.greeted()) < WANTED_PEERS
    deadlines: list[int | None] = []
    for peer in membership.peers.values():
        if peer.phase is PeerPhase.GREETED:
            deadlines.append(_probe_due(peer))
            if few:
                deadlines.append(peer.told_at + ASK_EVERY_MS)
        elif peer.phase is PeerPhase.MET and not peer.addresses:
            deadlines.append(peer.dial_at)
        elif peer.phase is PeerPhase.MET:
            deadlines.append(peer.seen_at + FORGET_MS)
            if few:
                deadlines.append(peer.dial_at)
    due = earliest(*deadlines)
    return max(due, now + 1) if due is not None else 0


def _hello(membership: Membership, to: PeerId, now: int) -> Hello:
    """What this node says of itself to `to`, with the peers it is connected to."""
    assert membership.hello is not None, "the node describes itself before it meets anyone"
    others = [peer for peer in membership.greeted() if peer.peer != to and peer.addresses]
    told = tuple(KnownPeer(peer.peer, peer.addresses[:4]) for peer in others[-TOLD_PEERS:])
    return msgspec.structs.replace(membership.hello, now=now, peers=told)


def _phase(membership: Membership, peer: PeerId) -> PeerPhase:
    known = membership.peers.get(peer)
    return known.phase if known is not None else PeerPhase.MET


def _is_connected(peer: Peer) -> bool:
    return peer.phase in (PeerPhase.CONNECTED, PeerPhase.GREETED)


# ----------------------------------------------------------------------------------------------------------------- evolve


def evolve(membership: Membership, event: Event) -> Membership:
    """The state after `event`."""
    change = msgspec.structs.replace
    if isinstance(event, LookedAround):
        return change(membership, look_at=event.next_at)
    if isinstance(event, DescriptionChanged):
        return change(membership, hello=event.hello)
    if isinstance(event, (PeerForgotten, DialGivenUp, PeerSucceeded)):
        return _evolve_names(membership, event)
    subject = getattr(event, "peer", None)
    if subject is None:
        return membership
    before = membership.peers.get(subject) or Peer(subject)
    peers = {**membership.peers, subject: _evolve_peer(before, event)}
    look = _look_hint(event) if type(event) in _HINTING else None
    if look is None or (membership.look_at and membership.look_at <= look):
        return change(membership, peers=peers)
    return change(membership, peers=peers, look_at=look)


def _evolve_names(membership: Membership, event: PeerForgotten | DialGivenUp | PeerSucceeded) -> Membership:
    """A name goes. Its heirs are remembered as long as the node they became; a second heir takes the place of the first."""
    if isinstance(event, PeerSucceeded):
        gone = event.old
        heirs = with_heir(membership.heirs, gone, event.new)
    else:
        gone = event.peer
        heirs = {old: heir for old, heir in membership.heirs.items() if heir != gone}
    peers = {key: known for key, known in membership.peers.items() if key != gone}
    return msgspec.structs.replace(membership, peers=peers, heirs=heirs)


_HINTING: Final = frozenset({PeerGreeted, PeerProbed, PeerLeft, DialTried, PeerMet})


def _look_hint(event: Event) -> int | None:
    """When an event may make something due; too early does no harm."""
    match event:
        case PeerGreeted(at=at):
            return at + PROBE_FIRST_MS
        case PeerProbed(at=at):
            return at + PROBE_AGAIN_MS
        case PeerLeft(at=at) | DialTried(at=at) | PeerMet(at=at):
            return at + REDIAL_MS[0]
        case _:
            return None


def _evolve_peer(peer: Peer, event: Event) -> Peer:  # noqa: C901, PLR0911 - one case per event kind
    change = msgspec.structs.replace
    match event:  # the commonest first
        case PeerProbed(nonce=nonce, at=at):
            return change(peer, probe_nonce=nonce, probed_at=at, unanswered=peer.unanswered + 1)
        case PeerAnswered(rtt_ms=rtt):
            return change(peer, unanswered=0, rtt_ms=rtt)
        case PeerMet(addresses=addresses, at=at):
            return change(peer, addresses=addresses or peer.addresses, seen_at=at, dials=0)
        case PeerAttached(relayed=relayed, at=at, remote=remote):
            return change(
                peer,
                phase=PeerPhase.CONNECTED,
                relayed=relayed,
                remote=remote,
                seen_at=at,
                probed_at=at,
                unanswered=0,
                dials=0,
                told_at=at,
            )
        case PeerGreeted(hello=hello, clock_offset_ms=offset, at=at):
            return change(
                peer,
                phase=PeerPhase.GREETED,
                hello=hello,
                clock_offset_ms=offset,
                seen_at=at,
                probed_at=peer.probed_at if peer.phase is PeerPhase.GREETED else at - PROBE_EVERY_MS + PROBE_FIRST_MS,
            )
        case HelloSaid(at=at):
            return change(peer, told_at=at)
        case PeersNamed(hello=hello):
            return change(peer, hello=hello)
        case PeerRefused(why=why):
            return change(peer, phase=PeerPhase.REFUSED, refused_because=why)
        case PeerLeft(reason=reason, at=at):
            return change(peer, phase=PeerPhase.MET, left_because=reason, seen_at=at, dial_at=at + REDIAL_MS[0])
        case DialTried(at=at):
            pause = REDIAL_MS[min(peer.dials, len(REDIAL_MS) - 1)]
            return change(peer, dials=peer.dials + 1, dial_at=at + pause)
        case _:
            return peer


def after_restart(membership: Membership) -> Membership:
    """The stored events say who was connected when the process ended; now nobody is."""
    gone = {
        key: msgspec.structs.replace(peer, phase=PeerPhase.MET) if _is_connected(peer) else peer
        for key, peer in membership.peers.items()
    }
    return msgspec.structs.replace(membership, peers=gone)


# ------------------------------------------------------------------------------------------------------------------ table

_ROWS: Final[dict[type[Stimulus], Row[Membership]]] = {
    SelfDescribed: Row(_describe, "everybody connected is told"),
    PeerConnected: Row(
        _connected, "this node says who it is; a refused peer gets another chance, since it may have been upgraded"
    ),
    PeerDisconnected: Row(_left, "whoever depends on it is told; it is dialled again, less and less often"),
    HelloHeard: Row(_greet, "it takes part, or is refused by name; peers it names are dialled"),
    ProbeHeard: Row(_probe, "answered, or noted as an answer"),
    ForgetWished: Row(_forget, "dropped and forgotten"),
    TimeCame: Row(_time, "probes, dials, silence and forgetting"),
}

TABLE: Final[Table[Membership]] = {(phase, kind): row for phase in PeerPhase for kind, row in _ROWS.items()}
