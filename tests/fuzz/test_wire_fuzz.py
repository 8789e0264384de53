"""A short run of the fuzzer (`scripts/fuzz_wire.py` runs a million frames): no frame raises, none is accepted that was not signed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dms_proto.wire import RefusalCode

FRAMES = 30_000


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "fuzz_wire.py"
    spec = importlib.util.spec_from_file_location("fuzz_wire", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_wire"] = module  # its named tuples look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_mutated_frames_end_in_a_value_and_reach_every_check(fuzzer: ModuleType) -> None:
    outcomes = fuzzer.fuzz(FRAMES, seed=1).outcomes
    assert outcomes.total() == FRAMES
    unreached = {
        RefusalCode.RATE,
        RefusalCode.SOURCE_RATE,
        RefusalCode.WINDOW_FULL,
    }  # depend on who sends, not on the bytes
    assert set(outcomes) == {"accepted"} | {code.value for code in set(RefusalCode) - unreached}


def test_a_fuzz_run_can_be_repeated(fuzzer: ModuleType) -> None:
    assert fuzzer.fuzz(300, seed=7).outcomes == fuzzer.fuzz(300, seed=7).outcomes
