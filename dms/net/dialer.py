"""When to dial whom: bootstrap addresses always, peers we lost for a while, each with its own growing waits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

import trio

from dms.net.addresses import parse
from dms.net.bridge import Bridge
from dms.net.guards.dialing import DialError, dial_peer
from dms.net.host import Host
from dms.net.limits import Backoff
from dms.net.peers import Peers
from dms.net.pipe import Dialled, Found, Redial
from dms_proto.recent import Recent
from dms_proto.scope import Scope

FIRST_RETRY_S: Final = 0.25
LAST_RETRY_S: Final = 30.0
CHECK_S: Final = 1.0
"""Seconds between looks at a bootstrap peer that is connected."""
GIVE_UP_S: Final = 600.0
"""Seconds for which a lost peer that is not in the bootstrap list is dialled again."""
UP_S: Final = 12.0
"""Seconds from connected to up: greeting limits, and a little."""
MAX_KNOWN: Final = 1_024
"""Peers whose addresses are remembered for that; who was reached longest ago is forgotten."""
MAX_KEPT: Final = 256
"""Peers dialled again at a time."""


class _Known(NamedTuple):
    addresses: tuple[str, ...]
    least: Scope = Scope.MACHINE


class Dialer:
    """Connects. Lives on the trio thread."""

    def __init__(self, host: Host, peers: Peers, bridge: Bridge) -> None:
        self._host = host
        self._peers = peers
        self._bridge = bridge
        self._nursery: trio.Nursery | None = None
        self._known: Recent[str, _Known] = Recent(MAX_KNOWN)
        self._under_way: dict[str, trio.Event] = {}
        self._keeping: set[str] = set()
        peers.on_lost = self._on_lost

    def start(self, nursery: trio.Nursery, redial: Sequence[Redial]) -> None:
        """Dials in `nursery`. `redial` are peers connected in an earlier life of the process."""
        self._nursery = nursery
        for peer, addresses in _by_peer(self._host.config.bootstrap).items():
            self._keep(peer, _Known(addresses), for_ever=True)
        for each in redial:
            for peer, addresses in _by_peer(each.addresses).items():
                self._keep(peer, _Known(addresses, each.least), for_ever=False)

    async def dial(self, request: int, addresses: Sequence[str], least: Scope) -> None:
        """Dials for the node and answers it."""
        try:
            by_peer = _by_peer(addresses)
        except ValueError as error:
            self._bridge.send(Dialled(request, "", "peer_unreachable", str(error)))
            return
        if len(by_peer) != 1:
            self._bridge.send(
                Dialled(request, "", "peer_unreachable", "the addresses must name one peer, at their end")
            )
            return
        ((peer, known),) = by_peer.items()
        code, why = await self._reach(peer, known, least)
        self._bridge.send(Dialled(request, peer, code, why))

    async def found(self, peer: str, addresses: tuple[str, ...]) -> None:
        """MDNS saw a peer: tells the node and connects, unless that is done."""
        if peer == self._host.peer_id or self._peers.link(peer) is not None or peer in self._under_way:
            return
        if len(self._under_way) >= MAX_KEPT:
            return  # it will be seen again
        self._bridge.send(Found(peer, addresses))
        await self._host.crashes.run(self._reach, peer, addresses, Scope.MACHINE)

    async def _reach(self, peer: str, addresses: tuple[str, ...], least: Scope) -> tuple[str, str]:
        """Connects, or waits for who is already at it. Gives a code ("" for up) and why not."""
        if peer == self._host.peer_id:
            return "peer_unreachable", "that is this node itself"
        if self._host.is_banned(peer):
            return "peer_unreachable", "the peer is banned here"
        while (other := self._under_way.get(peer)) is not None:
            await other.wait()
        if not self._host.connections(peer):
            done = self._under_way[peer] = trio.Event()
            try:
                timeout_s = self._host.config.dial_timeout_s
                connection = await dial_peer(self._host.swarm, peer, addresses, timeout_s, least)
            except DialError as error:
                return "peer_unreachable", str(error)
            finally:
                del self._under_way[peer]
                done.set()
            reached = [str(a) for a in connection.get_transport_addresses()]
            self._peers.remember_dialled(peer, f"{reached[0]}/p2p/{peer}" if reached else addresses[0])
        if why := await self._peers.wait_up(peer, UP_S):
            return ("incompatible_version" if "speak" in why else "peer_unreachable"), why
        self._known.keep(peer, _Known(addresses, least))
        return "", ""

    def _on_lost(self, peer: str) -> None:
        if (known := self._known.get(peer)) is not None:
            self._keep(peer, known, for_ever=False)

    def _keep(self, peer: str, known: _Known, *, for_ever: bool) -> None:
        if self._nursery is None or peer == self._host.peer_id or (not for_ever and peer in self._keeping):
            return
        if for_ever or len(self._keeping) < MAX_KEPT:
            self._keeping.add(peer)
            self._nursery.start_soon(self._host.crashes.run, self._keep_connected, peer, known, for_ever)

    async def _keep_connected(self, peer: str, known: _Known, for_ever: bool) -> None:
        """Dials with growing waits: until connected or given up, or for ever."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        give_up_at = trio.current_time() + GIVE_UP_S
        try:
            while for_ever or trio.current_time() < give_up_at:
                if self._peers.link(peer) is not None or not (await self._reach(peer, *known))[0]:
                    if not for_ever:
                        return
                    backoff.reset()
                    await trio.sleep(CHECK_S)
                else:
                    await trio.sleep(backoff.next(random.random()))  # noqa: S311 - jitter, not a secret
        finally:
            self._keeping.discard(peer)


def _by_peer(addresses: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Addresses grouped by the peer they end in.

    Raises:
        ValueError: one is malformed, or names no peer.
    """
    grouped: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        target = parse(address)
        if not target.peer:
            raise ValueError(f"{address!r} does not end in /p2p/PEER")
        grouped[target.peer] = (*grouped.get(target.peer, ()), address)
    return grouped
