"""Adding and subtracting resources: exact, one spelling, never less than nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.market.arithmetic import add, canonical, clamp_subtract, fits_within, subtract, total_of
from dms_proto.market.gpus import assign_gpus
from tests.unit.proto.market.market_strategies import gpu_devices, gpu_needs

amount = st.integers(0, 2**40)
concrete = st.builds(Resources, amount, amount, amount, gpu_devices())
half = st.builds(
    Resources,
    amount,
    amount,
    amount,
    st.lists(
        st.builds(Gpu, st.sampled_from(["0", "1"]), st.just("v"), st.just("m"), amount, st.integers(0, 500)),
        max_size=2,
        unique_by=lambda gpu: gpu.device,
    ).map(tuple),
)


@given(half, half)
def test_what_was_added_can_be_subtracted_again(left: Resources, right: Resources) -> None:
    assert subtract(add(left, right), right) == canonical(left)


@given(half, half)
def test_the_order_of_adding_does_not_matter(left: Resources, right: Resources) -> None:
    assert add(left, right) == add(right, left)


@given(concrete)
def test_everything_less_everything_is_nothing(whole: Resources) -> None:
    assert subtract(whole, whole) == NOTHING
    assert add(whole, NOTHING) == canonical(whole) == canonical(canonical(whole))


@given(concrete, concrete)
def test_a_part_fits_exactly_when_it_can_be_subtracted(whole: Resources, part: Resources) -> None:
    try:
        left = subtract(whole, part)
    except ValueError:
        assert not fits_within(part, whole)
    else:
        assert fits_within(part, whole)
        assert min(left.cpu_millicores, left.memory_bytes, left.disk_bytes) >= 0
        assert all(gpu.milli >= 0 and gpu.memory_bytes >= 0 for gpu in left.gpus)


@given(concrete, concrete)
def test_clamped_subtraction_never_raises_and_never_gives_more_or_less_than_nothing(
    whole: Resources, part: Resources
) -> None:
    left = clamp_subtract(whole, part)
    assert fits_within(left, whole)
    assert min(left.cpu_millicores, left.memory_bytes, left.disk_bytes) >= 0


@given(
    concrete, st.lists(st.tuples(amount, amount, amount, gpu_needs(2)), max_size=6), st.randoms(use_true_random=False)
)
def test_the_capacity_law_holds_through_any_reserving_and_freeing(registered, wishes, random) -> None:
    available, held = canonical(registered), []
    for cpu, memory, disk, needs in wishes:
        gpus = assign_gpus(needs, available.gpus)
        if gpus is not None and fits_within(reserved := Resources(cpu, memory, disk, gpus), available):
            available = subtract(available, reserved)
            held.append(reserved)
        if held and random.random() < 0.4:
            available = add(available, held.pop(random.randrange(len(held))))
        assert add(available, total_of(held)) == canonical(registered)
        assert subtract(registered, total_of(held)) == available


def test_nothing_adds_up_to_nothing() -> None:
    assert total_of([]) == NOTHING


def test_shares_of_one_device_are_added_up() -> None:
    gpus = (Gpu("0", "nvidia", "A100", 10, 500), Gpu("0", "nvidia", "A100", 5, 250))
    assert canonical(Resources(gpus=gpus)).gpus == (Gpu("0", "nvidia", "A100", 15, 750),)


def test_a_device_of_which_nothing_is_left_is_not_listed() -> None:
    whole = Resources(gpus=(Gpu("0", memory_bytes=10), Gpu("1", memory_bytes=10)))
    assert subtract(whole, Resources(gpus=(Gpu("0", memory_bytes=10),))).gpus == (Gpu("1", memory_bytes=10),)


def test_nothing_of_a_device_is_nothing_even_where_the_device_is_not_there() -> None:
    nothing = Resources(gpus=(Gpu("0", milli=0),))
    assert canonical(nothing) == subtract(NOTHING, nothing) == add(NOTHING, nothing) == NOTHING
    assert fits_within(nothing, NOTHING)


def test_memory_that_is_left_without_a_share_is_still_counted() -> None:
    whole = Resources(gpus=(Gpu("0", memory_bytes=10, milli=500),))
    left = subtract(whole, Resources(gpus=(Gpu("0", memory_bytes=4, milli=500),)))
    assert left.gpus == (Gpu("0", memory_bytes=6, milli=0),)


@pytest.mark.parametrize(
    ("whole", "part", "names"),
    [
        (Resources(cpu_millicores=1), Resources(cpu_millicores=2), "cpu_millicores"),
        (Resources(memory_bytes=1), Resources(memory_bytes=2), "memory_bytes"),
        (Resources(disk_bytes=1), Resources(disk_bytes=2), "disk_bytes"),
        (Resources(), Resources(gpus=(Gpu("0"),)), "gpu '0'"),
        (Resources(gpus=(Gpu("0", milli=500),)), Resources(gpus=(Gpu("0", milli=501),)), "gpu '0'"),
        (Resources(gpus=(Gpu("0", memory_bytes=1),)), Resources(gpus=(Gpu("0", memory_bytes=2),)), "gpu '0'"),
    ],
)
def test_subtracting_more_than_there_is_raises_and_names_the_dimension(
    whole: Resources, part: Resources, names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        subtract(whole, part)


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        (Gpu("0", milli=600), Gpu("0", milli=500), "more than the whole"),
        (Gpu("0", vendor="nvidia", milli=1), Gpu("0", vendor="amd", milli=1), "two ways"),
        (Gpu("", milli=1), Gpu("0", milli=1), "names no device"),
    ],
)
def test_adding_what_cannot_be_one_machine_raises(left: Gpu, right: Gpu, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        add(Resources(gpus=(left,)), Resources(gpus=(right,)))


def test_needs_that_name_no_device_fit_nowhere_as_amounts() -> None:
    assert not fits_within(Resources(gpus=(Gpu(),)), Resources(gpus=(Gpu("0"),)))
