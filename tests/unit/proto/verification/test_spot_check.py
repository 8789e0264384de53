"""Spot checks of a claimed benchmark: one good one settles it, six short ones apart are a lie."""

from __future__ import annotations

from dms_proto.reputation import Kind
from dms_proto.verification.spot_check import APART_MS, ENOUGH, SHORT_IN_A_ROW, SpotChecks, found, is_due

CLAIM = 1_000


def after(*measured: int) -> tuple[SpotChecks, list[Kind | None]]:
    checks, kinds = SpotChecks(), []
    for index, score in enumerate(measured):
        checks, kind = found(checks, CLAIM, score, index * APART_MS)
        kinds.append(kind)
    return checks, kinds


def test_as_claimed_or_a_quarter_less_is_honest() -> None:
    assert after(750)[1] == [Kind.HONEST]
    assert after(749)[1] == [None]
    assert after(5_000)[1] == [Kind.HONEST]


def test_only_a_row_of_short_ones_is_held_against_a_provider() -> None:
    short = [500] * SHORT_IN_A_ROW
    assert after(*short)[1] == [None] * (SHORT_IN_A_ROW - 1) + [Kind.OVERSTATED]
    assert Kind.OVERSTATED not in after(*short[1:], 900, *short[1:])[1]


def test_a_lie_is_found_again_as_long_as_it_is_told() -> None:
    assert after(*[500] * (2 * SHORT_IN_A_ROW))[1].count(Kind.OVERSTATED) == 2


def test_checks_are_apart_and_go_on_while_there_is_doubt() -> None:
    proven = SpotChecks(good=10 * ENOUGH, at=1)
    doubted = SpotChecks(short=1, at=1)
    later = 1 + APART_MS
    assert is_due(SpotChecks(), 0, b"", 0)
    assert not is_due(doubted, later - 1, b"", 0)
    assert all(is_due(doubted, later, b"", number) for number in range(50))
    assert 0 < sum(is_due(proven, later, b"", number) for number in range(500)) < 100
