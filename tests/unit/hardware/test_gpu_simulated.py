"""Invented GPUs: what the setting says is what is offered, and what it cannot mean is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.gpu_simulated import SIMULATED, simulate
from dms_proto.errors import UserError
from dms_proto.units import GIB


def test_invented_devices_are_made_as_asked_and_marked() -> None:
    found = simulate("2xA100-40G, 1xH100-SXM5-80GB,1xMI300X-192GiB")
    assert [(gpu.device, gpu.vendor, gpu.model, gpu.memory_bytes // GIB) for gpu in found.offers] == [
        ("sim-0", "nvidia", "A100" + SIMULATED, 40),
        ("sim-1", "nvidia", "A100" + SIMULATED, 40),
        ("sim-2", "nvidia", "H100-SXM5" + SIMULATED, 80),
        ("sim-3", "amd", "MI300X" + SIMULATED, 192),
    ]
    assert all(gpu.simulated for gpu in found.gpus)


@pytest.mark.parametrize(
    "text",
    ["A100", "2xA100", "0xA100-40G", "2xA100-0G", "2xA100-40", "xA100-4G", "2xA100-40G,", "1x-4G", "99xA-1G", "٢xA-1G"],
)
def test_what_is_no_invented_machine_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"provider\.simulate_gpus") as caught:
        simulate(text)
    assert caught.value.code == "bad_config"


@given(st.integers(1, 64), st.sampled_from(["A100", "L4", "H100-PCIe", "RTX 4090"]), st.integers(1, 9999))
def test_any_invented_machine_in_the_stated_form_is_made(count: int, model: str, memory: int) -> None:
    offers = simulate(f"{count}x{model}-{memory}G").offers
    assert len({gpu.device for gpu in offers}) == len(offers) == count
    assert {(gpu.model, gpu.memory_bytes) for gpu in offers} == {(model + SIMULATED, memory * GIB)}


def test_nothing_asked_nothing_invented() -> None:
    assert simulate("").gpus == ()


def test_a_divided_device_is_offered_as_its_instances() -> None:
    found = simulate("1xA100-40G/2x1g.5gb+1x3g.20gb,1xL4-24G")

    assert [(gpu.device, gpu.model, gpu.memory_bytes // GIB, gpu.milli, gpu.part) for gpu in found.offers] == [
        ("MIG-sim-0-0", "A100 MIG 1g.5gb" + SIMULATED, 5, 1000, 143),
        ("MIG-sim-0-1", "A100 MIG 1g.5gb" + SIMULATED, 5, 1000, 143),
        ("MIG-sim-0-2", "A100 MIG 3g.20gb" + SIMULATED, 20, 1000, 500),
        ("sim-1", "L4" + SIMULATED, 24, 1000, 1000),
    ]
    assert [gpu.uuid for gpu in found.gpus] == ["MIG-sim-0-0", "MIG-sim-0-1", "MIG-sim-0-2", "GPU-sim-1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1xA100-40G/", "'' is not COUNTxSLICESg.MEMORYgb"),
        ("1xA100-40G/1g.5gb", "'1g.5gb' is not COUNTxSLICESg.MEMORYgb"),
        ("1xA100-40G/0x1g.5gb", "is not COUNTxSLICESg"),
        ("1xA100-40G/8x1g.5gb", "8 slices, more than 7"),
        ("1xA100-40G/3x1g.20gb", "60 GiB in its instances, more than 40 GiB"),
        ("1xMI300X-192G/1x1g.5gb", "only NVIDIA"),
    ],
)
def test_a_division_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=r"provider\.simulate_gpus") as caught:
        simulate(text)
    assert says in str(caught.value)
