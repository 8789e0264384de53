"""Who is let in, for whom others go, and what a refusal says."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.capability import Resources
from dms_proto.pool.admission import admit
from dms_proto.pool.refusals import Code, Refusal
from dms_proto.pool.state import CapacityWished, ContainerStopping, PoolRules, StartContainer, StopContainer
from dms_proto.pool.thrash import Recreation, settled_at, thrashes_until
from dms_proto.units import CORE, GIB, MINUTE, SECOND

from .conftest import HandPool, image

RULES = PoolRules(hot_ms=10 * SECOND, recreations=2, window_ms=MINUTE)
FREE, PAID, DEAR = 0, 1, 2


def refused(pool: HandPool, user: str, model: str, *, gib: int = 1, tier: int = 0) -> Refusal:
    """Calls what is refused, and sees that it disturbs nobody."""
    before = pool.state
    pool.call(user, model, gib=gib, tier=tier)
    refusal = pool.refusal()
    assert refusal is not None
    assert (pool.state, pool.events, len(pool.effects)) == (before, (), 1)
    return refusal


def test_what_is_larger_than_the_pool_is_refused_for_good_with_the_nearest_size(pool: HandPool) -> None:
    pool.of(4, RULES)
    pool.warm("ada", "small")
    pool.now += MINUTE
    refusal = refused(pool, "ada", "large", gib=5)
    assert (refusal.code, refusal.nearest, refusal.wait_ms) == (Code.TOO_LARGE, "memory 4 GiB", 0)
    assert [(each.dimension, each.wanted, each.observed) for each in refusal.clauses] == [("memory", "5 GiB", "4 GiB")]


def test_a_container_of_no_size_counts_for_what_a_process_takes_at_least(pool: HandPool) -> None:
    pool.of(4, RULES)
    admitted = admit(pool.state, msgspec.structs.replace(image(), size=Resources()), FREE, pool.now)
    assert not isinstance(admitted, Refusal)
    assert admitted.size.memory_bytes > 0


# ----------------------------------------------------------------------------------------------------------------- tiers


def test_a_hot_container_does_not_go_for_an_equal_and_the_refusal_says_when_it_may(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.warm("ada", "hot")
    pool.now += 4 * SECOND
    refusal = refused(pool, "bob", "new")
    assert (refusal.code, refusal.why, refusal.wait_ms) == (Code.NO_ROOM, "nothing may go for it", 6 * SECOND)
    assert refusal.nearest == "again in 6 s"
    assert [each.why for each in refusal.in_the_way] == ["it was used 4 s ago by tier 0"]
    assert refusal.clauses[0].passing
    assert (refusal.outward.in_the_way, refusal.outward.nearest) == ((), refusal.nearest)
    pool.now += 6 * SECOND
    pool.call("bob", "new")
    assert pool.noted(ContainerStopping)


@pytest.mark.parametrize(("holder", "newcomer", "goes"), [(FREE, PAID, True), (PAID, FREE, False), (PAID, PAID, False)])
def test_a_hot_container_goes_for_a_higher_tier_alone(pool: HandPool, holder: int, newcomer: int, goes: bool) -> None:
    pool.of(1, RULES)
    pool.warm("ada", "hot", tier=holder)
    pool.call("bob", "new", tier=newcomer)
    assert bool(pool.wanted(StopContainer)) is goes


def test_a_container_that_a_paying_user_shares_is_as_safe_as_one_of_its_own(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.warm("ada", "shared", tier=FREE)
    pool.warm("bob", "shared", tier=PAID)
    refused(pool, "cleo", "new", tier=PAID)


def test_a_container_at_work_goes_for_nobody(pool: HandPool) -> None:
    pool.of(1, RULES)
    pool.call("ada", "busy")
    pool.start(next(iter(pool.state.containers)))
    pool.now += MINUTE
    refusal = refused(pool, "bob", "new", tier=DEAR)
    assert [each.why for each in refusal.in_the_way] == ["it has 1 call"]


def test_what_a_tier_has_reserved_is_there_without_anybody_having_to_go(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, reserved={PAID: Resources(CORE, 2 * GIB)}))
    for model in "ab":
        pool.warm("ada", model)
    refused(pool, "ada", "c")
    for model in "cd":
        pool.call("bob", model, tier=PAID)
        assert pool.wanted(StartContainer)
        assert not pool.wanted(StopContainer)


def test_what_would_never_fit_beside_what_others_reserved_is_refused_for_good(pool: HandPool) -> None:
    pool.of(4, msgspec.structs.replace(RULES, reserved={PAID: Resources(0, 3 * GIB)}))
    refusal = refused(pool, "ada", "large", gib=2)
    assert (refusal.code, refusal.nearest) == (Code.RESERVED, "memory 1 GiB")


def test_to_evict_the_reserved_gains_nothing_so_it_stays(pool: HandPool) -> None:
    pool.of(2, msgspec.structs.replace(RULES, reserved={PAID: Resources(0, GIB)}))
    paid = pool.warm("bob", "paid", tier=PAID)
    pool.now += SECOND
    free = pool.warm("ada", "free")
    pool.now += MINUTE
    pool.call("cleo", "new")
    assert [each.container_id for each in pool.wanted(StopContainer)] == [free]
    assert paid in pool.state.containers


# ------------------------------------------------------------------------------------------------------------- thrashing


def test_a_container_stays_as_long_as_its_start_took(pool: HandPool) -> None:
    pool.of(1, msgspec.structs.replace(RULES, hot_ms=0))
    call_id = pool.call("ada", "slow")
    container_id = next(iter(pool.state.containers))
    pool.wait(8 * SECOND)
    pool.start(container_id)
    pool.end(call_id)
    assert settled_at(pool.state.containers[container_id]) == pool.now + 8 * SECOND
    pool.now += 3 * SECOND
    refusal = refused(pool, "bob", "new", tier=DEAR)
    assert [each.why for each in refusal.in_the_way] == ["it has just started, which took 8 s"]
    assert refusal.wait_ms == 5 * SECOND
    pool.now += 5 * SECOND
    pool.call("bob", "new")
    assert pool.wanted(StopContainer)


def test_when_what_was_evicted_comes_back_too_often_nothing_is_evicted_for_a_while(pool: HandPool) -> None:
    pool.of(1, msgspec.structs.replace(RULES, hot_ms=0))
    began = pool.now
    for model in "abab":
        pool.now += SECOND
        pool.warm("ada", model)
    assert [each.at - began for each in pool.state.recreated] == [3 * SECOND, 4 * SECOND]
    refusal = refused(pool, "ada", "a")
    assert refusal.code is Code.THRASHING
    assert refusal.nearest == "again in 59 s"
    pool.now += refusal.wait_ms
    pool.warm("ada", "a")


def test_what_fits_is_let_in_while_nothing_is_evicted(pool: HandPool) -> None:
    pool.of(1, msgspec.structs.replace(RULES, hot_ms=0))
    for model in "abab":
        pool.now += SECOND
        pool.warm("ada", model)
    pool.tell(CapacityWished(Resources(64 * CORE, 2 * GIB)))
    pool.call("ada", "a")
    assert pool.wanted(StartContainer)
    refused(pool, "ada", "c")


def test_what_lower_tiers_do_to_each_other_stops_no_higher_one(pool: HandPool) -> None:
    pool.of(1, msgspec.structs.replace(RULES, hot_ms=0))
    for model in "abab":
        pool.now += SECOND
        pool.warm("ada", model, tier=FREE)
    refused(pool, "ada", "a", tier=FREE)
    pool.call("bob", "a", tier=PAID)
    assert pool.wanted(StopContainer)


def test_the_window_moves_on() -> None:
    recreated = [Recreation(at, FREE) for at in (10, 20, 30, 40)]
    assert thrashes_until(recreated[:3], 40, 100, 3) == 110
    assert thrashes_until(recreated[:3], 110, 100, 3) == 0
    assert thrashes_until(recreated, 40, 100, 3) == 120
