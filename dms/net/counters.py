"""What the network process counts: one flat table of integers by dotted name, listed here so that documentation and tests can compare."""

from __future__ import annotations

from collections import Counter
from typing import Final

NAMES: Final[dict[str, str]] = {
    "refused.rate": "Frames, pings and other items of a peer above its rate limit, dropped.",
    "refused.source_rate": "Items of peers above the rate limit of all from where they are, dropped.",
    "refused.oversized": "Frames announced longer than the longest accepted; the stream was reset.",
    "refused.malformed": "Frames that are not of the frame protocol; the stream was reset.",
    "refused.version": "Peers that speak another network version.",
    "refused.work": "Peers that did not show the proof of work they were asked for.",
    "refused.banned": "Connections of banned peers, closed.",
    "refused.gossip_rate": "Gossip of a forwarder above its rate limit, dropped.",
    "refused.gossip_invalid": "Gossiped messages that are no envelope for their topic and time, dropped and not forwarded.",
    "refused.gossip_oversized": "Gossiped messages longer than the longest accepted, dropped and not forwarded.",
    "refused.gossip_malformed": "Gossip streams that are not of the gossip protocol; the stream was reset.",
    "refused.connections": "Inbound connections beyond the limit, closed.",
    "refused.source": "Inbound connections beyond what one source may have, closed.",
    "refused.handshakes": "Inbound connections closed because too many were in their handshake.",
    "refused.handshake": "Inbound connections whose handshake failed: not our protocols, or not authentic.",
    "refused.window": "Connections closed because the peer sent more than the window it was given.",
    "refused.stalled": "Connections closed because the peer took nothing for too long.",
    "refused.muxer": "Connections closed because the peer broke the multiplexer's protocol.",
    "waited.doorstep": "Inbound connections that waited because peers of their source are muted.",
    "guard.crashes": "Exceptions that would have ended the stock library's process, contained.",
    "bans": "Peers banned, by the node or for abuse.",
    "dropped.no_peer": "Frames discarded because the peer had gone.",
    "dropped.gossip_busy": "Gossiped messages discarded because the node did not take them fast enough.",
    "bytes.in": "Frame bytes received from peers.",
    "bytes.out": "Frame bytes sent to peers.",
    "frames.in": "Frames received from peers.",
    "frames.out": "Frames sent to peers.",
    "gossip.in": "Gossiped messages received.",
    "gossip.out": "Messages published.",
    "blobs.served": "Blob transfers served to the end.",
    "blobs.refused": "Blob requests refused.",
    "blobs.fetched": "Blob transfers fetched to the end.",
    "tunnels.opened": "Tunnels that peers let us open.",
    "tunnels.served": "Tunnels that peers were let open.",
    "tunnels.refused": "Tunnels of peers refused.",
    "connections": "Connections open now.",
    "peers": "Peers up now.",
}
"""Name and meaning of every counter."""


class Counters(Counter[str]):
    """Counts by the names in `NAMES`."""

    def add(self, name: str, amount: int = 1) -> None:
        """Counts `amount` more.

        Raises:
            KeyError: the name is not listed: a defect of the caller.
        """
        if name not in NAMES:
            raise KeyError(name)
        self[name] += amount
