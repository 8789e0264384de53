"""What a provider's history says about its prices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.market.price_history import FEWEST, MOST, PRESENT, Asked, Fate, suggest


def asked(*paid: int, fate: Fate = Fate.WON) -> list[Asked]:
    """Requests for something that costs 1,000 now, by what would have been paid."""
    return [Asked(1_000, most, fate) for most in paid]


history = st.lists(st.builds(Asked, st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(Fate)))


def test_without_history_nothing_is_suggested() -> None:
    said = suggest([])

    assert (said.factor, said.quartiles) == (PRESENT, (0, 0, 0))
    assert said.why.startswith("stay: 0 of the 8 requests")


def test_a_price_that_many_would_not_pay_is_lowered_to_what_three_of_four_pay() -> None:
    said = suggest([*asked(500, 600, 700, fate=Fate.TOO_DEAR), *asked(1_000, 1_100, 1_200, 1_300, 1_400)])

    assert (said.factor, said.quartiles) == (700, (700, 1_100, 1_300))
    assert (said.won, said.lost, said.too_dear, said.forgone) == (5, 0, 3, 1_800)
    assert said.why.startswith("lower")


def test_a_price_that_all_would_pay_twice_is_raised_while_bids_are_won() -> None:
    assert suggest(asked(*[2_000] * 8)).factor == 2_000


def test_a_price_is_not_raised_while_others_are_chosen() -> None:
    said = suggest([*asked(*[2_000] * 3), *asked(*[2_000] * 5, fate=Fate.LOST)])

    assert said.factor == PRESENT
    assert said.why.startswith("stay: it would be paid")


def test_who_sets_no_real_limit_counts_as_ten_times_the_price() -> None:
    assert suggest(asked(*[10**15] * 8)).factor == MOST
    assert Asked(0, 0, Fate.WON).paid == MOST


@given(history)
def test_quartiles_grow_and_everything_is_counted(requests: list[Asked]) -> None:
    said = suggest(requests)

    assert said.won + said.lost + said.too_dear == len(requests)
    assert said.quartiles == tuple(sorted(said.quartiles))
    assert 0 < said.factor <= MOST
    if len(requests) >= FEWEST and said.factor < PRESENT and said.factor > 1:
        assert sum(one.paid >= said.factor for one in requests) * 4 >= 3 * len(requests)
