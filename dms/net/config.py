"""Configuration of the network process: what the node decides, sent as the first message over the pipe, never in argv or environment."""

from __future__ import annotations

from typing import Final

import msgspec

from dms.net.addresses import Target, parse
from dms_proto.errors import UserError
from dms_proto.units import KIB, MIB, SECOND, format_count
from dms_proto.wire.scores import HALF_LIFE_MS

NETWORK_VERSION: Final = "dms/1"
"""What peers compare when a frame stream opens: a peer with another network version is refused by name."""
FRAMES_PROTOCOL: Final = "/dms/frames/1"
BLOB_PROTOCOL: Final = "/dms/blob/1"
TUNNEL_PROTOCOL: Final = "/dms/tunnel/1"
MAX_FRAME: Final = 256 * KIB
"""Longest frame on a direct stream; longer ones are refused on both sides."""
MAX_GOSSIP: Final = 4 * KIB
"""Longest gossiped message; bid requests are at most half of it."""
PRIVATE_KEY_BYTES: Final = 32


class RateLimit(msgspec.Struct, frozen=True):
    """A token bucket per peer.

    Attributes:
        frames_per_s: steady rate of frames, per second.
        frames_burst: frames accepted at once after a quiet time.
        bytes_per_s: steady rate of frame bytes, per second.
        bytes_burst: bytes accepted at once after a quiet time; at least one longest frame.
    """

    frames_per_s: int = 5_000
    frames_burst: int = 10_000
    bytes_per_s: int = 32 * MIB
    bytes_burst: int = 32 * MIB


class NetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that the network process needs to know.

    Attributes:
        private_key: the node's Ed25519 key, 32 raw bytes (RFC 8032 seed). The PeerID follows from it.
        listen: multiaddrs to listen on, one at least; TCP only. Port 0 picks a free one, kept over restarts of the process.
        announce: multiaddrs told to others, without /p2p. Empty: the listen addresses, or for a wildcard the address of the default route.
        bootstrap: multiaddrs ending in /p2p/PEER, dialled at start and again, with back-off, whenever not connected.
        mdns: announce and find nodes on the local network by multicast DNS.
        mdns_interfaces: IPv4 addresses of the interfaces used for it. Empty: all.
        topics: gossip topics this node subscribes to and publishes on.
        envelopes_only: of gossip, only what may be an envelope (`dms_proto.wire`) is taken and handed on. Off, the bytes of gossip are anything.
        network_version: see `NETWORK_VERSION`; another value makes a separate network.
        agent: shown to peers, for people.
        keepalive_s: seconds between pings to each peer.
        keepalive_misses: pings without any answer after which the peer is "silent" and closed.
        write_stall_s: seconds without a byte accepted by a peer, with bytes waiting, after which its connection is closed.
        dial_timeout_s: seconds for one attempt at one address, handshake included.
        blob_stall_s: seconds without progress after which a blob transfer is given up.
        max_connections: inbound and outbound together. Inbound ones may take four fifths.
        max_peer_connections: connections with one peer; the oldest is closed to admit a newer one.
        max_source_connections: inbound connections from one source: an IPv4 address, or an IPv6 network of 64 bits.
        max_handshakes: inbound connections in their handshake at a time; a quarter of it from one source.
        handshake_timeout_s: seconds an inbound handshake may take.
        max_blobs_served: blob transfers served at a time; half of it to the peers of one source.
        max_blobs_fetched: blob transfers fetched at a time; more wait.
        max_tunnels_served: tunnels that peers have here at a time; a quarter of it one peer or one source, and as many openings to come.
        queue_bytes: bytes queued to one peer before `send` says no.
        pipe_window: bytes of frames on their way to the node and not yet dealt with; then reading from peers pauses. Each peer and each source
            has a share of it (`dms.net.windows`).
        frame_limit: inbound rate of frames per peer.
        blob_limit: inbound rate of requests for blobs per peer; their bytes are not counted.
        tunnel_limit: inbound rate of openings of tunnels per peer; their bytes are not counted.
        gossip_limit: inbound rate of gossiped messages per forwarder.
        work_bits: bits of proof of work that a stranger has to show that connects from a public address; 0 for none.
        work_bits_private: the same from an address that is not public, such as of the local network.
        known: peers that need not show any.
        half_life_s: seconds in which the points of offenders halve (`dms_proto.wire.scores`); so long is one muted.
    """

    private_key: bytes
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    mdns_interfaces: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    envelopes_only: bool = False
    network_version: str = NETWORK_VERSION
    agent: str = "dms"
    keepalive_s: float = 15.0
    keepalive_misses: int = 2
    write_stall_s: float = 30.0
    dial_timeout_s: float = 8.0
    blob_stall_s: float = 20.0
    max_connections: int = 500
    max_peer_connections: int = 4
    max_source_connections: int = 64
    max_handshakes: int = 128
    handshake_timeout_s: float = 5.0
    max_blobs_served: int = 16
    max_blobs_fetched: int = 8
    max_tunnels_served: int = 256
    queue_bytes: int = 2 * MIB
    pipe_window: int = 2 * MIB  # frames of any length, so many as fit, are fewer than a mailbox holds
    frame_limit: RateLimit = RateLimit()
    blob_limit: RateLimit = RateLimit(frames_per_s=1_000, frames_burst=4_000)
    tunnel_limit: RateLimit = RateLimit(frames_per_s=100, frames_burst=1_000)
    gossip_limit: RateLimit = RateLimit(frames_per_s=50, frames_burst=500, bytes_per_s=256 * KIB, bytes_burst=2 * MIB)
    work_bits: int = 0
    work_bits_private: int = 0
    known: tuple[str, ...] = ()
    half_life_s: float = HALF_LIFE_MS / SECOND

    def __post_init__(self) -> None:
        """Refuses values that could only fail later.

        Raises:
            UserError: `bad_config`, naming the field.
        """
        if len(self.private_key) != PRIVATE_KEY_BYTES:
            raise UserError(
                "bad_config", f"private_key has {format_count(len(self.private_key), 'byte')}, not {PRIVATE_KEY_BYTES}"
            )
        if not self.listen:
            raise UserError("bad_config", "listen is empty; a node listens on one address at least")
        for address in self.listen:
            if not _read("listen", address).family.startswith("ip"):
                raise UserError("bad_config", f"listen has {address!r}; it must begin with /ip4 or /ip6")
        for address in self.announce:
            _read("announce", address)
        for address in self.bootstrap:
            if not _read("bootstrap", address).peer:
                raise UserError("bad_config", f"bootstrap address {address!r} does not end in /p2p/PEER")
        if self.queue_bytes < 2 * MAX_FRAME or self.pipe_window < 2 * MAX_FRAME:
            raise UserError("bad_config", f"queue_bytes and pipe_window must hold two frames of {MAX_FRAME} bytes")

    def __repr__(self) -> str:
        """Everything but the key: a configuration gets logged."""
        return f"NetConfig(listen={self.listen!r}, bootstrap={self.bootstrap!r}, topics={self.topics!r}, …)"


def _read(field: str, address: str) -> Target:
    try:
        return parse(address)
    except ValueError as error:
        raise UserError("bad_config", f"{field}: {error}") from error
