"""A job that names its node: asked there alone, run there alone, or ended with that node's own reason."""

import pytest

from dms_proto.ids import PeerId
from dms_proto.market.auction_events import RequestWaiting
from dms_proto.market.auction_stimuli import PeerLost, PeerThere
from dms_proto.market.named_node import faults, only_there
from dms_proto.market.preferences import Preferences
from dms_proto.messages import BidRequest, Clause, Commit, Pricing
from dms_proto.sim.requester import BUSY, DEAR, NEVER, Requester
from dms_proto.units import SECOND
from dms_proto.verification.policy import Policy, Verification
from dms_proto.work import EndReason


def to_a(**changed: object) -> Requester:
    rules = Preferences(constraints=(only_there(PeerId("a")),))
    return Requester(only=PeerId("a"), bids_wanted=1, preferences=rules, **changed).submit("a")


def said(requester: Requester) -> str:
    assert requester.state.ending is not None
    return requester.state.ending.detail


def until_over(requester: Requester) -> None:
    """Until it gives up, within half a minute; the node is not there."""
    for _ in range(30):
        requester.wait(SECOND)
        for _ in requester.called():
            requester.asks("a")
    assert requester.reason is not None


def test_its_bid_is_taken_at_once() -> None:
    requester = to_a()
    requester.bid("a")
    assert requester.sent_to(Commit) == ["a"]


def test_a_bid_of_another_node_is_never_taken() -> None:
    requester = to_a(queue_ms=0)
    requester.bid("b", price=1)
    until_over(requester)
    assert not requester.sent_ever(Commit)
    assert requester.reason is EndReason.NO_BIDS
    assert said(requester) == "the node a was asked and has not answered"


def test_another_node_that_joins_is_not_asked() -> None:
    requester = to_a()
    requester.declines("a", BUSY)
    requester.tell(PeerThere(PeerId("b")))
    assert not requester.sent(BidRequest)


@pytest.mark.parametrize(
    ("clauses", "reason", "words"),
    [
        (NEVER, EndReason.IMPOSSIBLE, "the node a declined: gpu_count: wanted 1 GPU, observed 0 GPUs; nearest: gpus 0"),
        (
            DEAR,
            EndReason.PRICE_TOO_LOW,
            "the node a declined: price: wanted 0.01 credits, observed 0.02 credits; nearest: max price 0.02",
        ),
        (
            (Clause("label:room", "b", "nothing", ""),),
            EndReason.IMPOSSIBLE,
            "the node a declined: label:room: wanted b, observed nothing",
        ),
    ],
)
def test_it_ends_at_once_with_the_reason_of_the_node(
    clauses: tuple[Clause, ...], reason: EndReason, words: str
) -> None:
    requester = to_a()
    requester.declines("a", clauses)
    assert (requester.reason, said(requester)) == (reason, words)


def test_while_the_node_is_busy_it_waits_and_says_for_what() -> None:
    requester = to_a(queue_ms=60 * SECOND)
    requester.declines("a", BUSY)
    (waiting,) = requester.noted(RequestWaiting)
    assert waiting.why == "the node a is busy: cpu: wanted 1 core, observed 0 cores free of 4"
    requester.bid("a")
    assert requester.sent(Commit)


def test_a_node_that_went_away_is_not_called_busy() -> None:
    requester = to_a(queue_ms=600 * SECOND)
    requester.tell(PeerLost(PeerId("a")))
    until_over(requester)
    assert said(requester) == "the node a cannot be reached: the connection was lost"


def test_what_takes_several_nodes_does_not_go_with_one() -> None:
    assert [field for field, _ in faults(Pricing.FIRST_PRICE, Verification(Policy.REPLICATE))] == ["node"]
    assert [field for field, _ in faults(Pricing.SECOND_PRICE, Verification())] == ["node"]
    assert not list(faults(Pricing.FIRST_PRICE, Verification()))
