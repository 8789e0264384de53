"""peers.*: the nodes this one knows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from dms.rpc.api.benchmarks import BenchmarkView
from dms.rpc.registry import method
from dms_proto.capability import Capability
from dms_proto.ids import PeerId
from dms_proto.reputation import Kind
from dms_proto.reputation.silence import SetAside


class PeerState(StrEnum):
    """How a peer stands to this node."""

    CONNECTED = "connected"
    KNOWN = "known"
    INCOMPATIBLE = "incompatible"
    BANNED = "banned"


class EvidenceView(msgspec.Struct, frozen=True):
    """One kind of evidence on a peer.

    Attributes:
        kind: what was seen: kept, late, fault, overclaimed, unopened, right, wrong, unfit, honest, overstated.
        count: how often.
        points: what that counts now, for it or (below 0) against it.
    """

    kind: Kind
    count: int
    points: float


class PeerView(msgspec.Struct, frozen=True):
    """A peer.

    Attributes:
        peer_id: its PeerID.
        name: chosen by its owner; nothing proves it.
        state: how it stands to this node.
        detail: why, when it is not simply connected.
        addresses: where it can be dialled.
        relayed: connected only through a relay.
        rtt_us: round trip in microseconds; 0: not measured.
        clock_skew_ms: its clock less ours, when it last said hello.
        software: name and version.
        accepts_work: whether it bids at all.
        last_seen: Unix ms.
        successes: allocations for us that it completed.
        failures: allocations for us that failed by its fault.
        standing: from 0 to 1, from this node's own evidence; the ranking's `reliability`.
        evidence: what the standing is made of; empty of a newcomer.
        benchmark: what the last spot check of it has found; None: there was none.
        source: the network that its connection comes from; identities of one source share what they earn.
        summary: what it offers when idle.
        uuid: proven by its keys; stays when its key, and so its PeerID, is replaced. Empty before its first hello.
        aside: that its bids are taken only where there is no other, since it was silent when it had won: until when (Unix ms), what it left
            unsaid, how often in a row, and whether all newcomers of a source share that; None: they are taken as they compare.
        unanswered: rounds of asking in a row that it has left unanswered, where those are so many that jobs do not wait for it any more; else 0.
    """

    peer_id: PeerId
    name: str
    state: PeerState
    detail: str = ""
    addresses: tuple[str, ...] = ()
    relayed: bool = False
    rtt_us: int = 0
    clock_skew_ms: int = 0
    software: str = ""
    accepts_work: bool = True
    last_seen: int = 0
    successes: int = 0
    failures: int = 0
    standing: float = 0.0
    evidence: tuple[EvidenceView, ...] = ()
    benchmark: BenchmarkView | None = None
    source: str = ""
    summary: Capability = Capability()
    uuid: str = ""
    aside: SetAside | None = None
    unanswered: int = 0


class PeerList(msgspec.Struct, frozen=True):
    """Peers.

    Attributes:
        peers: connected ones first, then by when they were last seen.
    """

    peers: tuple[PeerView, ...]


class JoinParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way into a market.

    Attributes:
        invite: the invitation that `dms invite` printed on another node.
    """

    invite: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class Joined(msgspec.Struct, frozen=True):
    """The inviting node answered.

    Attributes:
        peer: it.
        connected: peers connected now.
        grant_id: of the grant that came with the invitation and is kept; empty when there was none.
    """

    peer: PeerView
    connected: int
    grant_id: str = ""


class Moved(msgspec.Struct, frozen=True):
    """This node is in another market from its next start.

    Attributes:
        market: its name.
        before: that of the market it is in until then.
    """

    market: str
    before: str


class InviteParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invitation to be made.

    Attributes:
        until: when the grant in it ends, Unix ms; 0: never. Without meaning where no grant is needed.
        renew_until: this node makes it anew for a holder that uses it, until then at the latest (Unix ms); 0: it runs out.
    """

    until: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    renew_until: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class Invite(msgspec.Struct, frozen=True):
    """A way into this node's market.

    Attributes:
        invite: give it to `dms join` on another machine. It holds addresses, this node's PeerID and, where `grant_id` is not empty, a grant that
            whoever reads it can use: then it is a secret.
        addresses: that it names.
        warning: why others may not be able to use it; empty when nothing speaks against it.
        grant_id: of the grant in it; empty when this node asks for none.
    """

    invite: str
    addresses: tuple[str, ...]
    warning: str = ""
    grant_id: str = ""


class PeerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
    """

    peer: str


class PingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer to reach.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        count: probes.
    """

    peer: str
    count: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3


class PingResult(msgspec.Struct, frozen=True):
    """How far a peer is.

    Attributes:
        peer: its PeerID.
        name: its name.
        rtt_us: round trip of each answered probe, microseconds.
        lost: probes without an answer.
        relayed: whether they went through a relay.
        address: of the connection.
    """

    peer: PeerId
    name: str
    rtt_us: tuple[int, ...]
    lost: int
    relayed: bool
    address: str


class BanParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer to keep away.

    Attributes:
        peer: its PeerID, a unique beginning or end of it, or its name.
        seconds: how long; 0 lifts a ban.
    """

    peer: str
    seconds: Annotated[int, msgspec.Meta(ge=0, le=31_536_000)] = 3600


class PeerMethods(Protocol):
    """Other nodes."""

    @method("peers.list")
    async def peers_list(self) -> PeerList:
        """Every node this one knows."""
        ...

    @method("peers.show")
    async def peers_show(self, params: PeerParams) -> PeerView:
        """One node, and what its standing is made of."""
        ...

    @method("peers.join", mutates=True)
    async def peers_join(self, params: JoinParams) -> Joined:
        """Connects to the node that gave an invitation, and remembers it."""
        ...

    @method("peers.move", mutates=True)
    async def peers_move(self, params: JoinParams) -> Moved:
        """Puts this node into the market of an invitation from its next start, by a line in config.toml.

        Not if its owner has put it into another, and not while it has jobs or runs some: `other_market` says which.
        """
        ...

    @method("peers.invite", mutates=True)
    async def peers_invite(self, params: InviteParams) -> Invite:
        """A string by which another machine can join; with a grant, where this node asks for one."""
        ...

    @method("peers.ping", mutates=True)
    async def peers_ping(self, params: PingParams) -> PingResult:
        """Measures the way to a peer, connecting first if need be."""
        ...

    @method("peers.ban", mutates=True)
    async def peers_ban(self, params: BanParams) -> PeerView:
        """Keeps a peer away for a while, or lets it come back."""
        ...
