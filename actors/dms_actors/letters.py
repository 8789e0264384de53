"""What actors say to each other, apart from stimuli: all frozen, all safe to cross threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dms_actors.listeners import Hear
from dms_actors.proofs import NO_FRAME, Heard
from dms_proto.capability import Price
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.auction_events import BenchmarkChecked, ResultJudged
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import Candidate
from dms_proto.messages import AnyMessage, BidRequest, TabWanted
from dms_proto.reputation import Kind
from dms_proto.wire import Offence


class Told(NamedTuple):
    """A stimulus for the receiver's machine, what caused it, the signed frame it came in, if it came in one, and `by` whom it was sent."""

    stimulus: Stimulus
    cause_id: str = ""
    heard: Heard = NO_FRAME
    by: PeerId | None = None


class ShowServices(NamedTuple):
    """A question to the pool: answered with the services of the node."""


class ShowTabs(NamedTuple):
    """A question to the pool: answered with the tabs of others here, and those of this node elsewhere."""


class TabQuestion(NamedTuple):
    """To the pool: a peer wants to know what calls of a service cost. `refused`: why it may not call; else this is its tariff, and its credit.

    `known`: so many tabs of others were agreed when what is held of the credit was told last (`HeldOnTabs`).
    """

    caller: PeerId
    wanted: TabWanted
    tariff: Price
    credit: int
    known: int
    refused: str
    cause_id: str


class HeldOnTabs(NamedTuple):
    """To the node: so much of these peers' credit is held for their tabs here. `agreed`: how many tabs of all peers were, since the start."""

    amounts: Mapping[PeerId, int]
    agreed: int


class ShowState(NamedTuple):
    """A question: answered with the machine's frozen state (the node answers with its `NodeState`)."""


class ShowAhead(NamedTuple):
    """A question to the node: which of these requests wait for their turn, each with how many are before it."""

    request_ids: tuple[RequestId, ...]


class TurnsCame(NamedTuple):
    """To the node: it is the turn of these requests to seek."""

    request_ids: tuple[RequestId, ...]


class ShowUsed(NamedTuple):
    """A question to the node: what strangers have used of the log budget."""


class Admit(NamedTuple):
    """A command is let in to run beside an allocation: answered once that is written down."""

    by: PeerId
    words: tuple[str, ...]


class Delivered(NamedTuple):
    """A message this node sent to itself: no signature, no wire, the same way otherwise."""

    message: AnyMessage
    cause_id: str


class Submit(NamedTuple):
    """To the node, which starts an orchestrator and passes it on: the owner wants this done.

    Answered with the request's id once it is written down. After an error the node has to be told `RequestOver`.
    """

    terms: Terms
    cause_id: str


class FindActor(NamedTuple):
    """A question: the address of the actor of a request or allocation, or None."""

    id: str


class ListenFor(NamedTuple):
    """To the node: from now on `hear` is among those who hear what comes for a key. For questions that no orchestrator asks.

    Keys: a request's id, for bids and declines; `probe:N`, for answers to the probe with this nonce; `log:ID`, for bytes of an allocation's log;
    `about:ID`, for refusals of the envelope with this id.
    """

    key: str
    hear: Hear


class StopListening(NamedTuple):
    """To the node: what `ListenFor` began is over."""

    key: str
    hear: Hear


class AnnounceWanted(NamedTuple):
    """An orchestrator wants its request announced; to nobody but `only`, if that is given."""

    request: BidRequest
    cause_id: str
    only: PeerId | None = None


class WantGrant(NamedTuple):
    """To the node: a grant that it uses is near its end; who issued it is asked for a renewal."""

    issuer: PeerId
    grant: bytes


class AttemptNoted(NamedTuple):
    """What was seen of a provider, and when (Unix ms): goes into what is known of it. `source`: see `reputation.sources`."""

    provider: PeerId
    source: str
    kind: Kind
    at: int


class PieceJudged(NamedTuple):
    """A request of this node has a verdict on a piece of work: what others agree on is known work from now on, and a canary may be due beside it."""

    terms: Terms
    judged: ResultJudged


class SlotAwarded(NamedTuple):
    """A request of this node has taken a provider's bid: a spot check of what it claims may be due beside it."""

    terms: Terms
    taken: Candidate


class CheckReady(NamedTuple):
    """The answer of a spot check is known: it can go out."""

    terms: Terms


class CheckUnderWay(NamedTuple):
    """After a restart: a spot check of a provider that was sent at `at` (Unix ms) is not over; no other is to be sent meanwhile."""

    provider: PeerId
    at: int


class BenchmarkNoted(NamedTuple):
    """A spot check is over: what it found is known of the provider from now on."""

    finding: BenchmarkChecked


class TellAgain(NamedTuple):
    """From a node actor that was built anew: what was told it just before may be lost; what still matters is to be told again."""


class RequestAbandoned(NamedTuple):
    """An orchestrator failed too often and was given up."""

    request_id: RequestId


class AllocationAbandoned(NamedTuple):
    """An allocation's actor failed too often and was given up."""

    allocation_id: AllocationId


class RequestOver(NamedTuple):
    """An orchestrator has nothing more to do."""

    request_id: RequestId


class Blamed(NamedTuple):
    """A peer did what it should not."""

    peer: PeerId
    offence: Offence


class AllocationClosed(NamedTuple):
    """An allocation has nothing more to do."""

    allocation_id: AllocationId
