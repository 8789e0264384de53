from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.pressure import (
    CALM_SAMPLES,
    CPU_STEP,
    DISK_STEP,
    MEMORY_STEP,
    Amounts,
    Pressure,
    Sample,
    State,
    allowance,
    follow,
    free,
)
from dms_proto.capability import Resources
from dms_proto.units import GIB, MIB

CAPACITY = Amounts(4000, 16 * GIB, 100 * GIB)
NOTHING = Amounts()
REGISTERED = Resources(3000, 12 * GIB, 40 * GIB)


def sample(at: float, others: Amounts, own: Amounts = NOTHING) -> Sample:
    used = Amounts(
        others.cpu_millicores + own.cpu_millicores,
        others.memory_bytes + own.memory_bytes,
        others.disk_bytes + own.disk_bytes,
    )
    return Sample(at, CAPACITY, used, own)


def after(*others: Amounts, every_s: float = 5.0) -> State:
    state = State()
    for number, amounts in enumerate(others, start=1):
        state = follow(state, sample(number * every_s, amounts), REGISTERED)
    return state


WITHIN = Amounts(1000, 4 * GIB, 60 * GIB)
"""Exactly what is not registered."""


def test_others_within_what_was_left_to_them_are_not_felt() -> None:
    assert allowance(CAPACITY, REGISTERED) == WITHIN
    assert after(WITHIN, WITHIN, WITHIN).pressure == Pressure()


def test_our_own_allocations_are_not_others() -> None:
    state = follow(State(), sample(5.0, WITHIN, own=Amounts(3000, 12 * GIB, 40 * GIB)), REGISTERED)
    assert state.pressure == Pressure()


def test_memory_and_disk_beyond_the_allowance_are_felt_at_once() -> None:
    state = after(WITHIN, Amounts(1000, 4 * GIB + 1, 60 * GIB + 3 * DISK_STEP))
    assert state.pressure == Pressure(0, MEMORY_STEP, 3 * DISK_STEP)


def test_a_burst_of_cpu_is_smoothed_and_lasting_use_is_felt_in_full() -> None:
    burst = after(*[Amounts()] * 5, Amounts(4000), every_s=1.0)
    assert burst.pressure.cpu_millicores == 0
    lasting = after(*[Amounts()] * 5, *[Amounts(4000)] * 20)
    assert lasting.pressure.cpu_millicores == 3000


def test_the_average_moves_by_half_in_a_half_life_whatever_the_interval() -> None:
    one = after(Amounts(), Amounts(4000), every_s=10.0)
    many = after(Amounts(), *[Amounts(4000)] * 20, every_s=0.5)
    assert one.others_cpu == pytest.approx(2000)
    assert many.others_cpu == pytest.approx(2000)


def test_pressure_is_lowered_only_after_it_stayed_lower() -> None:
    high, low = Amounts(0, 8 * GIB), Amounts(0, 4 * GIB)
    assert after(high, *[low] * (CALM_SAMPLES - 1)).pressure.memory_bytes == 4 * GIB
    assert after(high, *[low] * CALM_SAMPLES).pressure.memory_bytes == 0


def test_a_relapse_starts_the_wait_anew() -> None:
    high, low = Amounts(0, 8 * GIB), Amounts(0, 4 * GIB)
    assert after(high, *[low] * (CALM_SAMPLES - 1), high, *[low] * (CALM_SAMPLES - 1)).pressure.memory_bytes == 4 * GIB


def test_small_changes_do_not_make_the_pressure_blink() -> None:
    state, seen = State(), set()
    for number in range(1, 200):
        wobble = Amounts(2000 + (number % 3) * 10, 8 * GIB + (number % 5) * MIB, 70 * GIB + (number % 7) * MIB)
        state = follow(state, sample(number * 5.0, wobble), REGISTERED)
        seen.add(state.pressure)
    assert len(seen) <= 3


def test_pressure_never_exceeds_what_is_registered() -> None:
    state = after(*[Amounts(100_000, 10**15, 10**15)] * 10)
    assert state.pressure == Pressure(3000, 12 * GIB, 40 * GIB)


def test_what_is_free_is_registered_less_pressure_less_held() -> None:
    pressure = Pressure(500, GIB, 2 * GIB)
    assert free(REGISTERED, pressure, Amounts(1000, 2 * GIB, GIB)) == Amounts(1500, 9 * GIB, 37 * GIB)
    assert free(REGISTERED, pressure, Amounts(3000, 12 * GIB, 40 * GIB)) == Amounts()


def test_it_is_explained_in_words() -> None:
    assert Pressure().explain() == ""
    assert (
        Pressure(1500, 2 * GIB).explain() == "other programs use 1.5 cores and 2 GiB of memory more than they were left"
    )


amounts = st.builds(Amounts, st.integers(0, 10_000), st.integers(0, 10**12), st.integers(0, 10**12))
steps = st.tuples(st.floats(0.01, 100), amounts, amounts)


@given(st.lists(steps, max_size=30))
def test_pressure_stays_within_bounds_and_in_steps_whatever_is_sampled(
    looks: list[tuple[float, Amounts, Amounts]],
) -> None:
    state, now = State(), 0.0
    for passed, others, own in looks:
        now += passed
        state = follow(state, sample(now, others, own), REGISTERED)
        for value, most, step in zip(
            msgspec.structs.astuple(state.pressure),
            (REGISTERED.cpu_millicores, REGISTERED.memory_bytes, REGISTERED.disk_bytes),
            (CPU_STEP, MEMORY_STEP, DISK_STEP),
            strict=True,
        ):
            assert 0 <= value <= most
            assert value % step == 0 or value == most
        assert 0 <= state.others_cpu <= 10_000


@given(amounts, amounts)
def test_memory_really_free_covers_what_is_offered_after_each_sample(others: Amounts, own: Amounts) -> None:
    state = follow(State(), sample(5.0, others, own), REGISTERED)
    left = max(0, CAPACITY.memory_bytes - others.memory_bytes)
    assert REGISTERED.memory_bytes - state.pressure.memory_bytes <= left
