"""More jobs at one node than look for a provider at a time: the others wait for their turn, say so, and lose nothing by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Provider
from dms.node.api import LocalApi
from dms.node.services import Services
from dms.rpc.api.jobs import JobListParams, JobParams, JobPhase
from dms.testing.market import CAPABILITY, CONFIG, Market, auction_of, submit, until, until_over
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_proto.capability import Resources
from dms_proto.market.auction_events import RequestAnnounced, TurnAwaited
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.explain import Outcome
from dms_proto.market.seekers import turn_in_words
from dms_proto.units import GIB
from dms_proto.work import EndReason

BURST = 600
SEEKING = 164
"""Jobs of one kind that seek at a time, by default."""
ONE_EACH = CAPABILITY.resources
ONE_JOB = msgspec.structs.replace(CAPABILITY, resources=Resources(1_000, GIB, GIB))
"""A machine with room for one job at a time."""


def only_asks(index: int, **market: Any) -> dict[str, Any]:
    """Options: the first node takes no work, and asks as the settings say."""
    if index:
        return {}
    asking = msgspec.structs.replace(CONFIG.market, **market)
    return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False), market=asking)}


@pytest.mark.slow
async def test_six_hundred_jobs_that_busy_providers_cannot_take_yet_are_forgotten_by_none(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        asking = market.nodes[0].services
        in_the_way = [await submit(asking, market.terms("wait", resources=ONE_EACH)) for _ in market.nodes[1:]]
        for job in in_the_way:
            await until(lambda job=job: auction_of(asking, job), lambda auction: auction.slots[0].started_at)  # type: ignore[misc]
        jobs = await asyncio.gather(*(submit(asking, market.terms("exit", "0")) for _ in range(BURST)))
        for node in market.nodes[1:]:
            state = await until(node.state, lambda state: len(state.book.standing) >= SEEKING)
            assert (len(state.book.standing), state.book.forgotten) == (SEEKING, 0)

        for job in in_the_way:
            asking.orchestrators.tell(job, Told(CancelAsked(), "test"))
        ended = [await until_over(asking, job, 120) for job in jobs]
        assert Counter(one.ending.reason for one in ended if one.ending is not None) == {EndReason.COMPLETED: BURST}
        for node in market.nodes[1:]:
            assert (await node.state()).book.forgotten == 0
        await market.drained()


class Queue:
    """One job runs at the only provider, one looks for a provider, and three wait for their turn."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.runs, self.looks, *self.waiting = (market.terms(*command) for command in (("wait",), *[("exit", "0")] * 4))

    @property
    def asking(self) -> Services:
        return self.market.nodes[0].services

    async def fill(self) -> None:
        await submit(self.asking, self.runs)
        await until(self.running, bool)
        for terms in (self.looks, *self.waiting):
            await submit(self.asking, terms)
        await self.until_waiting(2, self.waiting[-1])

    async def running(self) -> int:
        auction = await auction_of(self.asking, self.runs.request_id)
        return 0 if auction is None else auction.slots[0].started_at

    async def until_waiting(self, ahead: int, terms: Terms) -> None:
        """Waits until a job says that so many are before it."""
        async with interface(self.asking) as api:
            await until(lambda: shown(api, terms), lambda detail: detail == turn_in_words(ahead))

    def stop(self, terms: Terms) -> None:
        self.asking.orchestrators.tell(terms.request_id, Told(CancelAsked(), "test"))

    async def all_end_well(self, *jobs: Terms) -> None:
        """When the job that keeps them from running is stopped."""
        self.stop(self.runs)
        for terms in jobs:
            ended = await until_over(self.asking, terms.request_id)
            assert ended.ending is not None
            assert ended.ending.reason is EndReason.COMPLETED


@contextlib.asynccontextmanager
async def interface(services: Services) -> AsyncIterator[LocalApi]:
    api = await LocalApi.start(services)
    try:
        yield api
    finally:
        await api.close()


async def shown(api: LocalApi, terms: Terms) -> str:
    return (await api.job_show(JobParams(terms.request_id))).summary.detail


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    def build(index: int) -> dict[str, Any]:
        return {"capability": ONE_JOB} if index else only_asks(0, seekers=1)

    async with Market(tmp_path, 2, build=build) as market:
        queue = Queue(market)
        await queue.fill()
        yield queue


async def test_whoever_asks_is_told_how_many_are_before_a_job_now(queue: Queue) -> None:
    async with interface(queue.asking) as api:
        listed = {job.job_id: job for job in (await api.job_list(JobListParams(active=True))).jobs}
        for number, terms in enumerate(queue.waiting):
            job = listed[terms.request_id]
            assert (job.phase, job.detail) == (JobPhase.WAITING, turn_in_words(number))
            assert await shown(api, terms) == turn_in_words(number)
            found = await api.job_explain(JobParams(terms.request_id))
            assert found.turn == turn_in_words(number)
            assert found.counts[Outcome.NOT_ASKED] == len(found.verdicts)
        assert not (await api.job_explain(JobParams(queue.looks.request_id))).turn

        queue.stop(queue.waiting[0])
        await queue.until_waiting(0, queue.waiting[1])
        await queue.until_waiting(1, queue.waiting[2])
    await queue.all_end_well(queue.looks, *queue.waiting[1:])


async def test_it_is_written_down_once_that_a_job_waits_for_its_turn_and_it_is_asked_for_when_that_comes(
    queue: Queue,
) -> None:
    await queue.all_end_well(queue.looks, *queue.waiting)
    for number, terms in enumerate(queue.waiting):
        rows = [from_row(row) for row in await queue.asking.store.read_stream(terms.request_id)]
        noted = [event for event in rows if isinstance(event, TurnAwaited | RequestAnnounced)]
        assert [type(event) for event in noted] == [TurnAwaited, RequestAnnounced]
        assert noted[0] == TurnAwaited(0, number)


async def test_one_that_waits_is_cancelled_at_once(queue: Queue) -> None:
    queue.stop(queue.waiting[1])
    ended = await until_over(queue.asking, queue.waiting[1].request_id)
    assert ended.ending is not None
    assert ended.ending.reason is EndReason.CANCELLED


async def test_those_that_wait_survive_the_node(queue: Queue) -> None:
    await queue.market.crash(0)
    await queue.market.rejoin(0)
    await queue.until_waiting(2, queue.waiting[2])
    await queue.all_end_well(queue.looks, *queue.waiting)
