"""The owner comes first, between whole nodes: the requester is told, nothing is billed for it, and an eviction costs nobody but time."""

from __future__ import annotations

from pathlib import Path

from dms.node.app import NodeApp
from dms.testing.market import Market, auction_of, submit, until, until_over
from dms_actors.letters import Told
from dms_proto.ids import RequestId
from dms_proto.market.auction_state import Auction, SlotPhase
from dms_proto.market.offer_state import OwnerSeen
from dms_proto.messages import Phase
from dms_proto.units import MINUTE
from dms_proto.work import EndReason
from tests.component.node.test_market import attempts, first_is_cheapest

BUSY = "other programs use 1.5 cores"


def owner(node: NodeApp, because: str = "", evict_after_ms: int = 10 * MINUTE) -> None:
    """What the node's owner watch would say."""
    node.services.node.tell(Told(OwnerSeen(because, evict_after_ms, 1_000), "test"))


async def until_runs(node: NodeApp, request: RequestId, times: int = 0) -> Auction:
    def runs(auction: Auction | None) -> bool:
        if auction is None:
            return False
        slot = auction.slots[0]
        return (slot.phase, slot.allocation, slot.freezes.evictions) == (SlotPhase.HELD, Phase.RUNNING, times)

    found: Auction = await until(lambda: auction_of(node.services, request), runs)
    return found


async def test_its_requester_hears_that_it_stands_still_and_that_it_goes_on(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=first_is_cheapest) as market:
        asks, provides = market.nodes
        terms = market.terms("sleep_ms", "300", "print", "done")
        await submit(asks.services, terms)
        await until_runs(asks, terms.request_id)
        owner(provides, BUSY)
        heard = await until(
            lambda: auction_of(asks.services, terms.request_id), lambda a: a is not None and a.slots[0].freezes.why
        )
        assert heard.slots[0].freezes.why == BUSY
        assert 0 < heard.slots[0].freezes.evict_after_ms <= 10 * MINUTE
        declined = market.terms("print", "other", queue_ms=100)
        await submit(asks.services, declined)
        over = await until_over(asks.services, declined.request_id)
        assert over.ending is not None
        assert over.ending.reason is EndReason.NO_BIDS
        assert f"its owner comes first: {BUSY}" in str(over.declines)
        owner(provides)
        ended = await until_over(asks.services, terms.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED
        assert ended.slots[0].freezes.times == 0  # of the next attempt, which there is none
        await market.drained()


async def test_what_is_evicted_completes_elsewhere_and_nobody_is_blamed_or_paid_for_it(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=first_is_cheapest) as market:
        asks, first, _ = market.nodes
        terms = market.terms("sleep_ms", "400", "print", "done")
        await submit(asks.services, terms)
        await until_runs(asks, terms.request_id)
        owner(first, BUSY, evict_after_ms=1)
        await until_runs(asks, terms.request_id, times=1)
        ended = await until_over(asks.services, terms.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED
        assert ended.slots[0].faults == 0
        tries = await attempts(asks, terms)
        assert [each.ending.reason for each in tries] == [EndReason.EVICTED, EndReason.COMPLETED]
        assert tries[0].ending.detail == f"it gave way: {BUSY}"
        assert tries[0].price == 0
        assert tries[0].provider != tries[1].provider
        await market.drained()


async def test_a_restarted_provider_lets_go_on_what_its_owner_does_not_hold_up_any_more(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=first_is_cheapest) as market:
        asks, provides = market.nodes
        terms = market.terms("sleep_ms", "300", "print", "done")
        await submit(asks.services, terms)
        await until_runs(asks, terms.request_id)
        owner(provides, BUSY)
        await until(
            lambda: auction_of(asks.services, terms.request_id), lambda a: a is not None and a.slots[0].freezes.why
        )
        await market.crash(1)
        provides = await market.rejoin(1)
        assert (await provides.state()).book.owner is not None
        owner(provides)  # as a node says when it starts
        ended = await until_over(asks.services, terms.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED
