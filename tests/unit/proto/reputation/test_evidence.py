"""Evidence: what counts for and against a provider, how it fades, and that folding it is exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.reputation import HALF_LIFE_MS, NOTHING_KNOWN, POINTS, Kind, noted
from dms_proto.reputation.evidence import WHOLE, fade, kinds_of
from dms_proto.work import DETERMINISTIC, NODE_FAULTS, EndReason


@pytest.mark.parametrize(
    ("amount", "passed", "left"),
    [(1000, 0, 1000), (1000, HALF_LIFE_MS // 2, 750), (1000, HALF_LIFE_MS, 500), (1000, 3 * HALF_LIFE_MS, 125)],
)
def test_an_amount_halves_in_its_half_life(amount: int, passed: int, left: int) -> None:
    assert fade(amount, passed) == left


@given(st.integers(0, 10**9), st.integers(-(10**12), 10**13), st.integers(0, 10**12))
def test_an_amount_never_grows_nor_falls_below_nothing(amount: int, passed: int, more: int) -> None:
    assert 0 <= fade(amount, passed + more) <= fade(amount, passed) <= amount


def test_a_clock_that_went_back_fades_nothing_and_gains_nothing() -> None:
    first = noted(NOTHING_KNOWN, Kind.KEPT, 10_000)
    assert noted(first, Kind.KEPT, 5_000).amounts == {Kind.KEPT: 2 * WHOLE}
    assert noted(first, Kind.KEPT, 5_000).at == 10_000


def test_right_results_count_in_a_row_until_a_wrong_one() -> None:
    evidence = NOTHING_KNOWN
    for kind in (Kind.RIGHT, Kind.KEPT, Kind.FAULT, Kind.RIGHT):
        evidence = noted(evidence, kind, 0)
    assert evidence.streak == 2
    assert noted(evidence, Kind.WRONG, 0).streak == 0
    assert noted(evidence, Kind.UNFIT, 0).streak == 0


@pytest.mark.parametrize("reason", EndReason)
def test_an_end_speaks_for_or_against_the_node_or_not_at_all(reason: EndReason) -> None:
    expected: tuple[Kind, ...] = ()
    if reason in DETERMINISTIC | {EndReason.COMPLETED}:
        expected = (Kind.KEPT,)
    elif reason in NODE_FAULTS:
        expected = (Kind.FAULT,)
    assert kinds_of(reason) == expected
    assert kinds_of(reason, claimed=1) == (*expected, Kind.OVERCLAIMED)


def test_every_kind_weighs_something() -> None:
    assert set(POINTS) == set(Kind)
    assert all(POINTS.values())
