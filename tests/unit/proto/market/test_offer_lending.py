"""Offline beside online at a provider: who is lent CPU, who stands still and when, and that a bid still binds."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.allocation.freezing import FreezeWished, Prior, ThawWished
from dms_proto.capability import JobClass
from dms_proto.ids import AllocationId, BidId
from dms_proto.market import offer_book
from dms_proto.market.offer_lending import lent_millicores, uncommitted_millicores
from dms_proto.market.offer_state import (
    AllocationOver,
    HoldWished,
    LentFrozen,
    LentThawed,
    OfferBook,
    PolicyWished,
    ReservationWidened,
    ResizeHeard,
    TellAllocation,
)
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.sizes import most_owed
from dms_proto.messages import Bid, Resize
from dms_proto.sim.provider import MACHINE, TARIFF, Provider, request
from dms_proto.units import CORE, SECOND

ONLINE, OFFLINE = JobClass.INTERACTIVE, JobClass.BATCH
POLICY = ProviderPolicy(tariff=TARIFF, offline_gives_way=True, evict_offline_after_ms=30 * SECOND)


@pytest.fixture
def provider() -> Provider:
    """A machine of four cores whose owner lets offline work give way."""
    return Provider(policy=POLICY)


def runs(provider: Provider, name: str, kind: JobClass | None, cores: int) -> AllocationId:
    """A request is bid on and committed; gives its allocation."""
    bid = provider.bids(request(name, kind=kind, cores=cores))
    (opened,) = provider.commits(bid)
    return opened.reservation.allocation_id


def told(provider: Provider) -> list[tuple[AllocationId, type]]:
    """What allocations were told by the last step."""
    return [(effect.allocation_id, type(effect.wish)) for effect in provider.wanted(TellAllocation)]


def test_offline_work_fills_a_machine_and_online_work_gets_it_all_the_same(provider: Provider) -> None:
    offline = runs(provider, "offline", OFFLINE, 4)
    assert provider.state.ledger.available.cpu_millicores == 4 * CORE

    bid = provider.bids(request("online", kind=ONLINE, cores=4))
    assert not told(provider), "a bid is no reason to stand still: nobody may take it"
    (opened,) = provider.commits(bid)

    assert opened.reservation.resources.cpu_millicores == 4 * CORE
    assert provider.noted(LentFrozen) == [LentFrozen((offline,))]
    (effect,) = provider.wanted(TellAllocation)
    assert effect == TellAllocation(
        offline, FreezeWished(Prior.ONLINE, "somebody waits for other work here", 30 * SECOND, 2 * SECOND)
    )
    provider.check()


def test_it_goes_on_when_the_online_work_is_over(provider: Provider) -> None:
    offline = runs(provider, "offline", OFFLINE, 4)
    online = runs(provider, "online", ONLINE, 1)
    assert provider.state.frozen == {offline}

    provider.tell(AllocationOver(online))

    assert told(provider) == [(offline, ThawWished)]
    assert not provider.state.frozen


def test_only_as_many_stand_still_as_have_to_and_the_last_ones_first(provider: Provider) -> None:
    first, second, third = (runs(provider, f"offline {number}", OFFLINE, 1) for number in range(3))

    runs(provider, "online", ONLINE, 2)
    assert provider.state.frozen == {third}
    more = runs(provider, "more", ONLINE, 1)
    assert provider.state.frozen == {second, third}

    provider.tell(AllocationOver(more))
    assert provider.noted(LentThawed) == [LentThawed((second,))]
    assert first not in provider.state.frozen


def test_offline_work_is_offered_no_more_than_nobody_has(provider: Provider) -> None:
    runs(provider, "offline", OFFLINE, 3)

    assert provider.declines(request("too much", kind=OFFLINE, cores=2)).clauses[0].dimension == "cpu"
    assert provider.bids(request("fits", kind=OFFLINE, cores=1)).offer.resources.cpu_millicores == CORE


def test_memory_is_not_lent(provider: Provider) -> None:
    runs(provider, "offline", OFFLINE, 1)

    available = provider.state.ledger.available
    assert (available.cpu_millicores, available.memory_bytes) == (
        MACHINE.resources.cpu_millicores,
        MACHINE.resources.memory_bytes - request().needs.resources.memory_bytes,
    )


@pytest.mark.parametrize("kind", [None, JobClass.INTERACTIVE, JobClass.SERVICE])
def test_what_does_not_say_that_it_can_wait_never_stands_still(provider: Provider, kind: JobClass | None) -> None:
    runs(provider, "held", kind, 3)

    assert provider.declines(request("online", kind=ONLINE, cores=2)).clauses[0].passing
    assert not provider.state.frozen


def test_without_the_owners_wish_nothing_gives_way() -> None:
    provider = Provider()
    runs(provider, "offline", OFFLINE, 4)

    provider.declines(request("online", kind=ONLINE, cores=1))


def test_what_is_lent_already_gives_way_though_the_owner_wishes_it_no_more(provider: Provider) -> None:
    offline = runs(provider, "offline", OFFLINE, 4)
    provider.tell(PolicyWished(msgspec.structs.replace(POLICY, offline_gives_way=False)))

    runs(provider, "online", ONLINE, 1)

    assert provider.state.frozen == {offline}


def test_what_the_owner_holds_back_is_not_lent(provider: Provider) -> None:
    offline = runs(provider, "offline", OFFLINE, 4)

    provider.tell(HoldWished(BidId("owner"), msgspec.structs.replace(MACHINE.resources, memory_bytes=0)))

    assert told(provider) == [(offline, FreezeWished)]


def test_after_a_restart_each_is_told_again_where_it_stands(provider: Provider) -> None:
    first, second = runs(provider, "first", OFFLINE, 2), runs(provider, "second", OFFLINE, 2)
    runs(provider, "online", ONLINE, 1)

    effects = offer_book.resume(provider.state)

    wishes = [(e.allocation_id, e.wish) for e in effects if isinstance(e, TellAllocation)]
    about_online = [
        (allocation, type(wish))
        for allocation, wish in wishes
        if isinstance(wish, FreezeWished | ThawWished) and wish.to is Prior.ONLINE
    ]
    assert about_online == [(first, ThawWished), (second, FreezeWished)]


def test_one_that_is_evicted_is_forgotten(provider: Provider) -> None:
    offline = runs(provider, "offline", OFFLINE, 4)
    runs(provider, "online", ONLINE, 4)

    provider.tell(AllocationOver(offline))

    assert not provider.state.frozen
    provider.check()


STEPS = st.lists(st.tuples(st.sampled_from(["bid", "commit", "over"]), st.booleans(), st.integers(1, 4)), max_size=40)


@given(STEPS)
def test_whatever_comes_every_bid_binds_and_what_runs_has_room(steps: list[tuple[str, bool, int]]) -> None:
    provider, bids, allocations = Provider(policy=POLICY), [], []
    for number, (step, offline, cores) in enumerate(steps):
        if step == "bid":
            answer = provider.hears(request(str(number), kind=OFFLINE if offline else ONLINE, cores=cores))
            bids += [answer] if isinstance(answer, Bid) else []
        elif step == "commit" and bids:
            (opened,) = provider.commits(bids.pop(cores % len(bids)))
            allocations.append(opened.reservation.allocation_id)
        elif step == "over" and allocations:
            provider.tell(AllocationOver(allocations.pop(cores % len(allocations))))
        provider.check()
        assert running(provider.state) <= uncommitted_millicores(provider.state.ledger)


def running(book: OfferBook) -> int:
    return lent_millicores(each for each in book.ledger.reservations.values() if each.allocation_id not in book.frozen)


def test_what_cpu_is_lent_to_grows_by_what_is_lent_to_nobody_and_what_grows_takes_it_back(provider: Provider) -> None:
    offline, online = runs(provider, "offline", JobClass.BATCH, 2), runs(provider, "online", JobClass.SERVICE, 1)

    def grows(allocation: AllocationId, cores: int) -> bool:
        of = provider.state.ledger.reservations[allocation]
        resources = msgspec.structs.replace(of.resources, cpu_millicores=cores * CORE)
        price = most_owed(of.price, of.tariff, resources, of.wall_ms)
        wanted = Resize(of.request_id, allocation, of.change + 1, resources, price)
        provider.tell(ResizeHeard(of.requester, wanted))
        provider.check()
        return bool(provider.noted(ReservationWidened))

    assert not grows(offline, 4)
    assert grows(offline, 3)
    assert grows(online, 2)
    assert provider.state.frozen == {offline}
