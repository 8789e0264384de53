"""The swarm: inbound connections that give their slot back, and bans by peer.

Stock faults: an inbound slot is held until the swarm shuts down, not until its connection closes, so the 251st inbound connection in the
life of the process is refused for good; connections that never finish their handshake hold slots for 10 s each; there is no way to refuse
a peer by id; one peer may open any number of connections; when a connection ends, everyone it knows is dialled; a connection that ends while
it is being registered stays listed for ever and counts against the limit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

import trio
from libp2p.abc import IMuxedConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.guards.yamux import SafeYamux, connection_under

logger = logging.getLogger("dms.net.guards")


class _NoAutoConnector(AutoConnector):
    """Dials nobody: the stock one dials whoever it knows when a connection ends."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Nothing to do."""

    async def maybe_connect(self) -> None:
        """Nothing to do."""

    def record_disconnect(self, peer_id: ID) -> None:
        """Not needed."""


class GuardedSwarm(Swarm):
    """libp2p's swarm with bounded, reusable inbound slots.

    Attributes:
        is_refused: tells whether a peer is banned, by its id in base58.
        wait: seconds that a connection from an address waits before its handshake.
    """

    def __init__(
        self,
        peer_id: ID,
        peerstore: PeerStore,
        upgrader: TransportUpgrader,
        *,
        config: NetConfig,
        counters: Counters,
        is_refused: Callable[[str], bool],
        wait: Callable[[str], float],
    ) -> None:
        limits = ConnectionConfig(
            max_connections=config.max_connections,
            min_connections=0,
            low_watermark=0,
            high_watermark=config.max_connections,
            max_connections_per_peer=config.max_peer_connections,
            inbound_upgrade_timeout=config.handshake_timeout_s,
            outbound_upgrade_timeout=config.dial_timeout_s,
        )
        super().__init__(peer_id, peerstore, upgrader, [TCP()], connection_config=limits)
        self.auto_connector = _NoAutoConnector(self)
        self.is_refused = is_refused
        self.wait = wait
        self._counters = counters
        self._inbound_slots = config.max_connections * 4 // 5
        self._inbound: Counter[str] = Counter()
        self._max_from_source = config.max_source_connections
        self._max_handshakes = config.max_handshakes
        self._handshakes: Counter[str] = Counter()

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """Upgrades one accepted socket and stays with the connection until it closes, so that its slot comes back."""
        remote = read_write_closer.get_remote_address()
        source = source_of(remote[0]) if remote else ""
        if refusal := self._refuse_socket(source):
            self._counters.add(refusal)
            await read_write_closer.close()
            return
        self._inbound[source] += 1
        self._handshakes[source] += 1
        try:
            if (pause := self.wait(remote[0] if remote else "")) > 0:
                self._counters.add("waited.doorstep")
                await trio.sleep(pause)
            connection = await self._upgraded(read_write_closer, maddr, source)
            if connection is not None:
                await connection.event_closed.wait()
        finally:
            _give_back(self._inbound, source)

    def _refuse_socket(self, source: str) -> str:
        if self._inbound.total() >= self._inbound_slots:
            return "refused.connections"
        if self._inbound[source] >= self._max_from_source:
            return "refused.source"
        crowded = (
            self._handshakes.total() >= self._max_handshakes or self._handshakes[source] * 4 >= self._max_handshakes
        )
        return "refused.handshakes" if crowded else ""

    async def _upgraded(self, socket: ReadWriteCloser, maddr: Multiaddr, source: str) -> SafeYamux | None:
        """The connection on `socket` after handshake and registration, or None if the peer failed at it."""
        raw = RawConnection(socket, False)
        try:
            connection = await self.upgrade_inbound_raw_conn(raw, maddr)
            assert isinstance(connection, SafeYamux)
            return connection
        except Exception as error:  # noqa: BLE001 - the process edge: hostile handshake bytes end in every kind of exception
            self._counters.add("refused.handshake")
            logger.debug("handshake from %s failed: %r", source, error)
            await raw.close()
        finally:
            _give_back(self._handshakes, source)
        return None

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Registers a connection whose peer is now proven.

        Raises:
            SwarmException: the peer is banned.
        """
        assert isinstance(muxed_conn, SafeYamux)
        peer = muxed_conn.peer_id
        if peer == self.self_id or self.is_refused(peer.to_base58()):
            self._counters.add("refused.banned")
            await muxed_conn.close()
            raise SwarmException(f"peer {peer} is refused")
        for oldest in self._surplus(peer):
            connection_under(oldest).shut("replaced by a newer connection")
        connection = await super().add_conn(muxed_conn, direction)
        if (
            muxed_conn.is_closed
        ):  # it ended while it was being registered: the stock code removes it first and then lists it for ever
            self.remove_conn(connection)
        return connection

    def _surplus(self, peer: ID) -> list[SwarmConn]:
        """The oldest connections with `peer` that must go to admit one more: after a silent cut, the newest is the one that works."""
        existing = [c for c in self.connections.get(peer, []) if isinstance(c, SwarmConn) and not c.is_closed]
        return existing[: max(0, len(existing) + 1 - self.connection_config.max_connections_per_peer)]

    def connection_count(self) -> int:
        """Connections registered now."""
        return sum(len(connections) for connections in self.connections.values())

    async def close_listeners(self) -> None:
        """Stops accepting."""
        for listener in list(self.listeners.values()):
            await listener.close()
        self.listeners.clear()


async def close_connections(swarm: Swarm) -> None:
    """Closes all connections at the same time (the stock way takes 0.1 s for each)."""
    async with trio.open_nursery() as nursery:
        for connection in swarm.get_connections():
            nursery.start_soon(connection.close)


def source_of(address: str) -> str:
    """What peers share that are reached at one place: an IPv4 address, or the 64 bits of an IPv6 network, which one customer gets whole."""
    try:
        ip = ip_address(address)
    except ValueError:  # with a zone, or no address at all
        return address
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    if isinstance(ip, IPv6Address) and mapped is None:
        return str(ip_network((ip, 64), strict=False))
    return str(mapped or ip)


def _give_back(counted: Counter[str], source: str) -> None:
    counted[source] -= 1
    if not counted[source]:
        del counted[source]
