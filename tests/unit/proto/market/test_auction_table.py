"""Every phase of the requester's machine, as really reached, meets every stimulus: late, repeated, from nobody we know."""

from itertools import product

import pytest

from dms_proto.capability import Price, Resources
from dms_proto.ids import AllocationId, BidId, PeerId, bid_id, digest_of
from dms_proto.machine import Stimulus, TimeCame
from dms_proto.market import auction
from dms_proto.market.auction_state import AuctionPhase
from dms_proto.market.auction_stimuli import (
    AllocationCancelAsked,
    Announced,
    BidHeard,
    CancelAsked,
    Collected,
    CommitAcked,
    CommitTurnedAway,
    Compared,
    DeclineHeard,
    InvocationAnswered,
    PeerLost,
    PeerThere,
    ResizeAnswered,
    ResizeAsked,
    Restarted,
    SealHeard,
    StatusHeard,
    Submitted,
    TurnPending,
)
from dms_proto.market.candidates import BidderFacts
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    CommitAck,
    CommitRefusal,
    CommitRefused,
    Decline,
    InvocationAck,
    Phase,
    Pricing,
    Resized,
    SealedBid,
)
from dms_proto.sim.requester import BUSY, OFFER, REQUEST, Requester, terms
from dms_proto.verification.comparing import Grouping
from dms_proto.work import Ending, EndReason

STRANGER = PeerId("stranger")
OTHER_BID = bid_id(REQUEST, STRANGER, 9)
OTHER_ALLOCATION = AllocationId("a-of-nobody")
SEALED = SealedBid(REQUEST, 0, 0, OTHER_BID, digest_of(b"seal"), 0, 0, 0)

STIMULI: tuple[Stimulus, ...] = (
    Submitted(terms()),
    Announced(-1, (), False, 0),
    BidHeard(STRANGER, Bid(REQUEST, 0, 0, OTHER_BID, OFFER, 1, Price(), 0, 0, 0), BidderFacts()),
    DeclineHeard(STRANGER, Decline(REQUEST, 0, BUSY)),
    CommitAcked(STRANGER, CommitAck(REQUEST, OTHER_BID, (OTHER_ALLOCATION,))),
    CommitTurnedAway(STRANGER, CommitRefused(REQUEST, OTHER_BID, CommitRefusal.EXPIRED)),
    Compared(0, (0, 1), Grouping(((0, 1),)), "near 1"),
    InvocationAnswered(STRANGER, InvocationAck(REQUEST, OTHER_ALLOCATION, "no")),
    StatusHeard(STRANGER, AllocationStatus(REQUEST, OTHER_ALLOCATION, 0, Phase.RUNNING)),
    StatusHeard(
        STRANGER,
        AllocationStatus(REQUEST, OTHER_ALLOCATION, 4, Phase.ENDED, ending=Ending(EndReason.COMPLETED)),
        complete=True,
    ),
    SealHeard(STRANGER, SEALED, BidderFacts()),
    Collected(OTHER_ALLOCATION),
    TurnPending(0, 1),
    PeerLost(STRANGER),
    PeerThere(STRANGER),
    Restarted(),
    CancelAsked(),
    AllocationCancelAsked(OTHER_ALLOCATION),
    ResizeAsked(OTHER_ALLOCATION, Resources()),
    ResizeAnswered(STRANGER, Resized(REQUEST, OTHER_ALLOCATION, 1, digest_of(b"terms"))),
    TimeCame(),
)


def new() -> Requester:
    return Requester()


def called() -> Requester:
    return Requester().submit()


def window() -> Requester:
    return Requester().submit("a", "b")


def opening() -> Requester:
    requester = Requester(bids_wanted=1, pricing=Pricing.SECOND_PRICE).submit("a")
    requester.seals("a")
    return requester


def committing() -> Requester:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")
    return requester


def held() -> Requester:
    requester = Requester(bids_wanted=1)
    requester.hold("a")
    return requester


def collecting() -> Requester:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id, complete=False)
    return requester


def waiting() -> Requester:
    requester = window()
    requester.declines("a")
    requester.declines("b")
    return requester


def cancelling() -> Requester:
    requester = held()
    requester.tell(CancelAsked())
    return requester


def ended() -> Requester:
    requester = held()
    requester.ends("a", requester.state.slots[0].allocation_id)
    return requester


REACHED = (new, called, window, opening, committing, held, collecting, waiting, cancelling, ended)


def test_the_stimuli_here_are_all_there_are() -> None:
    assert {type(stimulus) for stimulus in STIMULI} == {kind for _, kind in auction.TABLE}


def test_every_phase_is_reached() -> None:
    assert {reached().state.phase for reached in REACHED} == set(AuctionPhase)


@pytest.mark.parametrize(
    ("reached", "stimulus"),
    list(product(REACHED, STIMULI)),
    ids=lambda part: getattr(part, "__name__", type(part).__name__),
)
def test_every_stimulus_is_met_in_every_phase_and_twice_changes_nothing_more(
    reached: object, stimulus: Stimulus
) -> None:
    requester = reached()  # type: ignore[operator]
    if isinstance(stimulus, Submitted):
        stimulus = Submitted(requester.terms)

    requester.tell(stimulus)
    once = requester.state
    requester.tell(stimulus)

    assert requester.state == once
    assert requester.restart() == once


@pytest.mark.parametrize("stimulus", STIMULI, ids=lambda stimulus: type(stimulus).__name__)
def test_after_the_end_nothing_is_written_down(stimulus: Stimulus) -> None:
    requester = ended()

    requester.tell(stimulus)

    assert requester.events == ()
    assert BidId("") not in requester.state.bids
