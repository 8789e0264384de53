"""The work of a spot check: the same bytes everywhere, from a seed, and as much of it as a claim is worth."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import digest_of
from dms_proto.verification.spot_check import TOLERANCE_PERMILLE
from dms_proto.verification.spot_work import MOST_ROUNDS, TARGET_MS, answer_in, arguments, rounds_for, score_in, task


def printed(seed: bytes, rounds: int) -> bytes:
    return subprocess.run([sys.executable, *arguments(seed, rounds)], capture_output=True, check=True).stdout


def test_the_answer_is_the_same_on_every_machine_and_another_for_every_seed_and_length() -> None:
    assert printed(b"seed", 2) == b"22f03d7f5fcca4ca5402b3af70fbe53a86a144c2142589e55b2c490d8ce0902e\n"
    assert len({printed(seed, rounds) for seed in (b"seed", b"other") for rounds in (1, 2)}) == 4
    assert answer_in(b"x\n") == digest_of(b"x\n")


def test_a_provider_runs_the_same_program() -> None:
    given_out = task(b"seed", 2)
    assert (given_out.executor, given_out.command[1:]) == ("sandbox", arguments(b"seed", 2))
    assert given_out.command[0] == "python3"


@given(st.integers(min_value=100, max_value=3_000), st.integers(min_value=100, max_value=3_000))
def test_who_takes_the_time_that_its_claim_implies_is_found_as_claimed(claimed: int, truth: int) -> None:
    elapsed = TARGET_MS * claimed // truth
    tolerance = 1000 - TOLERANCE_PERMILLE
    assert abs(score_in(rounds_for(claimed), elapsed) - truth) <= truth // 20 + 10
    if claimed >= 2 * truth:
        assert 1000 * score_in(rounds_for(claimed), elapsed) < tolerance * claimed


def test_what_has_to_be_worked_out_is_bounded() -> None:
    assert (rounds_for(0), rounds_for(10**9)) == (1, MOST_ROUNDS)
