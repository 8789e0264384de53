"""The owner comes first: what the offer book tells its allocations, and what it bids on meanwhile."""

from dms_proto.allocation.freezing import FreezeWished, Prior, ThawWished
from dms_proto.market.offer_book import resume
from dms_proto.market.offer_state import OpenAllocation, OwnerCame, OwnerLeft, OwnerSeen, TellAllocation
from dms_proto.messages import Bid
from dms_proto.sim.provider import Provider, request
from dms_proto.units import MINUTE

BACK = OwnerSeen("other programs use 1.5 cores", 10 * MINUTE, 5_000)
WISH = FreezeWished(Prior.OWNER, BACK.because, 10 * MINUTE, 5_000)


def running() -> Provider:
    provider = Provider()
    provider.commits(provider.bids(request("r")))
    return provider


def test_all_that_runs_gives_way_and_goes_on() -> None:
    provider = running()
    (allocation,) = provider.state.ledger.reservations
    provider.tell(BACK)
    assert provider.events == (OwnerCame(BACK.because, 10 * MINUTE, 5_000, provider.now),)
    assert provider.effects == (TellAllocation(allocation, WISH),)
    provider.tell(OwnerSeen())
    assert provider.events == (OwnerLeft(provider.now),)
    assert provider.effects == (TellAllocation(allocation, ThawWished(Prior.OWNER)),)


def test_a_repeat_and_another_reason_change_nothing() -> None:
    provider = running()
    provider.tell(OwnerSeen())
    assert (provider.events, provider.effects) == ((), ())
    provider.tell(BACK)
    provider.tell(OwnerSeen("the machine runs on its battery", 1, 1))
    assert (provider.events, provider.effects) == ((), ())


def test_nothing_is_bid_on_and_the_reason_is_told() -> None:
    provider = Provider()
    provider.tell(BACK)
    (clause,) = provider.declines(request("r")).clauses
    assert clause.observed == "its owner comes first: other programs use 1.5 cores"
    assert clause.passing


def test_what_stood_meanwhile_is_bid_on_when_the_owner_leaves() -> None:
    provider = Provider()
    provider.tell(BACK)
    provider.declines(request("r", stands_ms=MINUTE))
    provider.tell(OwnerSeen())
    assert len(provider.sent(Bid)) == 1


def test_a_bid_that_was_made_before_binds_and_what_it_opens_gives_way_at_once() -> None:
    provider = Provider()
    bid = provider.bids(request("r"))
    provider.tell(BACK)
    provider.commits(bid)
    (allocation,) = provider.state.ledger.reservations
    kinds = [type(effect) for effect in provider.effects]
    assert TellAllocation(allocation, WISH) in provider.effects
    assert kinds.index(OpenAllocation) < kinds.index(TellAllocation)


def test_after_a_restart_it_is_told_again() -> None:
    provider = running()
    (allocation,) = provider.state.ledger.reservations
    assert resume(provider.restart()) == (TellAllocation(allocation, ThawWished(Prior.OWNER)),)
    provider.tell(BACK)
    assert resume(provider.restart()) == (TellAllocation(allocation, WISH),)
