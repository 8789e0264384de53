"""The host: a guarded swarm, protocol negotiation, identify and ping.

It offers what libp2p's pubsub and identify code ask of a host, and nothing else. libp2p's own BasicHost is not used: it would also identify
every peer in unsupervised system tasks (24-36 ms of CPU per connection, needed by nothing here) and import half of the library.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

import trio
from libp2p.abc import IHost, INetConn, INetStream
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair, PrivateKey, PublicKey
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, create_signed_peer_record
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from multiaddr import Multiaddr

from dms.net.addresses import announced
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.doorstep import Doorstep
from dms.net.guards.crashes import Crashes, Handler
from dms.net.guards.services import guarded_service
from dms.net.guards.shutdown import close_first
from dms.net.guards.swarm import GuardedSwarm
from dms.net.guards.transport import own_the_port, safe_upgrader
from dms.net.guards.yamux import YamuxHooks, connection_under
from dms.net.guards.yamux_stream import stream_under
from dms.net.limits import Spans
from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import source_of
from dms_proto.units import SECOND
from dms_proto.wire.scores import Offence, Scores

PING: Final = TProtocol("/ipfs/ping/1.0.0")
PING_BYTES: Final = 32
NEGOTIATE_S: Final = 10
"""Seconds to agree on the protocol of a stream."""
SOURCES: Final = 1_024
"""Peers whose source is remembered: twice as many as can be connected."""

logger = logging.getLogger("dms.net.host")


def key_pair(private_key: bytes) -> KeyPair:
    """The libp2p key pair of 32 raw bytes."""
    private = Ed25519PrivateKey.from_bytes(private_key)
    return KeyPair(private, private.get_public_key())


class Host:
    """One libp2p node. Lives on the trio thread.

    Attributes:
        config: as received from the node.
        counters: shared by all parts of the process.
        crashes: where contained exceptions go.
        bans: who is refused.
        swarm: the connections.
        peer_id: our own id, base58.
        admission: whether a peer has shown the proof of work that is asked of it.
        on_muted: told of each peer that is muted, and for how many seconds.
    """

    def __init__(self, config: NetConfig, counters: Counters, hooks: YamuxHooks) -> None:
        self.config = config
        self.counters = counters
        self.crashes = Crashes(counters)
        self.bans = Spans()
        self.admission: Callable[[str], bool] = lambda _peer: True
        self._sources: Recent[str, str] = Recent(SOURCES)
        self._doorstep = Doorstep()
        self.on_muted: Callable[[str, float], None] = lambda _peer, _seconds: None
        self._scores = Scores(max(1, round(config.half_life_s * SECOND)))
        self._keys = key_pair(config.private_key)
        self._id = ID.from_pubkey(self._keys.public_key)
        self.peer_id = self._id.to_base58()
        self._store = PeerStore()
        self._store.add_key_pair(self._id, self._keys)
        self._multiselect = Multiselect()
        self._multiselect_client = MultiselectClient()
        self._announced: list[Multiaddr] = []
        own_the_port()
        upgrader = safe_upgrader(self._keys, hooks)
        self.swarm = GuardedSwarm(
            *(self._id, self._store, upgrader),
            config=config,
            counters=counters,
            is_refused=self.is_banned,
            wait=self._wait,
        )
        self.swarm.set_stream_handler(self.crashes.guard_handler("stream", self._serve))
        self.set_stream_handler(IDENTIFY, identify_handler_for(cast("IHost", self)))
        self.set_stream_handler(PING, _answer_pings)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Runs the swarm while the block is entered; connections are closed first on the way out."""
        async with guarded_service(self.swarm, self.crashes):
            try:
                yield
            finally:
                await close_first(self.swarm)

    async def listen(self) -> str:
        """Listens on every configured address. Gives the first one that cannot be had (another program has the port, or the address is not ours)."""
        for address in dict.fromkeys(self.config.listen):
            if not await self.swarm.listen(Multiaddr(address)):
                return address
        listening = self.get_transport_addrs()
        suffix = Multiaddr(f"/p2p/{self.peer_id}")
        self._announced = [
            Multiaddr(a).encapsulate(suffix) for a in announced(self.config.announce, map(str, listening))
        ]
        record = create_signed_peer_record(self._id, self._announced, self._keys.private_key)
        self._store.set_local_record(record)
        return ""

    async def open_stream(self, connection: SwarmConn, protocol: str) -> NetStream:
        """A new stream of `protocol` on this connection.

        Raises:
            MultiselectClientError: the peer does not speak it, or did not answer.
            MuxedStreamError: the connection is over.
        """
        stream = await connection.new_stream()
        try:
            chosen = await self._multiselect_client.select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(stream), NEGOTIATE_S
            )
        except BaseException:
            stream_under(stream).break_off()
            connection.remove_stream(stream)
            raise
        stream.set_protocol(chosen)
        return stream

    def connections(self, peer: str) -> list[SwarmConn]:
        """Open connections with a peer, oldest first."""
        try:
            found = self.swarm.get_connections(ID.from_base58(peer))
        except ValueError:  # not a peer id at all
            return []
        return [c for c in found if isinstance(c, SwarmConn) and not c.muxed_conn.is_closed]

    def remote(self, peer: str) -> str:
        """The IP address at the other end of a connection with a peer; empty if there is none."""
        ends = (connection_under(connection).get_remote_address() for connection in self.connections(peer))
        return next((end[0] for end in ends if end is not None), "")

    def source(self, peer: str) -> str:
        """Where a connected peer comes from. Asked for every frame, so remembered."""
        found = self._sources.get(peer)
        if found is None:
            found = source_of(self.remote(peer))
            self._sources.keep(peer, found)
        return found

    def ban(self, peer: str, seconds: float) -> None:
        """Refuses a peer for a while and closes its connections."""
        self.source(peer)  # while it is connected, for the doorstep
        self.bans.add(peer, seconds, trio.current_time())
        if seconds > 0:
            self.counters.add("bans")
            for connection in self.connections(peer):
                connection_under(connection).shut("banned")

    def blame(self, peer: str, offence: Offence) -> None:
        """Counts an offence; one too many, and the peer is banned. The node hears of the ban before it hears that the peer is down."""
        if self._scores.blame(PeerId(peer), offence, round(trio.current_time() * SECOND)):
            logger.warning("peer %s is muted for %.0f s, last for: %s", peer, self.config.half_life_s, offence)
            self.on_muted(peer, self.config.half_life_s)
            self.ban(peer, self.config.half_life_s)

    def is_admitted(self, peer: str) -> bool:
        """Whether a peer may be heard, as far as proof of work goes."""
        return self.admission(peer)

    def is_banned(self, peer: str) -> bool:
        """Whether a peer is refused now."""
        return self.bans.holds(peer, trio.current_time())

    def _wait(self, address: str) -> float:
        """Seconds that a new connection from `address` waits before its handshake."""
        source, now = source_of(address), trio.current_time()
        muted = sum(self._sources.get(peer) == source for peer, _ in self.bans.running(now))
        return self._doorstep.wait(source, muted, now)

    async def _serve(self, stream: INetStream) -> None:
        """Negotiates the protocol of an inbound stream and hands it over."""
        protocol, handler = await self._multiselect.negotiate(MultiselectCommunicator(stream), NEGOTIATE_S)
        if protocol is None or handler is None:
            await stream.reset()
            return
        stream.set_protocol(protocol)
        await handler(stream)

    # ----------------------------------------------------------- what libp2p's pubsub and identify code ask of a host

    def get_id(self) -> ID:
        """Our peer id."""
        return self._id

    def get_public_key(self) -> PublicKey:
        """Our public key."""
        return self._keys.public_key

    def get_private_key(self) -> PrivateKey:
        """Our private key."""
        return self._keys.private_key

    def get_network(self) -> GuardedSwarm:
        """The swarm."""
        return self.swarm

    def get_peerstore(self) -> PeerStore:
        """The peer store."""
        return self._store

    def get_mux(self) -> Multiselect:
        """The table of protocols."""
        return self._multiselect

    def get_transport_addrs(self) -> list[Multiaddr]:
        """Bound addresses."""
        return [address for listener in self.swarm.listeners.values() for address in listener.get_addrs()]

    def get_addrs(self) -> list[Multiaddr]:
        """Announced addresses, with /p2p."""
        return self._announced

    def set_stream_handler(self, protocol: TProtocol, handler: Handler) -> None:
        """Serves a protocol; the handler cannot harm more than its stream."""
        self._multiselect.add_handler(protocol, self.crashes.guard_handler(protocol, handler))

    async def new_stream(self, peer_id: ID, protocols: Sequence[TProtocol]) -> INetStream:
        """A new stream to a connected peer; never dials.

        Raises:
            SwarmException: not connected, or the peer speaks none of the protocols.
        """
        for connection in reversed(self.connections(peer_id.to_base58())):
            try:
                return await self.open_stream(connection, protocols[0])
            except MultiselectClientError as error:
                raise SwarmException(str(error)) from error
        raise SwarmException(f"not connected to {peer_id}")

    def get_live_peers(self) -> list[ID]:
        """Peers with a connection."""
        return list(self.swarm.connections)

    def is_peer_connected(self, peer_id: ID) -> bool:
        """Whether there is a connection."""
        return bool(self.connections(peer_id.to_base58()))

    def get_peer_connection_info(self, peer_id: ID) -> list[INetConn]:
        """Connections with a peer."""
        return list(self.connections(peer_id.to_base58()))


async def _answer_pings(stream: INetStream) -> None:
    """libp2p ping: echoes 32 bytes at a time until the peer closes."""
    waiting = bytearray()
    while True:
        waiting += await stream.read(PING_BYTES - len(waiting))
        if len(waiting) == PING_BYTES:
            await stream.write(bytes(waiting))
            waiting.clear()
