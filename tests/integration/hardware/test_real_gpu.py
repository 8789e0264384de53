"""Detection on a machine with a real NVIDIA GPU and driver; skipped by name elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.config.settings import Config
from dms.hardware.capability import propose
from dms.hardware.facts import read_facts
from dms.hardware.gpu import SIMULATED, Detection, detect
from dms.hardware.gpu_nvml import read
from dms_proto.units import GIB


@pytest.fixture(scope="module")
def found() -> Detection:
    devices, probe = read()
    if not devices:
        pytest.skip(f"no NVIDIA GPU that NVML can list: {probe.detail}")
    return detect()


def test_every_device_nvml_lists_is_named_with_address_and_driver(found: Detection) -> None:
    for gpu in (gpu for gpu in found.gpus if gpu.vendor == "nvidia"):
        assert gpu.model
        assert gpu.pci.count(":") == 2
        assert gpu.offer is not None or gpu.problem


def test_what_is_offered_could_be_opened_and_has_its_real_memory(found: Detection) -> None:
    if not found.offers:
        pytest.skip(f"no GPU can be opened here: {[gpu.problem for gpu in found.gpus]}")
    for offer in found.offers:
        assert offer.memory_bytes > GIB
        assert offer.milli == 1000
        assert SIMULATED not in offer.model


def test_memory_agrees_with_the_drivers_own_tool(found: Detection) -> None:
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        pytest.skip("nvidia-smi is not installed")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    told = [line.rsplit(",", 1) for line in lines]
    whole = [offer for offer in found.offers if offer.vendor == "nvidia" and not offer.device.startswith("MIG-")]
    if len(whole) != len(told):
        pytest.skip("some devices are partitioned or cannot be opened, so the lists do not correspond")
    for offer, (name, mebibytes) in zip(whole, told, strict=True):
        assert offer.model == name.strip()
        assert abs(offer.memory_bytes - int(mebibytes) * 2**20) < 2**20


def test_the_proposal_of_this_machine_offers_its_gpus(found: Detection, tmp_path: Path) -> None:
    capability = propose(read_facts(tmp_path), found, None, (), Config())
    assert capability.resources.gpus == found.offers
    assert capability.labels == {}
