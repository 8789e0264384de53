from __future__ import annotations

from types import SimpleNamespace

from dms.hardware.gpu_simulated import simulate
from dms.hardware.gpu_types import FoundGpu
from dms.hardware.gpu_use import GpuUse, read_use
from dms_proto.capability import Gpu
from dms_proto.units import GIB


class NVMLError(Exception):
    """As pynvml's."""


class ScriptedNvml:
    """The part of pynvml that is used: a card, an instance, and a card that is lost."""

    NVMLError = NVMLError
    is_open = False

    def nvmlInit(self) -> None:
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid == "GPU-lost":
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=3 * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[int]:
        return [1, 2]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        if handle.startswith("MIG-"):
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=43)


def card(device: str, uuid: str) -> FoundGpu:
    return FoundGpu("nvidia", "A100", offer=Gpu(device, "nvidia", "A100"), uuid=uuid)


def test_use_is_what_the_driver_tells_of_each_device() -> None:
    nvml = ScriptedNvml()
    found = (card("0", "GPU-0"), card("MIG-1", "MIG-1"), card("2", "GPU-lost"))
    assert read_use(found, lambda: nvml) == (GpuUse("0", 43, 3 * GIB, 2), GpuUse("MIG-1", None, 3 * GIB, 2))
    assert not nvml.is_open


def test_without_a_driver_there_are_no_figures() -> None:
    def missing() -> object:
        raise ImportError("No module named 'pynvml'")

    assert read_use((card("0", "GPU-0"),), missing) == ()


def test_invented_devices_have_no_figures() -> None:
    assert read_use(simulate("1xA100-40G").gpus, ScriptedNvml) == ()
