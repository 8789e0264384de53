"""What was accepted is written and answered, whoever closes, cancels or fails meanwhile; and a read model counts everything once."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dms.store.events import EventStore
from dms.store.group import GroupCommit
from dms.store.projections import ProjectionRunner
from dms.testing.event_log_contract import event
from dms.testing.projections import PROJECTIONS, started
from dms_actors.journal import CrewJournal
from dms_actors.letters import Submit, Told
from dms_actors.mishaps import Mishaps
from dms_actors.orchestrator import Orchestrator
from dms_actors.runtime import ThreadRuntime, ask_from_loop
from dms_proto.errors import InternalError, MachineError
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.obligations import Obligations
from dms_proto.market.seekers import Seekers
from dms_proto.market.workload import Workload
from dms_proto.sim.requester import Requester

LOADS = PROJECTIONS[1:]
ONE = [{"provider": "p", "running": 1, "total": 1}]


@asynccontextmanager
async def held(store: EventStore) -> AsyncIterator[None]:
    """The writer's thread does nothing else meanwhile."""
    gate = threading.Event()

    def wait() -> None:
        gate.wait(10)

    store.writing.submit(wait)
    try:
        yield
    finally:
        gate.set()


async def cancelled(task: asyncio.Task[Any]) -> None:
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_asks_a_read_model_and_goes_away_has_nothing_counted_twice(store: EventStore) -> None:
    runner = ProjectionRunner(store, LOADS)
    await runner.start()
    await store.append([started("a-1", "p")])
    async with held(store):
        await cancelled(asyncio.create_task(runner.query("loads")))
    assert await runner.query("loads") == ONE


async def test_who_has_a_read_model_rebuilt_and_goes_away_leaves_it_whole(store: EventStore) -> None:
    runner = ProjectionRunner(store, LOADS)
    await runner.start()
    await store.append([started("a-1", "p")])
    await runner.catch_up()
    async with held(store):
        await cancelled(asyncio.create_task(runner.rebuild("loads")))
    await store.transact(lambda _connection: None)  # behind what nobody waits for
    assert await runner.query("loads") == ONE


@pytest.mark.parametrize("count", [600, 3000])
async def test_closing_writes_everything_that_was_accepted(path: Any, count: int) -> None:
    store = await EventStore.open(path)
    answers = [store.append_from_thread([event()]) for _ in range(count)]
    await store.close()
    assert Counter(answer.done() and answer.exception() is None for answer in answers) == {True: count}


async def test_a_defect_of_the_writer_is_told_to_who_waits_and_holds_nobody_up(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_writer", type("Broken", (), {"write": fail}))
        with pytest.raises(InternalError):
            await asyncio.to_thread(store.append_from_thread([event()]).result, 5)
    assert len(await store.append([event()])) == 1


def test_nothing_is_accepted_behind_a_transaction_that_could_not_be_queued() -> None:
    def submit(_work: object) -> None:
        raise MachineError("store_failed", "it is closed")

    group = GroupCommit(submit, lambda _drafts: [], lambda: 0, lambda why, _: MachineError("store_failed", why), print)
    for _ in range(2):  # the second was accepted, and never answered
        with pytest.raises(MachineError):
            group.append([event()], print)


async def test_what_is_gathered_makes_no_promise_too_long(store: EventStore) -> None:
    journal = CrewJournal(store, asyncio.get_running_loop())
    for _ in range(500):
        journal.append_soon([event()])
    await asyncio.to_thread(journal.append, [event() for _ in range(600)])


class Anything:
    """Takes every call."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: True


async def test_a_job_of_many_slots_can_be_cancelled(store: EventStore) -> None:
    anything: Any = Anything()
    journal = CrewJournal(store, asyncio.get_running_loop())
    runtime = ThreadRuntime(lambda: 1_700_000_000_000)
    terms = Requester(count=10_000).submit().terms

    def build() -> Orchestrator:
        return Orchestrator(
            terms.request_id,
            journal=journal,
            post=anything,
            collector=anything,
            node=anything,
            obligations=Obligations(),
            mishaps=Mishaps(),
            workload=Workload(),
            seekers=Seekers(1),
        )

    try:
        orchestrator = runtime.spawn("orchestrator", build, is_new=True)
        await ask_from_loop(orchestrator, Submit(terms, "test"), 5)
        await ask_from_loop(orchestrator, Told(CancelAsked(), "test"), 60)
    finally:
        await asyncio.to_thread(runtime.stop_all)
    assert len(await store.query(stream=terms.request_id, kinds=["RequestEnded"])) == 1
