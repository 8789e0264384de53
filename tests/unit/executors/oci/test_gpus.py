from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors.oci.gpus import DeviceNode, Devices, Mount, devices_of
from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu
from dms_proto.errors import MachineError

SPEC = """cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits: {env: [A=1=2], deviceNodes: [{path: /dev/ctl}]}
devices:
- name: "0"
  containerEdits:
    env: [B=]
    deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null, permissions: rw}]
    mounts: [{hostPath: /usr/lib/a.so, containerPath: /lib/a.so, options: [ro]}]
- name: MIG-1
- name: GPU-7
- name: "7"
"""
HOOKED = """{"kind": "nvidia.com/gpu", "devices": [{"name": "hooked", "containerEdits":
{"hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}]}}]}"""


def gpu(device: str, vendor: str = "nvidia", *, uuid: str = "", simulated: bool = False) -> FoundGpu:
    return FoundGpu(vendor, "model", offer=Gpu(device, vendor, "model"), uuid=uuid, simulated=simulated)


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    (tmp_path / "nvidia.yaml").write_text(SPEC)
    (tmp_path / "hooked.json").write_text(HOOKED)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "odd.yaml").write_text("[1, 2]")
    return [tmp_path, tmp_path / "none"]


def names_of(places: list[Path], *devices: FoundGpu) -> tuple[str, ...]:
    return devices_of(devices, places, knows_cdi=True).names


def test_devices_are_named_as_files_name_them(places: list[Path]) -> None:
    named = names_of(places, gpu("0", uuid="GPU-0"), gpu("MIG-1", uuid="MIG-1"))
    assert named == ("nvidia.com/gpu=0", "nvidia.com/gpu=MIG-1")


def test_a_name_that_lasts_goes_before_a_number(places: list[Path]) -> None:
    assert names_of(places, gpu("7", uuid="GPU-7")) == ("nvidia.com/gpu=GPU-7",)


@pytest.mark.parametrize("missing", [gpu("1"), gpu("0", "amd"), gpu("0", "")])
@pytest.mark.parametrize("knows_cdi", [True, False])
def test_one_that_no_file_names_is_told(places: list[Path], missing: FoundGpu, knows_cdi: bool) -> None:
    assert missing.offer is not None
    with pytest.raises(MachineError, match=f"GPU {missing.offer.device} cannot be shown"):
        devices_of((gpu("0"), missing), places, knows_cdi=knows_cdi)


def test_a_job_without_gpus_needs_nothing(places: list[Path]) -> None:
    assert devices_of((), places, knows_cdi=False) == Devices()


def test_an_invented_one_needs_no_file(places: list[Path]) -> None:
    assert devices_of((gpu("sim-0", simulated=True),), places, knows_cdi=True) == Devices()


def test_for_an_engine_that_reads_no_files_they_are_done_here(places: list[Path]) -> None:
    devices = devices_of((gpu("0"), gpu("7", uuid="GPU-7")), places, knows_cdi=False)
    assert devices == Devices(
        nodes=(DeviceNode("/dev/ctl"), DeviceNode("/dev/nvidia0", "/dev/null", "rw")),
        mounts=(Mount("/usr/lib/a.so", "/lib/a.so"),),
        variables={"A": "1=2", "B": ""},
    )


def test_what_only_engines_can_do_is_not_left_out_in_silence(places: list[Path]) -> None:
    with pytest.raises(MachineError, match=r"hooked.json wants more than this engine can do") as caught:
        devices_of((gpu("hooked"),), places, knows_cdi=False)
    assert "podman 5 and Docker 25" in caught.value.hint
    assert names_of(places, gpu("hooked")) == ("nvidia.com/gpu=hooked",)
