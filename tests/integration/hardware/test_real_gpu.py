"""Detection on a machine with a real NVIDIA GPU and driver; skipped by name elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dms.config.settings import Config
from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.hardware.capability import propose
from dms.hardware.facts import read_facts
from dms.hardware.gpu import detect
from dms.hardware.gpu_nvml import read
from dms.hardware.gpu_simulated import SIMULATED
from dms.hardware.gpu_types import Detection
from dms.testing.executor_contract import events_of, output_of, sweep_all
from dms_proto.capability import Resources
from dms_proto.errors import MachineError
from dms_proto.units import GIB
from dms_proto.work import Limits, Task

pytestmark = pytest.mark.gpu


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


async def test_a_job_in_a_sandbox_uses_the_device_it_was_given_and_sees_no_other(
    found: Detection, tmp_path: Path
) -> None:
    if not (shutil.which("nvidia-smi") or "").startswith("/usr/"):
        pytest.skip("nvidia-smi is not below /usr, where a sandbox shows it")
    own = next((gpu for gpu in found.gpus if gpu.offer is not None and gpu.vendor == "nvidia"), None)
    if own is None or own.offer is None:
        pytest.skip("no NVIDIA GPU can be opened here")
    settings = ExecutorSettings(tmp_path / "state", gpus=found.gpus)
    sandbox, directory = Sandbox(settings), tmp_path / "job"
    directory.mkdir(mode=0o700)
    task = Task("sandbox", ("nvidia-smi", "-L"), resources=Resources(gpus=(own.offer,)), limits=Limits(wall_ms=60_000))
    try:
        sandbox.start()
        events = await events_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    finally:
        await sandbox.close()
        await sweep_all(settings)
    told = output_of(events, "stdout").decode()
    assert own.uuid in told
    others = [gpu.uuid for gpu in found.gpus if gpu.uuid and gpu.pci != own.pci]
    assert not any(uuid in told for uuid in others)


def test_memory_agrees_with_the_drivers_own_tool(found: Detection) -> None:
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
