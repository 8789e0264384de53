from __future__ import annotations

import pytest

from dms.executors.gpus import given, nodes, variables
from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu
from dms_proto.errors import MachineError

CONTROL = ("/dev/nvidiactl", "/dev/nvidiactl")


def card(number: int, vendor: str = "nvidia") -> FoundGpu:
    own = (f"/dev/nvidia{number}", f"/dev/nvidia{number}")
    offer = Gpu(str(number), vendor, "A100")
    return FoundGpu(vendor, "A100", offer=offer, uuid=f"GPU-{number}", nodes=(CONTROL, own))


CARDS = (card(0), card(1), card(2))


def test_a_job_is_told_its_devices_in_the_order_of_its_needs() -> None:
    devices = given((Gpu("2", "nvidia", "A100"), Gpu("0", "nvidia", "A100")), CARDS)
    assert variables(devices) == {"CUDA_VISIBLE_DEVICES": "GPU-2,GPU-0", "NVIDIA_VISIBLE_DEVICES": "GPU-2,GPU-0"}
    assert [inside for _, inside in nodes(devices)] == ["/dev/nvidiactl", "/dev/nvidia2", "/dev/nvidia0"]


def test_two_shares_of_one_device_are_one_device() -> None:
    half = Gpu("1", "nvidia", "A100", 1, 500)
    assert given((half, half), CARDS) == (CARDS[1],)


def test_a_job_without_gpus_is_told_and_shown_nothing() -> None:
    assert (variables(given((), CARDS)), nodes(())) == ({}, ())


def test_cuda_is_told_nothing_of_other_vendors_devices() -> None:
    assert variables((card(0, "amd"),)) == {}


def test_a_device_that_is_gone_is_named() -> None:
    with pytest.raises(MachineError, match=r"GPU 7 \(A100\) cannot be used"):
        given((Gpu("7", "nvidia", "A100"),), CARDS)
