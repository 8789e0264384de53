"""Giving GPU needs concrete shares: valid, complete on small machines, deterministic, bounded."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings

from dms_proto.capability import Gpu, Resources
from dms_proto.market.arithmetic import fits_within
from dms_proto.market.gpus import MAX_STEPS, assign_gpus, serves
from dms_proto.units import GIB
from tests.unit.proto.market.market_strategies import gpu_devices, gpu_needs


@given(gpu_needs(), gpu_devices())
def test_every_need_gets_what_it_asks_for_and_no_device_gives_more_than_it_has(needs, free) -> None:
    given_ = assign_gpus(needs, free)
    if given_ is None:
        return
    devices = {device.device: device for device in free}
    assert fits_within(Resources(gpus=given_), Resources(gpus=free))
    for need, share in zip(needs, given_, strict=True):
        assert serves(need, devices[share.device])
        assert share.milli == need.milli
        assert share.memory_bytes >= need.memory_bytes
        if need.milli == 1000:
            assert share == devices[share.device], "a whole GPU is given whole, from a device that is entirely free"


@settings(max_examples=300)
@given(gpu_needs(), gpu_devices(3))
def test_an_assignment_is_found_whenever_there_is_one(needs, free) -> None:
    def possible(devices: tuple[int, ...]) -> bool:
        for at, device in enumerate(free):
            mine = [need for need, chosen in zip(needs, devices, strict=True) if chosen == at]
            if sum(n.milli for n in mine) > device.milli or sum(n.memory_bytes for n in mine) > device.memory_bytes:
                return False
            if not all(serves(need, device) for need in mine):
                return False
        return True

    exists = any(possible(choice) for choice in itertools.product(range(len(free)), repeat=len(needs)))
    assert (assign_gpus(needs, free) is not None) == exists


@given(gpu_needs(), gpu_devices())
def test_more_free_never_turns_a_fit_into_a_misfit(needs, free) -> None:
    more = (*free, Gpu("extra", "nvidia", "A100", 80 * GIB))
    if assign_gpus(needs, free) is not None:
        assert assign_gpus(needs, more) is not None


@given(gpu_needs(), gpu_devices())
def test_the_order_of_the_devices_does_not_decide_whether_it_fits(needs, free) -> None:
    assert (assign_gpus(needs, free) is None) == (assign_gpus(needs, tuple(reversed(free))) is None)


def test_no_needs_get_no_shares() -> None:
    assert assign_gpus((), ()) == ()
    assert assign_gpus((), (Gpu("0"),)) == ()


def test_a_whole_gpu_comes_with_all_its_memory() -> None:
    assert assign_gpus((Gpu(memory_bytes=GIB),), (Gpu("0", memory_bytes=40 * GIB),)) == (
        Gpu("0", memory_bytes=40 * GIB),
    )


def test_a_share_goes_to_the_device_that_has_least_left() -> None:
    free = (Gpu("0", memory_bytes=40 * GIB), Gpu("1", memory_bytes=40 * GIB, milli=500))
    assert assign_gpus((Gpu(memory_bytes=GIB, milli=400),), free) == (Gpu("1", "", "", GIB, 400),)


def test_a_whole_need_takes_the_smallest_device_that_will_do() -> None:
    free = (Gpu("0", memory_bytes=80 * GIB), Gpu("1", memory_bytes=24 * GIB))
    assert assign_gpus((Gpu(memory_bytes=16 * GIB),), free) == (Gpu("1", memory_bytes=24 * GIB),)


def test_best_fit_is_undone_where_it_leads_nowhere() -> None:
    # The share of 400 best fits device 0 (500 left), but then the need for device 0's vendor has no room.
    free = (Gpu("0", "nvidia", milli=500), Gpu("1", "amd", milli=600))
    needs = (Gpu(milli=400), Gpu(vendor="nvidia", milli=300))
    shares = assign_gpus(needs, free)
    assert shares is not None
    assert [share.device for share in shares] == ["1", "0"]


def test_a_need_of_nothing_counts_as_the_smallest_share() -> None:
    assert assign_gpus((Gpu(milli=0),), (Gpu("0"),)) == (Gpu("0", milli=1),)


def test_a_hostile_request_is_answered_within_the_bound() -> None:
    # 48 different shares that almost fill 16 devices: finding the packing, if there is one, would take for ever.
    needs = tuple(Gpu(milli=323 + i % 7, memory_bytes=(i * 37) % 101 * GIB) for i in range(48))
    free = tuple(Gpu(str(i), memory_bytes=(150 - i) * GIB) for i in range(16))
    assert assign_gpus(needs, free) == assign_gpus(needs, free)
    assert MAX_STEPS <= 10_000


def test_two_hundred_alike_shares_are_packed() -> None:
    needs = (Gpu(milli=100, memory_bytes=GIB),) * 200
    free = tuple(msgspec.structs.replace(Gpu(memory_bytes=10 * GIB), device=str(i)) for i in range(20))
    assert assign_gpus(needs, free) is not None
    assert assign_gpus((*needs, Gpu(milli=1)), free) is None
