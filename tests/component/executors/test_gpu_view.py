"""What a job in a sandbox is shown of GPUs: the device nodes of those it was given, their names, and nothing of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.hardware.gpu_types import FoundGpu
from dms.testing.executor_contract import events_of, output_of
from dms_actors.ports import Exited
from dms_proto.capability import Gpu, Resources
from dms_proto.work import Ending, EndReason, Limits, Task

pytestmark = pytest.mark.slow

NOT_MADE_YET = ("/dev/nvidia-uvm-that-is-not", "/dev/nvidia-uvm")


def card(number: int) -> FoundGpu:
    """A device whose own node is /dev/null by another name."""
    nodes = (NOT_MADE_YET, ("/dev/zero", "/dev/nvidiactl"), ("/dev/null", f"/dev/nvidia{number}"))
    return FoundGpu("nvidia", "A100", offer=Gpu(str(number), "nvidia", "A100"), uuid=f"GPU-{number}", nodes=nodes)


@pytest.fixture
def settings(tmp_path: Path) -> ExecutorSettings:
    return ExecutorSettings(tmp_path / "state", gpus=(card(0), card(1), card(2)))


async def ran(sandbox: Sandbox, directory: Path, script: str, *devices: str, **variables: str) -> tuple[str, Ending]:
    gpus = tuple(Gpu(device, "nvidia", "A100") for device in devices)
    task = Task(
        "sandbox",
        ("/bin/sh", "-c", script),
        environment=variables,
        resources=Resources(gpus=gpus),
        limits=Limits(wall_ms=60_000),
    )
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    assert isinstance(events[-1], Exited)
    return output_of(events, "stdout").decode(), events[-1].ending


async def test_a_job_opens_the_devices_it_was_given_and_sees_no_other(sandbox: Sandbox, directory: Path) -> None:
    look = "ls /dev | grep nvidia; stat -c %t:%T /dev/nvidia2; echo x >/dev/nvidia2 && head -c 2 /dev/nvidiactl | wc -c"
    told, ending = await ran(sandbox, directory, look, "2")
    assert told.split() == ["nvidia2", "nvidiactl", "1:3", "2"]
    assert ending.reason is EndReason.COMPLETED


async def test_a_job_is_told_its_devices_whatever_it_says_itself(sandbox: Sandbox, directory: Path) -> None:
    say = "echo $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES"
    told, _ = await ran(sandbox, directory, say, "2", "0", NVIDIA_VISIBLE_DEVICES="all")
    assert told == "GPU-2,GPU-0 GPU-2,GPU-0\n"


async def test_a_job_without_gpus_is_shown_none(sandbox: Sandbox, directory: Path) -> None:
    told, ending = await ran(sandbox, directory, "ls /dev | grep nvidia; echo ${CUDA_VISIBLE_DEVICES-unset}")
    assert told == "unset\n"
    assert ending.reason is EndReason.COMPLETED


async def test_a_device_that_is_gone_is_the_providers_fault(sandbox: Sandbox, directory: Path) -> None:
    _, ending = await ran(sandbox, directory, "true", "7")
    assert (ending.reason, "GPU 7 (A100) cannot be used" in ending.detail) == (EndReason.PROVIDER_FAULT, True)
