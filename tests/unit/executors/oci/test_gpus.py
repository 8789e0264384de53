from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors.oci.gpus import names_of
from dms_proto.capability import Gpu

SPEC = """cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}
- name: MIG-1
"""


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    (tmp_path / "nvidia.yaml").write_text(SPEC)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "odd.yaml").write_text("[1, 2]")
    return [tmp_path, tmp_path / "none"]


def test_devices_are_named_as_files_name_them(places: list[Path]) -> None:
    gpus = (Gpu("0", "nvidia"), Gpu("MIG-1", "nvidia"))
    assert names_of(gpus, places) == (("nvidia.com/gpu=0", "nvidia.com/gpu=MIG-1"), "")


@pytest.mark.parametrize("gpu", [Gpu("1", "nvidia"), Gpu("0", "amd"), Gpu("0", "")])
def test_one_that_no_file_names_is_told(places: list[Path], gpu: Gpu) -> None:
    names, why = names_of((Gpu("0", "nvidia"), gpu), places)
    assert names == ()
    assert f"GPU {gpu.device}" in why


def test_a_job_without_gpus_asks_for_none(places: list[Path]) -> None:
    assert names_of((), places) == ((), "")
