from __future__ import annotations

import pytest

from dms.escort.devices import Devices


def test_each_device_is_in_use_by_one_job_at_a_time() -> None:
    devices = Devices({})
    with devices.taken(1, 3) as one, devices.taken(2, 3) as two:
        assert (one["CUDA_VISIBLE_DEVICES"], two["CUDA_VISIBLE_DEVICES"]) == ("0", "1,2")
        with pytest.raises(RuntimeError, match="wanted 1, free 0, in all 3"), devices.taken(1, 3):
            pass
    with devices.taken(3, 3) as all_of_them:
        assert all_of_them["ROCR_VISIBLE_DEVICES"] == "0,1,2"


def test_who_wants_none_is_told_of_none() -> None:
    with Devices({"CUDA_VISIBLE_DEVICES": "4"}).taken(0, 1) as given:
        assert given == {}


def test_those_that_the_worker_was_started_with_are_all_there_are() -> None:
    with Devices({"CUDA_VISIBLE_DEVICES": "4, GPU-7,9"}).taken(2, 2) as given:
        assert given["CUDA_VISIBLE_DEVICES"] == "4,GPU-7"
