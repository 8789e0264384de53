from __future__ import annotations

import msgspec
import pytest

from dms.executors.cluster.gpus import given, matched, ordered
from dms.hardware.gpu_simulated import simulate
from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu
from dms_proto.units import GIB

FOUND = simulate("2xA100-40G,1xL4-24G,1xMI300-192G").gpus
A100, L4 = (
    Gpu("large/a100/7", "nvidia", FOUND[0].model, 40 * GIB),
    Gpu("large/l4/0", "nvidia", FOUND[2].model, 24 * GIB),
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1,2"}, FOUND[1:3]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-sim-0"}, FOUND[:1]),
        ({"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}, (FOUND[0], FOUND[3])),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "9,-1, ,all"}, ()),
        ({}, ()),
    ],
    ids=["numbers", "a uuid", "two vendors", "slurm's word for none", "nonsense", "nothing"],
)
def test_what_was_given_is_read_from_the_variables(environment: dict[str, str], expected: tuple[FoundGpu, ...]) -> None:
    assert given(environment, FOUND) == expected


def test_a_uuid_may_be_cut_short_as_long_as_only_one_begins_like_it() -> None:
    found = tuple(
        msgspec.structs.replace(gpu, uuid=uuid)
        for gpu, uuid in zip(FOUND[:2], ("GPU-a0223334-4445", "GPU-a0b23334-4445"), strict=True)
    )
    assert given({"CUDA_VISIBLE_DEVICES": "GPU-a0b23334,GPU-a0223334"}, found) == (found[1], found[0])
    assert given({"CUDA_VISIBLE_DEVICES": "GPU-a0,GPU-c"}, found) == ()


def test_a_device_that_cannot_be_used_is_not_given() -> None:
    assert given({"CUDA_VISIBLE_DEVICES": "0"}, [FoundGpu("nvidia", "A100", problem="no driver")]) == ()


def test_what_was_promised_goes_by_its_name_to_a_device_that_is_as_good() -> None:
    found = matched((L4, A100), FOUND[1:3])
    assert [(gpu.uuid, gpu.offer) for gpu in found] == [(FOUND[2].uuid, L4), (FOUND[1].uuid, A100)]
    for too_few in (FOUND[:0], FOUND[2:3], FOUND[:1]):
        with pytest.raises(LookupError):
            matched((A100, A100), too_few)


def test_what_was_promised_is_ordered_by_the_engines_name_for_it() -> None:
    kinds = {"l4": L4, "a100": A100}
    assert [gpu.model for gpu in ordered((A100, L4), kinds)] == ["a100", "l4"]
    with pytest.raises(LookupError):
        ordered((A100,), {"l4": L4})
