"""The pool, step by step: who starts, who is given what, who goes, what is left after a restart."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.capability import Gpu, Resources
from dms_proto.ids import PeerId
from dms_proto.machine import TimeCame
from dms_proto.pool.fold import after_restart
from dms_proto.pool.optimum import replayed
from dms_proto.pool.records import Because, CallId, ContainerId, ContainerPhase, Image, Service, VirtualId
from dms_proto.pool.refusals import Code
from dms_proto.pool.replacement import Strategy
from dms_proto.pool.state import (
    Called,
    CallEnded,
    CallerGone,
    CapacityWished,
    CloseWished,
    ContainerDied,
    ContainerEnded,
    ContainerStopping,
    Deliver,
    Fail,
    HitsCounted,
    PoolRestarted,
    PoolRules,
    PoolSaved,
    RulesWished,
    StartContainer,
    StartFailed,
    StopContainer,
    VirtualClosed,
    VirtualOpened,
)
from dms_proto.sim.pools import check, durable
from dms_proto.units import CORE, GIB, MINUTE, SECOND
from dms_proto.work import Usage

from .conftest import HandPool

RULES = PoolRules(virtual=3, calls=4, ttl_ms=MINUTE, hot_ms=0)
C1, C2 = ContainerId("c-1"), ContainerId("c-2")
SILBERSCHATZ = ["7", "0", "1", "2", "0", "3", "0", "4", "2", "3", "0", "3", "2", "1", "2", "0", "1", "7", "0", "1"]


# ---------------------------------------------------------------------------------------------------------------- calls


def test_the_first_call_of_a_service_starts_a_container_and_is_delivered_when_it_is_ready(pool: HandPool) -> None:
    pool.of(4, RULES)
    call_id = pool.call("ada")
    assert pool.wanted(StartContainer) == [StartContainer(C1, image_of(pool), Resources(CORE, GIB))]
    assert not pool.wanted(Deliver)
    pool.start(C1)
    assert [(each.call_id, each.container_id, each.virtual_id) for each in pool.wanted(Deliver)] == [
        (call_id, C1, "v-2")
    ]


def test_another_user_of_the_same_image_gets_a_virtual_container_and_no_process(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.call("bob")
    assert pool.noted(VirtualOpened)
    assert not pool.wanted(StartContainer)
    assert pool.wanted(Deliver)[0].container_id == C1
    assert pool.state.containers[C1].virtual == ("v-2", "v-3")


def test_when_as_many_share_a_container_as_may_the_next_one_gets_another(pool: HandPool) -> None:
    pool.of(4, RULES)
    assert {pool.warm(user) for user in ("ada", "bob", "cleo")} == {C1}
    assert pool.warm("dan") != C1


def test_a_busy_container_is_left_for_an_idle_one_and_what_nobody_points_to_ends(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, virtual=1))
    one, two = pool.warm("ada"), pool.warm("bob")
    pool.tell(RulesWished(RULES))
    pool.call("ada")
    assert pool.wanted(Deliver)[0].container_id == one
    pool.call("bob")
    pool.call("cleo")
    assert not pool.wanted(Deliver)
    pool.call("ada")
    queues = {each.container_id: len(each.calls) for each in pool.state.containers.values()}
    assert queues == {one: 2, two: 2}
    assert pool.state.containers[two].virtual
    check(pool.state)


def test_calls_of_a_container_are_delivered_one_at_a_time_in_the_order_they_came(pool: HandPool) -> None:
    pool.of(1, RULES)
    calls = [pool.call(user) for user in ("ada", "bob", "ada")]
    pool.start(C1)
    given = []
    while pool.wanted(Deliver):
        (delivered,) = pool.wanted(Deliver)
        given.append(delivered.call_id)
        pool.end(delivered.call_id)
    assert given == calls


def test_the_same_call_twice_is_one_call(pool: HandPool) -> None:
    pool.of(1, RULES)
    called = Called(CallId("x"), PeerId("ada"), Service("s", Image("python", "m", Resources(CORE, GIB))))
    pool.tell(called)
    before = pool.state
    pool.tell(called)
    assert (pool.state, pool.effects) == (before, ())
    pool.start(C1)
    pool.start(C1)
    assert pool.effects == ()
    pool.tell(CallEnded(CallId("x")))
    pool.tell(CallEnded(CallId("x")))
    assert pool.events == ()


def test_who_is_gone_before_the_call_was_delivered_is_forgotten(pool: HandPool) -> None:
    pool.of(1, RULES)
    first, second = pool.call("ada"), pool.call("bob")
    pool.start(C1)
    pool.tell(CallerGone(first))
    assert pool.events == ()  # at work, it goes on to its end
    pool.tell(CallerGone(second))
    pool.end(first)
    assert not pool.wanted(Deliver)
    assert pool.state.calls == {}


def test_a_queue_is_bounded_and_beyond_it_another_container_is_wanted(pool: HandPool) -> None:
    pool.of(1, RULES)
    for _ in range(RULES.calls):
        pool.call("ada")
        assert pool.refusal() is None
    before = pool.state
    pool.call("ada")
    refusal = pool.refusal()
    assert refusal is not None
    assert refusal.code is Code.NO_ROOM
    assert [each.why for each in refusal.in_the_way] == ["it has 4 calls"]
    assert (pool.state, pool.events) == (before, ())


def test_a_service_that_changes_its_image_keeps_its_virtual_container_and_counters(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    newer = Service("s-m", Image("python", "newer", Resources(CORE, GIB)))
    pool.tell(Called(CallId("x"), PeerId("ada"), newer, tier=1))
    virtual = pool.state.virtual[VirtualId("v-2")]
    assert (virtual.service, virtual.tier, virtual.tally.hits) == (newer, 1, 1)
    assert pool.noted(ContainerStopping)[0].because is Because.UNUSED


def test_a_program_of_ones_own_is_shared_with_nobody(pool: HandPool) -> None:
    pool.of(4, RULES)
    for user in ("ada", "bob"):
        own = Image("python", "m", Resources(CORE, GIB), PeerId(user))
        pool.tell(Called(CallId(user), PeerId(user), Service("s", own)))
        assert pool.wanted(StartContainer)


def test_there_are_no_more_virtual_containers_than_may_be(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, most_virtual=1))
    pool.warm("ada")
    pool.call("bob")
    refusal = pool.refusal()
    assert refusal is not None
    assert (refusal.code, pool.events) == (Code.TOO_MANY, ())
    pool.call("ada")
    assert pool.refusal() is None


# -------------------------------------------------------------------------------------------------------------- failures


def test_a_start_that_fails_refuses_those_who_wait_for_it(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.call("ada")
    pool.call("bob")
    pool.tell(StartFailed(C1, "no such model"))
    refusal = pool.refusal()
    assert refusal is not None
    assert (refusal.code, refusal.why) == (Code.START_FAILED, "its container could not be started: no such model")
    assert (dict(pool.state.containers), dict(pool.state.calls)) == ({}, {})


def test_a_start_that_takes_too_long_is_given_up_and_its_process_stopped(pool: HandPool) -> None:
    pool.of(1, msgspec.structs.replace(RULES, start_ms=SECOND))
    pool.call("ada")
    pool.wait(SECOND)
    refusal = pool.refusal()
    assert refusal is not None
    assert refusal.why.endswith("it did not start within 1 s")
    assert pool.wanted(StopContainer) == [StopContainer(C1)]
    pool.start(C1)
    assert pool.wanted(StopContainer) == [StopContainer(C1)]


def test_when_a_container_dies_the_call_at_work_fails_and_the_others_get_another(pool: HandPool) -> None:
    pool.of(1, RULES)
    first, second = pool.call("ada"), pool.call("bob")
    pool.start(C1)
    pool.tell(ContainerDied(C1, "out of memory"))
    assert pool.wanted(Fail) == [Fail(first, "its container has ended: out of memory")]
    (started,) = pool.wanted(StartContainer)
    pool.start(started.container_id)
    assert [each.call_id for each in pool.wanted(Deliver)] == [second]


# ---------------------------------------------------------------------------------------------------------- replacement


@pytest.mark.parametrize("strategy", Strategy)
def test_the_whole_pool_evicts_what_the_textbook_says(pool: HandPool, strategy: Strategy) -> None:
    """A container is a frame, its image a page; nothing is hot, and nothing takes time to start."""
    pool.of(3, PoolRules(hot_ms=0, strategy=strategy, window_ms=0))
    victims = []
    for page in SILBERSCHATZ:
        pool.now += 10
        before = {key: each.image.model for key, each in pool.state.containers.items()}
        pool.warm("ada", page)
        victims += [model for key, model in before.items() if key not in pool.state.containers]
    assert tuple(victims) == replayed(SILBERSCHATZ, 3, strategy).victims
    assert durable(pool.restart()) == durable(pool.state)


def test_what_is_evicted_is_gone_before_its_place_is_taken(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.warm("ada", "old")
    pool.now += 10
    pool.call("ada", "new")
    assert pool.wanted(StopContainer) == [StopContainer(C1)]
    assert not pool.wanted(StartContainer)
    pool.tell(ContainerDied(C1))
    assert [each.image.model for each in pool.wanted(StartContainer)] == ["new"]


def test_a_newcomer_waits_for_all_that_goes_for_it(pool: HandPool) -> None:
    pool.of(3, RULES)
    small = [pool.warm("ada", model) for model in "abc"]
    pool.now += 10
    pool.call("ada", "large", gib=2)
    stopped = [each.container_id for each in pool.wanted(StopContainer)]
    assert stopped == small[:2]
    pool.tell(ContainerDied(small[0]))
    assert not pool.wanted(StartContainer)
    pool.tell(ContainerDied(small[1]))
    assert pool.wanted(StartContainer)


def test_nobody_goes_who_need_not(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada", "small")
    pool.now += 1
    large = pool.warm("ada", "large", gib=3)
    pool.now += 1
    pool.call("ada", "newcomer", gib=3)
    assert pool.wanted(StopContainer) == [StopContainer(large)]


# ------------------------------------------------------------------------------------------------------------ idle, unused


def test_what_is_not_used_ends_whatever_its_kind(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.wait(MINUTE - 1)
    assert not pool.noted(VirtualClosed)
    pool.wait(1)
    assert [each.virtual_id for each in pool.noted(VirtualClosed)] == ["v-2"]
    assert [each.because for each in pool.noted(ContainerStopping)] == [Because.UNUSED]
    pool.tell(ContainerDied(C1))
    (ended,) = pool.noted(ContainerEnded)
    assert (ended.tally.hits, ended.tally.usage.wall_ms) == (1, 5)
    assert (dict(pool.state.containers), dict(pool.state.virtual)) == ({}, {})


def test_a_call_keeps_what_it_uses(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.wait(MINUTE - 1)
    call_id = pool.call("ada")
    pool.wait(2 * MINUTE)
    assert pool.state.virtual
    pool.end(call_id)
    pool.wait(MINUTE)
    assert not pool.state.virtual


def test_a_shorter_time_holds_at_once(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.wait(10 * SECOND)
    pool.tell(RulesWished(msgspec.structs.replace(RULES, ttl_ms=SECOND)))
    pool.wait(0)
    assert pool.noted(VirtualClosed)


# --------------------------------------------------------------------------------------------------------- owner's wishes


def test_when_the_pool_shrinks_idle_ones_go_at_once_and_busy_ones_when_their_calls_are_over(pool: HandPool) -> None:
    pool.of(3, RULES)
    idle = pool.warm("ada", "idle")
    busy = pool.warm("ada", "busy")
    call_id = pool.call("ada", "busy")
    pool.tell(CapacityWished(NONE))
    assert pool.wanted(StopContainer) == [StopContainer(idle)]
    assert pool.state.containers[busy].phase is ContainerPhase.DRAINING
    pool.end(call_id)
    assert pool.wanted(StopContainer) == [StopContainer(busy)]


def test_a_closing_pool_refuses_calls_ends_what_it_has_and_can_be_opened_again(pool: HandPool) -> None:
    pool.of(3, RULES)
    pool.warm("ada", "idle")
    starting = pool.call("ada", "starting")
    pool.tell(CloseWished())
    assert pool.wanted(StopContainer) == [StopContainer(C1)]
    pool.call("bob")
    refusal = pool.refusal()
    assert refusal is not None
    assert refusal.code is Code.CLOSING
    last = ContainerId("c-3")
    pool.start(last)
    assert [each.call_id for each in pool.wanted(Deliver)] == [starting]
    pool.end(starting)
    assert pool.wanted(StopContainer) == [StopContainer(last)]
    pool.tell(CloseWished(open=True))
    pool.call("bob")
    assert pool.refusal() is None


# --------------------------------------------------------------------------------------------------------------- restart


def test_what_a_batch_of_calls_comes_to_is_one_event(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.wait(0)
    calls = [pool.call(user) for user in ("ada", "bob", "ada")]
    for call_id in calls:
        pool.end(call_id, log_bytes=7)
    assert not pool.noted(HitsCounted)
    pool.wait(0)
    (counted,) = pool.noted(HitsCounted)
    assert [(each.virtual_id, each.tally.hits, each.log_bytes) for each in counted.virtual] == [
        ("v-2", 3, 14),
        ("v-3", 1, 7),
    ]
    assert [(each.container_id, each.tally.hits) for each in counted.containers] == [(C1, 4)]
    pool.tell(TimeCame())
    assert pool.events == ()


def test_now_and_then_all_of_it_is_written_as_one_and_a_restart_begins_there(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, save_every=20))
    pool.warm("ada", "gone")
    for number in range(20):
        pool.now += SECOND
        pool.warm("ada" if number % 2 else "bob")
        pool.wait(0)
        if pool.noted(PoolSaved):
            break
    pool.tell(Called(CallId("x"), PeerId("ada"), Service("s-m", image_of(pool))))
    pool.wait(0)
    live = durable(pool.state)
    assert durable(pool.restart()) == live
    at = next(at for at, event in enumerate(pool.log) if isinstance(event, PoolSaved))
    pool.log = pool.log[at:]
    assert durable(pool.restart()) == live


def test_counters_may_be_written_less_often_and_are_exact_when_something_ends(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, count_ms=SECOND))
    pool.warm("ada")
    pool.wait(SECOND - 1)
    assert not pool.noted(HitsCounted)
    pool.wait(1)
    assert pool.noted(HitsCounted)
    pool.warm("ada")
    pool.tell(ContainerDied(C1))
    assert [type(event) for event in pool.events][-2:] == [HitsCounted, ContainerEnded]
    assert pool.restart().virtual[VirtualId("v-2")].tally.hits == 2


def test_after_a_restart_what_is_alive_goes_on_with_its_counters(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    lost = pool.call("ada")
    pool.wait(0)
    live = pool.state
    pool.state = after_restart(pool.restart(), pool.now)
    assert pool.state.containers[C1].phase is ContainerPhase.UNKNOWN
    assert pool.state.containers[C1].tally == live.containers[C1].tally
    early = pool.call("bob")
    assert not pool.effects
    pool.tell(PoolRestarted((C1,)))
    assert [each.call_id for each in pool.wanted(Deliver)] == [early]
    pool.end(lost)
    assert pool.events == ()


def test_after_a_restart_what_is_gone_is_started_again_under_its_own_name(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada")
    pool.wait(0)
    pool.state = after_restart(pool.restart(), pool.now)
    pool.tell(PoolRestarted())
    assert [each.container_id for each in pool.wanted(StartContainer)] == [C1]
    pool.start(C1)
    pool.call("ada")
    pool.wait(0)
    container = pool.state.containers[C1]
    assert (container.tally.hits, container.created_at) == (2, 1_000_000)


def test_after_a_restart_what_was_to_stop_and_what_nobody_knows_is_stopped(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.warm("ada", "old")
    pool.now += 10
    pool.call("ada", "new")
    pool.state = after_restart(pool.restart(), pool.now)
    pool.tell(PoolRestarted((C1, ContainerId("c-99"))))
    assert pool.wanted(StopContainer) == [StopContainer(C1), StopContainer(ContainerId("c-99"))]
    pool.tell(ContainerDied(C1))
    assert [each.image.model for each in pool.wanted(StartContainer)] == ["new"]


# ------------------------------------------------------------------------------------------------------------------ GPUs


def test_containers_get_devices_of_their_own(pool: HandPool) -> None:
    gpus = tuple(Gpu(str(at), "nvidia", "A100", 40 * GIB) for at in range(2))
    pool.tell(CapacityWished(Resources(8 * CORE, 64 * GIB, gpus=gpus)))
    pool.tell(RulesWished(RULES))
    devices = []
    for model in "abc":
        need = Image("python", model, Resources(CORE, GIB, gpus=(Gpu(memory_bytes=10 * GIB),)))
        pool.now += 10
        pool.tell(Called(CallId(model), PeerId("ada"), Service(model, need)))
        devices += [each.size.gpus[0].device for each in pool.wanted(StartContainer)]
        for each in pool.wanted(StartContainer):
            pool.start(each.container_id)
            pool.tell(CallEnded(CallId(model), Usage()))
    assert devices == ["0", "1"]
    assert pool.state.containers[C1].phase is ContainerPhase.STOPPING
    waiting = [each for each in pool.state.containers.values() if each.phase is ContainerPhase.WAITING]
    assert [each.size.gpus[0].device for each in waiting] == ["0"]


NONE = Resources()


def image_of(pool: HandPool) -> Image:
    return pool.state.containers[C1].image
