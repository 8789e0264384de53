"""node.*: status, capability, capability locks, preferences, pausing and stopping."""

from __future__ import annotations

import msgspec
import pytest

from dms.rpc.api.allocations import AllocationListParams, AllocationParams, Side
from dms.rpc.api.jobs import JobParams, WaitParams
from dms.rpc.api.node import (
    BidRequestParams,
    CapabilityParams,
    LockParams,
    NodeState,
    PreferencesParams,
    ResourcesParams,
    StartParams,
    StopParams,
)
from dms.testing.market import CAPABILITY, peer_of, until
from dms_proto.capability import NOTHING, Capability, ExecutorOffer, Resources
from dms_proto.errors import UserError
from dms_proto.ids import allocation_id, bid_id, request_id
from dms_proto.market.arithmetic import add, subtract
from dms_proto.market.offer_state import PressureSeen
from dms_proto.market.preferences import cheapest, fastest
from dms_proto.messages import Invocation, Phase
from dms_proto.units import GIB
from dms_proto.work import EndReason, Task

from .conftest import Local, spec


async def test_status_tells_who_how_and_how_much(local: Local) -> None:
    await local.run(spec("print", "x"))
    status = await until(local.api.node_status, lambda status: status.market.bids == 1)
    assert status.id == local.market.nodes[0].services.identity.node_id
    assert status.healthy, status.troubles
    assert (status.state, status.network.connected, status.network.known) == (NodeState.RUNNING, 2, 2)
    assert status.work.jobs_done == 1
    assert status.work.jobs_open == status.work.running == 0
    assert (status.market.heard, status.market.bids) == (1, 1)
    assert 0 < status.events <= local.market.nodes[0].services.store.head().seq
    capability = status.capability
    assert add(add(capability.available, capability.locked), capability.allocated) == capability.registered
    winner = (await local.api.alloc_list(AllocationListParams())).allocations[0].provider
    index = [peer_of(node) for node in local.market.nodes].index(winner)
    assert (await local.apis[index].node_status()).market.won == 1


async def test_counts_survive_a_restart_without_being_scanned_for(local: Local) -> None:
    await local.run(spec("print", "x"))
    await local.run(spec("exit", "1", retry_job_failures=1))
    before = await local.api.node_status()
    assert (before.work.jobs_done, before.work.jobs_failed) == (1, 1)
    await local.restart(0)
    after = await local.api.node_status()
    assert (after.work, after.market) == (before.work, before.market)


async def test_the_registered_capability_can_be_set_within_what_the_machine_has(local: Local) -> None:
    status = await local.api.node_capability()
    assert status.registered == CAPABILITY.resources
    smaller = msgspec.structs.replace(CAPABILITY, resources=Resources(1000, 1 * GIB, 1 * GIB))
    tried = await local.api.node_set_registered_capability(CapabilityParams(smaller, dry_run=True))
    assert tried.registered == smaller.resources
    assert (await local.api.node_get_registered_capability()) == CAPABILITY
    done = await local.api.node_set_registered_capability(CapabilityParams(smaller))
    assert done.registered == done.available == smaller.resources
    assert (await local.api.node_get_registered_capability()) == smaller


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resources": Resources(10_000_000)}, "CPU: 10000 cores cannot be offered"),
        ({"resources": Resources(1000, 1 << 50)}, "memory"),
        ({"executors": (ExecutorOffer("oci"),)}, "'oci' was not proven"),
    ],
)
async def test_what_the_machine_has_not_is_not_offered(local: Local, change: dict[str, object], says: str) -> None:
    wished = msgspec.structs.replace(Capability(), **change)
    with pytest.raises(UserError, match=says):
        await local.api.node_set_registered_capability(CapabilityParams(wished))
    assert (await local.api.node_get_registered_capability()) == CAPABILITY


async def test_a_capability_lock_holds_until_it_lapses_and_the_law_holds_with_it(local: Local) -> None:
    held = Resources(1500, 2 * GIB, 0)
    view = await local.api.node_lock_capability(LockParams("my-pod", Capability(resources=held), valid_ms=60_000))
    assert (view.owner, view.requester, view.resources) == ("my-pod", "", held)
    assert (await local.api.node_get_locked_capabilities()).locks == (view,)
    status = await local.api.node_capability()
    assert (status.locked, add(status.available, held)) == (held, status.registered)
    with pytest.raises(UserError, match=r"4 cores.*cannot be locked: 2\.5 cores.*are free"):
        await local.api.node_lock_capability(
            LockParams("other", Capability(resources=Resources(4000)), valid_ms=60_000)
        )
    with pytest.raises(UserError, match=r"less than that cannot be registered"):
        await local.api.node_set_registered_capability(CapabilityParams(Capability(resources=Resources(1000, GIB))))
    brief = await local.api.node_lock_capability(LockParams("my-pod", Capability(resources=held), valid_ms=20))
    assert brief.id == view.id  # the pod's lock is replaced
    await until(local.api.node_get_locked_capabilities, lambda list_: not list_.locks)
    assert (await local.api.node_capability()).available == CAPABILITY.resources


async def test_a_lock_for_nothing_or_without_time_is_refused(local: Local) -> None:
    for params in (LockParams("p", Capability()), LockParams("p", CAPABILITY, valid_ms=0), LockParams("", CAPABILITY)):
        with pytest.raises(UserError):
            await local.api.node_lock_capability(params)


async def test_what_is_available_can_be_set_and_the_rest_is_held_back(local: Local) -> None:
    wished = Resources(1000, 1 * GIB, 10 * GIB)
    tried = await local.api.node_set_available_capability(ResourcesParams(wished, dry_run=True))
    assert tried.available == wished
    status = await local.api.node_set_available_capability(ResourcesParams(wished))
    assert (status.available, status.registered) == (wished, CAPABILITY.resources)
    assert (await local.api.node_get_available_capability()).resources == wished
    (lock,) = (await local.api.node_get_locked_capabilities()).locks
    assert lock.owner == "owner"
    more = await local.api.node_set_available_capability(ResourcesParams(CAPABILITY.resources))
    assert (more.available, more.locked) == (CAPABILITY.resources, NOTHING)
    with pytest.raises(UserError, match="more than is free"):
        await local.api.node_set_available_capability(ResourcesParams(Resources(99_000)))


async def test_pressure_shows_that_nothing_is_bid(local: Local) -> None:
    await local.api._wish(PressureSeen(Resources(4000)), "test")
    status = await local.api.node_capability()
    assert status.pressure.withheld
    assert status.pressure.others == Resources(4000)
    assert status.free.cpu_millicores == 0
    assert status.available == CAPABILITY.resources


async def test_pressure_on_a_part_is_taken_from_what_is_free(local: Local) -> None:
    before = await local.api.node_capability()
    assert before.free == before.available
    await local.api._wish(PressureSeen(Resources(1000, 1 * GIB)), "test")
    status = (await local.api.node_status()).capability
    assert not status.pressure.withheld
    assert status.free == subtract(status.available, Resources(1000, 1 * GIB))


async def test_preferences_are_kept_and_used_where_the_job_says_nothing(local: Local) -> None:
    with pytest.raises(UserError, match="magic"):
        await local.api.node_set_preferences(
            PreferencesParams(msgspec.structs.replace(cheapest(), weights={"magic": 1.0}))
        )
    await local.api.node_set_preferences(PreferencesParams(fastest(), dry_run=True))
    assert (await local.api.node_get_preferences()) != fastest()
    await local.api.node_set_preferences(PreferencesParams(cheapest()))
    await local.restart(0)
    assert (await local.api.node_get_preferences()) == cheapest()
    assert (await local.run(spec("print", "x"))).spec.preferences == cheapest()
    own = spec("print", "x", preferences=fastest())
    assert (await local.run(own)).spec.preferences == fastest()


async def test_a_paused_node_takes_nothing_new(local: Local) -> None:
    change = await local.apis[1].node_pause()
    assert change.state is NodeState.PAUSED
    assert (await local.apis[1].node_status()).state is NodeState.PAUSED
    for _ in range(3):
        view = await local.run(spec("print", "x"))
        assert view.slots[0].attempts[0].provider != peer_of(local.market.nodes[1])
    assert (await local.apis[1].node_resume()).state is NodeState.RUNNING


async def test_an_allocation_can_be_followed_from_both_sides(local: Local) -> None:
    await local.api.node_pause()  # so that another node runs it
    job = await local.submit(spec("print", "hi", "wait"))
    mine = (
        await until(lambda: local.api.alloc_list(AllocationListParams()), lambda seen: seen.allocations)
    ).allocations[0]
    await until(lambda: local.api.alloc_show(AllocationParams(mine.allocation_id)), lambda a: a.phase is Phase.RUNNING)
    index = [peer_of(node) for node in local.market.nodes].index(mine.provider)
    provider = local.apis[index]
    there = await provider.alloc_show(AllocationParams(mine.allocation_id[:9]))
    assert (there.side, there.requester, there.request_id) == (Side.PROVIDER, peer_of(local.market.nodes[0]), job)
    assert there.task.environment["DMS_INDEX"] == "0"
    assert mine.task == there.task
    state = await provider.node_check_allocation_status(AllocationParams(mine.allocation_id))
    assert (state.phase, state.alive) == (Phase.RUNNING, True)
    assert (await local.api.node_check_allocation_status(AllocationParams(mine.allocation_id))).alive
    route = await local.api.node_route_to_allocation(AllocationParams(mine.allocation_id))
    assert (route.provider, route.here, route.connected) == (mine.provider, False, True)
    assert route.addresses
    assert (await provider.node_route_to_allocation(AllocationParams(mine.allocation_id))).here
    bids = await local.api.node_get_registered_bids(BidRequestParams(job))
    assert bids.total == 2
    # That it has started is no promise, and is written down up to `journal.SOON_S` later than its requester is told.
    status = await until(provider.node_status, lambda status: status.work.running)
    assert status.work.running == 1
    await local.api.job_cancel(JobParams(job))
    ended = await until(
        lambda: provider.alloc_show(AllocationParams(mine.allocation_id)), lambda a: a.phase is Phase.ENDED
    )
    assert ended.ending is not None
    assert ended.ending.reason is EndReason.CANCELLED
    assert not (await provider.node_check_allocation_status(AllocationParams(mine.allocation_id))).alive
    assert (await local.api.node_get_allocation(AllocationParams(mine.allocation_id))).ending == ended.ending


async def test_an_invocation_for_nothing_committed_here_is_refused_by_name(local: Local) -> None:
    request = request_id(b"0123456789abcdef")
    unknown = allocation_id(bid_id(request, peer_of(local.market.nodes[0]), 0), 0)
    started = await local.api.node_start_allocation(StartParams(Invocation(request, unknown, Task("scripted"))))
    assert started.refused == "no such allocation here"
    job = await local.submit(spec("wait"))
    await until(lambda: local.api.alloc_list(AllocationListParams(active=True)), lambda seen: seen.total)
    allocation = (await local.api.alloc_list(AllocationListParams())).allocations[0]
    index = [peer_of(node) for node in local.market.nodes].index(allocation.provider)
    other = local.apis[index] if index else local.apis[0]
    await until(
        lambda: other.alloc_show(AllocationParams(allocation.allocation_id)), lambda a: a.phase is Phase.RUNNING
    )
    again = StartParams(Invocation(job, allocation.allocation_id, allocation.task))
    refused = (await other.node_start_allocation(again)).refused
    assert refused == ("it was committed to somebody else" if index else "")
    await local.api.job_cancel(JobParams(job))


async def test_stopping_waits_for_what_runs_as_long_as_it_is_told(local: Local) -> None:
    for api in (local.apis[1], local.apis[2]):
        await api.node_pause()
    job = await local.submit(spec("sleep_ms", "200"))
    await until(local.api.node_status, lambda status: status.work.running == 1)
    change = await local.api.node_stop(StopParams(grace_ms=10_000))
    assert (change.state, change.running) == (NodeState.STOPPING, 1)
    assert (await local.api.node_status()).state is NodeState.STOPPING
    stop = local.market.nodes[0].services.stop
    await until(stop.is_set, bool)
    assert (await local.api.job_wait(WaitParams(job, 10_000))).summary.reason is EndReason.COMPLETED
    await local.restart(0)
    status = await until(local.api.node_status, lambda status: status.state is NodeState.RUNNING)
    assert status.state is NodeState.RUNNING


async def test_stopping_without_grace_stops_at_once_after_the_answer(local: Local) -> None:
    change = await local.api.node_stop(StopParams())
    assert change.state is NodeState.STOPPING
    await until(local.market.nodes[0].services.stop.is_set, bool)
