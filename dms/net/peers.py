"""The table of peers: who is up, opening frame streams to them, keeping them alive, telling the node.

A peer is up once it answered our greeting on the stream we opened; frames it sends before that wait in its stream. When the connection that
carries our stream ends and another one exists, the stream is opened there; else the peer is down, with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, cast

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from multiaddr import Multiaddr

from dms.net import addresses
from dms.net.admission import Admission
from dms.net.bridge import Bridge
from dms.net.config import FRAMES_PROTOCOL
from dms.net.frames import MAX_ADDRESSES, Greeting
from dms.net.guards.crashes import ENDS
from dms.net.guards.yamux import GOODBYE, connection_under
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.host import Host
from dms.net.link import Inbound, Link
from dms.net.pipe import Down, FrameIn, ToNode, Up, cost
from dms.net.quotas import Quota
from dms.net.relief import Relief
from dms.net.windows import Windows
from dms_proto.wire.scores import Offence

GREETING_S: Final = 10.0
"""Seconds a peer may take to greet, or to answer a greeting."""
REOPEN_S: Final = 2.0
"""Pause before a stream is opened again that did not live long, so that two sides that disagree do not spin."""
SETTLED_S: Final = 5.0
"""Age from which a lost stream is opened again at once."""
MAX_INBOUND: Final = 2
"""Frame streams of one peer read at a time: one, and another while it moves to a new connection."""
PARTING_S: Final = 0.5
"""Seconds between refusing a peer and closing, so that it can read why."""

logger = logging.getLogger("dms.net.peers")


class Peers(INotifee):
    """All links. Lives on the trio thread; its tasks run in the nursery given to `start`.

    Attributes:
        config, counters: the host's.
        admission: who has to show proof of work.
        on_lost: called with a peer that went down without saying goodbye, for redialling.
    """

    def __init__(self, host: Host, bridge: Bridge) -> None:
        self.config = host.config
        self.counters = host.counters
        self.on_lost: Callable[[str], None] = lambda _peer: None
        self._host = host
        self._bridge = bridge
        self._quota = Quota(host.config.frame_limit)
        self._windows = Windows(host.config.pipe_window)
        self._paused: dict[Inbound, None] = {}
        self.admission = Admission(host)
        host.admission = self.admission.is_admitted
        self._links: dict[str, Link] = {}
        self._relief = Relief(self._links.values, self.later, self.let_go)
        self._dialled: dict[str, str] = {}
        self._waiters: dict[str, list[trio.Event]] = {}
        self._nursery: trio.Nursery | None = None
        self._opening: set[str] = set()
        self._is_stopping = False

    def start(self, nursery: trio.Nursery) -> None:
        """Serves frame streams and keeps peers alive, in `nursery`."""
        self._nursery = nursery
        self._host.set_stream_handler(TProtocol(FRAMES_PROTOCOL), self._accept)
        self._host.swarm.register_notifee(self)
        nursery.start_soon(self._keep_alive)

    # -------------------------------------------------------------------------------------------------------- for others

    def link(self, peer: str) -> Link | None:
        """The link with a peer that is up."""
        link = self._links.get(peer)
        return link if link is not None and link.is_up else None

    def up_count(self) -> int:
        """Peers that are up."""
        return sum(link.is_up for link in self._links.values())

    def send(self, peer: str, frame: bytes) -> None:
        """Queues a frame; `flush` sends it. Discarded when the peer is gone: the node has been told."""
        link = self.link(peer)
        if link is None:
            self.counters.add("dropped.no_peer")
            return
        link.enqueue(frame)

    def flush(self, peers: Iterable[str]) -> None:
        """Sends what was queued to these peers."""
        for peer in peers:
            if (link := self.link(peer)) is not None:
                link.pump()

    async def wait_up(self, peer: str, timeout_s: float) -> str:
        """Waits until a connected peer is up. Gives "" or why it is not."""
        with trio.move_on_after(timeout_s):
            while self.link(peer) is None:
                link = self._links.get(peer)
                if link is None or link.refusal:
                    break
                changed = trio.Event()
                self._waiters.setdefault(peer, []).append(changed)
                await changed.wait()
        link = self._links.get(peer)
        if link is not None and link.is_up:
            return ""
        return (
            link.refusal if link is not None and link.refusal else "connected, but it does not speak " + FRAMES_PROTOCOL
        )

    def remember_dialled(self, peer: str, address: str) -> None:
        """The address by which a peer was reached: the first of those told to the node."""
        self._dialled[peer] = address

    def say_bye(self) -> None:
        """Tells all peers that we go."""
        self._is_stopping = True
        for link in self._links.values():
            link.say_bye("stopping")

    # ---------------------------------------------------------------------------------------------------- for the links

    def may_hear(self, peer: str) -> bool:
        """Whether the node takes more of a peer now."""
        return self._bridge.may_send and self._windows.has_room(peer, self._host.source(peer))

    def hear(self, peer: str, frame: bytes) -> None:
        """Collects a frame of a peer for the node."""
        self._windows.read(peer, self._host.source(peer), cost(frame))
        self.post(FrameIn(peer, frame))

    def pause(self, inbound: Inbound) -> None:
        """A stream is to be read on when the node takes more of its peer."""
        self._paused[inbound] = None

    def took(self, amounts: Mapping[str, int]) -> None:
        """The node has dealt with so much of each peer: who waits is read on, those first who waited longest."""
        self._windows.took(amounts)
        paused, self._paused = self._paused, {}
        passed_over: dict[Inbound, None] = {}
        for inbound in paused:
            if self.may_hear(inbound.peer):
                inbound.changed()
            else:
                passed_over[inbound] = None
        self._paused = passed_over | self._paused
        self._bridge.flush()

    def post(self, message: ToNode) -> None:
        """Collects a message for the node."""
        self._bridge.post(message)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls `call` after a time, unless stopped before."""
        if self._nursery is not None:
            self._nursery.start_soon(self._host.crashes.run, _call_later, seconds, call)

    def on_outbound(self, link: Link) -> None:
        """Our stream to a peer was answered, or ended."""
        stream = link.outbound
        if link.refusal:
            logger.warning("peer %s refused us: %s", link.peer, link.refusal)
            self._part(link)
        elif stream is None or stream.is_reset or stream.received_end:
            self._outbound_lost(link, stream)
        elif link.welcome is not None:
            self._up(link)

    def judge(self, peer: str, size: int, now: float) -> Offence | None:
        """Whether an item of `size` bytes passes."""
        return self._quota.judge(peer, self._host.source(peer), size, now)

    def lacking_work(self, peer: str, stamp: bytes) -> tuple[int, int] | None:
        """The bits that a peer has shown and those that are wanted, if it has shown too few."""
        return self.admission.lacking_work(peer, stamp)

    def on_work_wanted(self, link: Link, bits: int) -> None:
        """Works for a peer in a thread, and greets it again."""
        if self._nursery is not None and link.outbound is not None:
            self._nursery.start_soon(self._host.crashes.run, self._work_for, link, link.outbound, bits)

    async def _work_for(self, link: Link, stream: SafeStream, bits: int) -> None:
        try:
            await self.admission.work_for(link.peer, bits, lambda: link.outbound is stream)
        except ValueError as error:
            link.refusal = str(error)
            self.on_outbound(link)
            return
        link.greet_again(stream, self._greeting(link.peer))

    def on_queued(self) -> None:
        """A frame waits for a peer."""
        self._relief.on_queued()

    def let_go(self, link: Link) -> None:
        """A peer that does not read what it is sent."""
        self.counters.add("refused.stalled")
        self.blame(link.peer, Offence.UNREAD)
        for connection in self._host.connections(link.peer):
            connection_under(connection).shut("silent")

    def blame(self, peer: str, offence: Offence) -> None:
        """A peer did what it should not."""
        self._host.blame(peer, offence)

    # ------------------------------------------------------------------------------------------------ libp2p's notifications

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """A connection was registered: greet the peer, unless that is done."""
        peer = cast("SwarmConn", conn).muxed_conn.peer_id.to_base58()
        link = self._links.setdefault(peer, Link(peer, self))
        if not self.admission.is_admitted(peer):
            self.later(
                GREETING_S, partial(self._close_unproven, peer)
            )  # it opens a stream to us and shows its work first
        elif link.outbound is None:
            self._open(link)

    def _close_unproven(self, peer: str) -> None:
        for connection in [] if self.admission.is_admitted(peer) else self._host.connections(peer):
            connection_under(connection).shut("closed here")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """A connection ended; what hung on it noticed before. Without streams the entry goes here."""
        peer = cast("SwarmConn", conn).muxed_conn.peer_id.to_base58()
        link = self._links.get(peer)
        if link is not None and link.outbound is None and not self._host.connections(peer):
            self._drop(link, "lost")

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not needed."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not needed."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not needed."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not needed."""

    # ------------------------------------------------------------------------------------------------------------ inside

    def _open(self, link: Link, pause: float = 0.0) -> None:
        if self._nursery is not None and link.peer not in self._opening and not self._is_stopping:
            self._opening.add(link.peer)
            self._nursery.start_soon(self._host.crashes.run, self._open_outbound, link.peer, pause)

    async def _open_outbound(self, peer: str, pause: float) -> None:
        """Opens and greets on the newest connection that works; drops the peer when none does. It may go and come back meanwhile."""
        tried: list[SwarmConn] = []
        try:
            await trio.sleep(pause)
            while (link := self._links.get(peer)) is not None:
                untried = [each for each in self._host.connections(peer) if each not in tried]
                if not untried:
                    self._drop(link, "lost")
                    return
                tried.append(untried[-1])
                if await self._greet(peer, untried[-1]):
                    return
        finally:
            self._opening.discard(peer)

    async def _greet(self, peer: str, connection: SwarmConn) -> bool:
        try:
            stream = await self._host.open_stream(connection, FRAMES_PROTOCOL)
        except ENDS as error:
            logger.debug("no frame stream to %s: %s", peer, error)
            return False
        link = self._links.get(peer)
        if link is None:
            stream_under(stream).break_off()
            return False
        link.attach(stream_under(stream), self._greeting(link.peer))
        with trio.move_on_after(GREETING_S):
            while link.outbound is not None and link.welcome is None and not link.refusal:
                changed = trio.Event()
                self._waiters.setdefault(link.peer, []).append(changed)
                await changed.wait()
        if link.welcome is None and not link.refusal:
            link.detach()
            return False
        return True

    def _up(self, link: Link) -> None:
        """The peer answered our greeting: for the first time, or on a stream that replaces a lost one."""
        link.ping()
        if not link.is_up:
            link.is_up = True
            connections = self._host.connections(link.peer)
            dialled_us = any(not connection_under(connection).is_initiator for connection in connections)
            remote = self._host.remote(link.peer)
            self.post(Up(link.peer, self._addresses(link), inbound=dialled_us, remote=remote))
        self._wake(link.peer)
        link.pump()
        for inbound in list(link.inbound):
            inbound.changed()
        self._bridge.flush()

    def _outbound_lost(self, link: Link, stream: SafeStream | None) -> None:
        why = stream.muxed_conn.close_reason if stream is not None else ""
        link.detach()
        self._wake(link.peer)
        if link.peer in self._opening:
            return  # the task that opens it sees it and goes on
        if self._host.connections(link.peer) and not self._is_stopping and not self._host.is_banned(link.peer):
            self._open(link, 0.0 if trio.current_time() - link.attached_at > SETTLED_S else REOPEN_S)
        else:
            self._drop(link, _reason(why, said_bye=link.said_bye))

    def _drop(self, link: Link, reason: str) -> None:
        """Forgets a peer. A ban is told as the reason whoever notices the end: the opening task sees only that its stream is gone."""
        if self._links.get(link.peer) is not link:
            return
        if self._host.is_banned(link.peer):
            reason = "banned"
        del self._links[link.peer]
        self._dialled.pop(link.peer, None)
        was_up, link.is_up = link.is_up, False
        link.detach()
        link.discard()
        for inbound in list(link.inbound):
            inbound.stream.break_off()
        if was_up:
            self.post(Down(link.peer, reason))
        self._wake(link.peer)
        self._bridge.flush()
        if reason in ("lost", "silent") and not self._is_stopping:
            self.on_lost(link.peer)

    def _part(self, link: Link) -> None:
        """Closes the connections with a peer of another network version, after it could read why."""
        self._wake(link.peer)

        def close() -> None:
            for connection in self._host.connections(link.peer):
                connection_under(connection).shut("incompatible")

        self.later(PARTING_S, close)

    def _wake(self, peer: str) -> None:
        for waiter in self._waiters.pop(peer, ()):
            waiter.set()

    async def _accept(self, stream: INetStream) -> None:
        """Serves a frame stream that a peer opened."""
        muxed = stream_under(stream)
        peer = muxed.muxed_conn.peer_id.to_base58()
        link = self._links.setdefault(peer, Link(peer, self))
        inbound = Inbound(muxed, link, self, self._greeting())
        for surplus in list(link.inbound)[: max(0, len(link.inbound) + 1 - MAX_INBOUND)]:
            surplus.stream.break_off()
        link.inbound[inbound] = None
        muxed.on_change = inbound.changed
        try:
            inbound.changed()
            with trio.move_on_after(GREETING_S):
                await inbound.settled.wait()
            if inbound.is_greeted:
                if link.outbound is None:
                    self._open(link)
                await inbound.closed.wait()
            elif link.refusal:
                self._part(link)
        finally:
            muxed.on_change = None
            link.inbound.pop(inbound, None)
            self._paused.pop(inbound, None)
            muxed.break_off()

    def _greeting(self, to: str = "") -> Greeting:
        known = tuple(str(a) for a in self._host.get_addrs())[:MAX_ADDRESSES]
        return Greeting(self.config.network_version, self.config.agent[:100], known, self.admission.stamp(to))

    def _addresses(self, link: Link) -> tuple[str, ...]:
        """Where the peer can be dialled: how we reached it, then what it announces, as far as it can be read."""
        announced = link.welcome.addresses[:MAX_ADDRESSES] if link.welcome is not None else ()
        known = ((self._dialled[link.peer],) if link.peer in self._dialled else ()) + announced
        return tuple(dict.fromkeys(a for a in known if _names(a, link.peer)))

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(self.config.keepalive_s)
            for link in [link for link in self._links.values() if link.is_up and link.outbound is not None]:
                self._check(link)
            self._bridge.flush()

    def _check(self, link: Link) -> None:
        """Pings a peer, or closes the connection on which nothing has come since the last pings."""
        assert link.outbound is not None
        if link.is_stuck(self.config.write_stall_s, trio.current_time()):
            self.let_go(link)
            return
        connection = link.outbound.muxed_conn
        quiet = trio.current_time() - connection.last_received
        if quiet < self.config.keepalive_s:
            link.unanswered = 0
        if link.unanswered >= self.config.keepalive_misses:
            connection.shut("silent")
        else:
            link.ping()


def _reason(why: str, *, said_bye: bool) -> str:
    """The reason told to the node, from how the connection ended."""
    if why in ("banned", "silent"):
        return why
    return "closed" if said_bye or why in (GOODBYE, "closed here", "incompatible") else "lost"


def _names(address: str, peer: str) -> bool:
    try:
        return addresses.parse(address).peer == peer
    except ValueError:
        return False


async def _call_later(seconds: float, call: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    call()
