"""Whole nodes on an in-memory network: a request finds a node, runs there, and comes back; whatever is in its way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Provider
from dms.node.app import NodeApp
from dms.testing.market import CAPABILITY, CONFIG, TARIFF, Market, auction_of, peer_of, submit, until, until_over
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_proto.allocation.events import AllocationEnded
from dms_proto.capability import Resources
from dms_proto.ids import PeerId, digest_of
from dms_proto.market.auction_events import AttemptEnded, RequestAnnounced
from dms_proto.market.auction_state import Auction, SearchPhase, SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.rules import MAX_LINE
from dms_proto.units import GIB, MIB
from dms_proto.work import EndReason, Input

CORE = 1000


def only_asks(index: int) -> dict[str, Any]:
    """Options: the first node takes no work."""
    return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))} if index == 0 else {}


def first_is_cheapest(index: int) -> dict[str, Any]:
    """Options: the first node takes no work, the second is cheaper than all others."""
    if index == 0:
        return only_asks(0)
    return {"policy": ProviderPolicy(tariff=msgspec.structs.replace(TARIFF, start=index * 1_000))}


def cores(count: int) -> dict[str, Any]:
    """Options: a machine of this many cores."""
    resources = Resources(cpu_millicores=count * CORE, memory_bytes=8 * GIB, disk_bytes=50 * GIB)
    return {"capability": msgspec.structs.replace(CAPABILITY, resources=resources)}


async def attempts(node: NodeApp, terms: Terms) -> list[AttemptEnded]:
    """How each try of a request went, from its log."""
    rows = await node.services.store.query(stream=terms.request_id, kinds=("AttemptEnded",))
    found = [from_row(row) for row in rows]
    return [event for event in found if isinstance(event, AttemptEnded)]


async def until_slot(node: NodeApp, terms: Terms, phase: SlotPhase, allocation: Phase | None = None) -> Auction:
    """Waits until the first slot is in a phase."""

    def reached(state: Auction | None) -> bool:
        return state is not None and state.slots[0].phase is phase and allocation in (None, state.slots[0].allocation)

    auction: Auction = await until(lambda: auction_of(node.services, terms.request_id), reached)
    return auction


async def running_at(market: Market, terms: Terms) -> PeerId:
    """Waits until the first slot runs; gives where."""
    return (await until_slot(market.nodes[0], terms, SlotPhase.HELD, Phase.RUNNING)).slots[0].provider


def reason_of(auction: Auction) -> EndReason:
    assert auction.ending is not None
    return auction.ending.reason


async def test_a_request_is_bid_on_committed_run_and_ended(tmp_path: Path) -> None:
    async with Market(tmp_path, 3) as market:
        requester = market.nodes[0].services
        terms = market.terms("print", "hello", "exit", "0")
        await submit(requester, terms)
        ended = await until_over(requester, terms.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED, ended.ending
        allocation = ended.slots[0].allocation_id
        assert requester.collector.logs.read(allocation, "stdout", 0, 100) == b"hello"
        await market.drained()


async def test_a_job_of_many_runs_on_several_nodes_and_several_at_once_on_one(tmp_path: Path) -> None:
    async with Market(tmp_path, 4, build=only_asks) as market:
        requester = market.nodes[0].services
        terms = market.terms("sleep_ms", "20", count=12)
        await submit(requester, terms)
        ended = await until_over(requester, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert len(ended.slots) == 12
        assert all(slot.ending and slot.ending.reason is EndReason.COMPLETED for slot in ended.slots)
        where = Counter(slot.provider for slot in ended.slots)
        assert len(where) > 1
        assert max(where.values()) > 1
        assert len({slot.allocation_id for slot in ended.slots}) == 12
        await market.drained()


async def test_more_allocations_than_fit_at_once_run_one_after_the_other(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=lambda index: only_asks(0) if index == 0 else cores(2)) as market:
        requester = market.nodes[0].services
        terms = market.terms("exit", "0", count=7)
        await submit(requester, terms)
        ended = await until_over(requester, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        await market.drained()


async def test_the_jobs_own_failure_is_tried_on_a_second_node_and_then_believed(tmp_path: Path) -> None:
    async with Market(tmp_path, 4, build=only_asks) as market:
        terms = market.terms("error", "oops", "exit", "3")
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.EXIT_NONZERO
        tried = await attempts(market.nodes[0], terms)
        assert [try_.final for try_ in tried] == [False, True]
        assert len({try_.provider for try_ in tried}) == 2
        assert ended.slots[0].ending is not None
        assert ended.slots[0].ending.exit_code == 3
        evidence = (await market.nodes[0].state()).evidence
        assert all(set(seen.counts) == {Kind.KEPT} for seen in evidence.values()), "the job's own failure is its own"


async def test_a_nodes_fault_moves_on_and_counts_against_the_node(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        terms = market.terms("end", "provider_fault", node_faults=2)
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.RETRIES_EXHAUSTED
        *faults, last = await attempts(market.nodes[0], terms)
        assert [try_.ending.reason for try_ in faults] == [EndReason.PROVIDER_FAULT] * 2
        assert last.final
        evidence = (await market.nodes[0].state()).evidence
        assert sum(seen.counts.get(Kind.FAULT, 0) for seen in evidence.values()) == 3, "the last one as well"
        await market.drained()


async def test_a_winner_that_is_silent_costs_one_timeout_and_the_next_bid_is_taken(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=first_is_cheapest) as market:
        silent = peer_of(market.nodes[1])
        market.fabric.drops = lambda sender, _receiver, frame: (
            sender == silent and b"BidRe" not in frame and (b"CommitAck" in frame or b"AllocationStatus" in frame)
        )
        terms = market.terms("print", "done")
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].provider == peer_of(market.nodes[2])
        kinds = [row.kind for row in await market.nodes[0].services.store.read_stream(terms.request_id)]
        assert kinds.count("CommitFailed") == 1
        assert kinds.count("RequestAnnounced") == 1, "the next best bid was at hand"
        market.fabric.drops = lambda *_: False
        await market.drained()


async def test_a_node_that_never_answers_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        mute = peer_of(market.nodes[1])
        market.fabric.drops = lambda sender, *_: sender == mute
        terms = market.terms("exit", "0")
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].provider == peer_of(market.nodes[2])
        market.fabric.drops = lambda *_: False
        await market.drained()


async def test_a_provider_lost_in_mid_run_is_replaced(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        requester = market.nodes[0]
        terms = market.terms("sleep_ms", "100", "print", "done")
        await submit(requester.services, terms)
        first = await running_at(market, terms)
        market.fabric.cut(peer_of(requester), first)
        ended = await until_over(requester.services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].provider != first
        assert [try_.ending.reason for try_ in await attempts(requester, terms)] == [
            EndReason.PROVIDER_LOST,
            EndReason.COMPLETED,
        ]
        market.fabric.heal(peer_of(requester), first)
        await market.connect(requester, market.node_of(first))
        await market.drained()


async def test_a_provider_that_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        requester = market.nodes[0]
        terms = market.terms("sleep_ms", "400", "print", "done")
        await submit(requester.services, terms)
        first = await running_at(market, terms)
        market.fabric.cut(peer_of(requester), first)
        market.fabric.heal(peer_of(requester), first)
        await market.connect(requester, market.node_of(first))
        ended = await until_over(requester.services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].attempts == 1
        allocation = ended.slots[0].allocation_id
        assert requester.services.collector.logs.read(allocation, "stdout", 0, 100) == b"done"


async def test_a_provider_that_stops_says_so_and_the_job_moves_on(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=first_is_cheapest) as market:
        requester = market.nodes[0]
        terms = market.terms("sleep_ms", "300", "print", "done")
        await submit(requester.services, terms)
        first = await running_at(market, terms)
        await market.node_of(first).stop()
        ended = await until_over(requester.services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert [try_.ending.reason for try_ in await attempts(requester, terms)] == [
            EndReason.PROVIDER_STOPPED,
            EndReason.COMPLETED,
        ]


async def test_a_standing_request_starts_when_capacity_frees(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=lambda index: only_asks(0) if index == 0 else cores(1)) as market:
        requester = market.nodes[0]
        blocking, waiting = market.terms("wait"), market.terms("print", "at last")
        await submit(requester.services, blocking)
        await until_slot(requester, blocking, SlotPhase.HELD, Phase.RUNNING)
        await submit(requester.services, waiting)
        await until(
            lambda: auction_of(requester.services, waiting.request_id),
            lambda state: state is not None and state.search is SearchPhase.WAITING,
        )
        requester.services.orchestrators.tell(blocking.request_id, Told(CancelAsked(), "owner"))
        ended = await until_over(requester.services, waiting.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert reason_of(await until_over(requester.services, blocking.request_id)) is EndReason.CANCELLED
        await market.drained()


async def test_a_node_that_joins_picks_up_a_waiting_job(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=lambda index: only_asks(0) if index == 0 else cores(1)) as market:
        requester = market.nodes[0]
        blocking, waiting = market.terms("wait"), market.terms("print", "at last")
        await submit(requester.services, blocking)
        await until_slot(requester, blocking, SlotPhase.HELD, Phase.RUNNING)
        await submit(requester.services, waiting)
        await until(
            lambda: auction_of(requester.services, waiting.request_id),
            lambda state: state is not None and state.search is SearchPhase.WAITING,
        )
        joining = await market.rejoin(2)
        ended = await until_over(requester.services, waiting.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].provider == peer_of(joining)


async def test_a_node_that_asks_by_gossip_alone_names_nobody_and_is_served(tmp_path: Path) -> None:
    """`market.ask_directly` off."""

    def build(index: int) -> dict[str, Any]:
        if index:
            return {}
        quiet = msgspec.structs.replace(CONFIG.market, ask_directly=False)
        return {"config": msgspec.structs.replace(CONFIG, market=quiet, provider=Provider(enabled=False))}

    async with Market(tmp_path, 3, build=build) as market:
        requester = market.nodes[0].services
        terms = market.terms("exit", "0")
        await submit(requester, terms)
        ended = await until_over(requester, terms.request_id)
        rows = await requester.store.query(stream=terms.request_id, kinds=("RequestAnnounced",))
        announced = [from_row(row) for row in rows]

        assert reason_of(ended) is EndReason.COMPLETED
        assert [(event.asked, event.gossiped) for event in announced if isinstance(event, RequestAnnounced)] == [
            ((), True)
        ]


async def test_an_impossible_request_is_over_at_once_and_says_what_stands_in_the_way(tmp_path: Path) -> None:
    async with Market(tmp_path, 3) as market:
        terms = market.terms("exit", "0", resources=Resources(cpu_millicores=64 * CORE, memory_bytes=MIB))
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.IMPOSSIBLE
        assert ended.ending is not None
        assert "cpu" in ended.ending.detail.lower() or "core" in ended.ending.detail.lower()


async def test_a_price_below_every_floor_is_over_at_once_and_says_what_would_do(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        terms = market.terms("exit", "0", max_price=1)
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.PRICE_TOO_LOW
        assert ended.ending is not None
        assert "price" in ended.ending.detail


async def cancel(node: NodeApp, terms: Terms) -> Auction:
    """Cancels and waits for the end."""
    assert node.services.orchestrators.tell(terms.request_id, Told(CancelAsked(), "owner"))
    return await until_over(node.services, terms.request_id)


@pytest.mark.parametrize("phase", ["asking", "waiting", "committing", "preparing", "running", "collecting"])
async def test_a_job_can_be_cancelled_in_each_phase(tmp_path: Path, phase: str) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        requester = market.nodes[0]
        terms = market.terms("wait")
        drops = {
            "asking": (b"BidRequest",),
            "waiting": (),
            "committing": (b"CommitAck", b"AllocationStatus"),  # a status says as well that the capacity is held
            "preparing": (b"AllocationStatus",),
            "running": (),
            "collecting": (b"AllocationMessage",),
        }[phase]
        market.fabric.drops = lambda _sender, _receiver, frame: any(kind in frame for kind in drops)
        if phase == "waiting":
            for blocking in [market.terms("wait", resources=Resources(4 * CORE, MIB)) for _ in range(2)]:
                await submit(requester.services, blocking)
                await until_slot(requester, blocking, SlotPhase.HELD, Phase.RUNNING)
        if phase == "collecting":
            terms = market.terms("print", "lost on its way")
        await submit(requester.services, terms)
        match phase:
            case "waiting":
                await until(
                    lambda: auction_of(requester.services, terms.request_id),
                    lambda state: state is not None and state.search is SearchPhase.WAITING,
                )
            case "committing":
                await until_slot(requester, terms, SlotPhase.COMMITTING)
            case "preparing":
                await until_slot(requester, terms, SlotPhase.HELD)
            case "running":
                await until_slot(requester, terms, SlotPhase.HELD, Phase.RUNNING)
            case "collecting":
                await until_slot(requester, terms, SlotPhase.COLLECTING)
                market.fabric.drops = lambda *_: False
        ended = await cancel(requester, terms)
        expected = {EndReason.CANCELLED, EndReason.COMPLETED} if phase == "collecting" else {EndReason.CANCELLED}
        assert reason_of(ended) in expected
        market.fabric.drops = lambda *_: False
        if phase != "waiting":
            await market.drained()


async def test_a_requester_that_crashes_in_mid_run_finds_its_job_again(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        terms = market.terms("print", "before ", "sleep_ms", "300", "print", "after")
        await submit(market.nodes[0].services, terms)
        provider = await running_at(market, terms)
        await market.crash(0)
        requester = await market.rejoin(0)
        ended = await until_over(requester.services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert (ended.slots[0].attempts, ended.slots[0].provider) == (1, provider)
        allocation = ended.slots[0].allocation_id
        assert requester.services.collector.logs.read(allocation, "stdout", 0, 100) == b"before after"
        await market.drained()


async def test_a_requester_that_crashes_while_it_waits_goes_on_waiting(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=lambda index: only_asks(0) if index == 0 else cores(1)) as market:
        blocking, waiting = market.terms("wait"), market.terms("print", "at last")
        for terms in (blocking, waiting):
            await submit(market.nodes[0].services, terms)
        await until_slot(market.nodes[0], blocking, SlotPhase.HELD, Phase.RUNNING)
        await market.crash(0)
        requester = await market.rejoin(0)
        assert reason_of(await cancel(requester, blocking)) is EndReason.CANCELLED
        assert reason_of(await until_over(requester.services, waiting.request_id)) is EndReason.COMPLETED
        await market.drained()


async def test_a_provider_that_crashes_adopts_what_still_runs(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        requester = market.nodes[0]
        terms = market.terms("print", "before ", "sleep_ms", "1500", "print", "after")
        await submit(requester.services, terms)
        await running_at(market, terms)
        # Long enough that the requester has patience for what has run, short enough for a test.
        slot = (await until_slot(requester, terms, SlotPhase.HELD)).slots[0]
        await until(requester.services.clock, lambda now: now > slot.held_since + 800)
        await market.crash(1)
        await market.rejoin(1)
        ended = await until_over(requester.services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        assert ended.slots[0].attempts == 1
        allocation = ended.slots[0].allocation_id
        assert requester.services.collector.logs.read(allocation, "stdout", 0, 100) == b"before after"
        await market.drained()


async def test_a_provider_that_crashes_with_its_runs_marks_them_lost_and_frees_their_capacity(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=first_is_cheapest) as market:
        requester = market.nodes[0]
        terms = market.terms("wait")
        await submit(requester.services, terms)
        first = await running_at(market, terms)
        index = market.nodes.index(market.node_of(first))
        await market.crash(index, lose_runs=True)
        again = await market.rejoin(index)
        await until(again.state, lambda state: not state.book.ledger.reservations)
        rows = await again.services.store.query(kinds=("AllocationEnded",))
        assert len(rows) == 1
        assert b"provider_fault" in rows[0].body
        assert b"did not survive" in rows[0].body
        second = (await until_slot(requester, terms, SlotPhase.HELD, Phase.RUNNING)).slots[0]
        assert second.attempts >= 2
        assert reason_of(await cancel(requester, terms)) is EndReason.CANCELLED
        await market.drained()


async def test_a_flood_of_garbage_is_refused_by_count_and_the_node_still_works(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        network = market.nodes[2].services.network
        victim = peer_of(market.nodes[1])
        for number in range(30_000):
            network.send(victim, b"garbage %d" % number)
        terms = market.terms("exit", "0")
        await submit(market.nodes[0].services, terms)
        ended = await until_over(market.nodes[0].services, terms.request_id)
        assert reason_of(ended) is EndReason.COMPLETED
        runtime = market.nodes[1].services.runtime
        await until(market.nodes[1].state, lambda s: sum(s.refused.values()) + runtime.refused() >= 30_000)


async def test_what_is_put_together_from_what_others_say_is_cut_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        asks, works = market.nodes
        declined = market.terms("exit", "0", queue_ms=0, patience_ms=0)
        labels = {f"{letter * 120}": "b" * 120 for letter in "xyz"}
        declined = msgspec.structs.replace(declined, needs=msgspec.structs.replace(declined.needs, labels=labels))
        await submit(asks.services, declined)
        ended = await until_over(asks.services, declined.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.IMPOSSIBLE

        unserved = market.terms("exit", "0", queue_ms=0, patience_ms=0, node_faults=0)
        far = Input("/".join(["d" * 200] * 5), digest_of(b"nowhere"), 7)
        unserved = msgspec.structs.replace(unserved, task=msgspec.structs.replace(unserved.task, inputs=(far,)))
        await submit(asks.services, unserved)
        assert reason_of(await until_over(asks.services, unserved.request_id)) is EndReason.INPUT_UNAVAILABLE
        rows = await works.services.store.query(kinds=("AllocationEnded",))
        (event,) = [from_row(row) for row in rows]
        assert isinstance(event, AllocationEnded)
        assert len(event.ending.detail) == MAX_LINE

        for index in (0, 1):
            await market.nodes[index].stop()
            await (await market.rejoin(index)).state()
