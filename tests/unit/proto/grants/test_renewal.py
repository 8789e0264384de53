"""When a grant is made anew, and how far."""

from __future__ import annotations

import pytest

from dms_proto.grants.renewal import Renewal, promised
from dms_proto.units import DAY, HOUR, MINUTE, SECOND

NOW = 1_700_000_000_000
RENEWAL = Renewal(NOW + 10 * HOUR, 3 * HOUR)


@pytest.mark.parametrize(
    ("end", "due"),
    [
        (NOW + HOUR + 1, False),
        (NOW + HOUR, True),
        (NOW, True),
    ],
)
def test_it_is_due_in_the_last_third_of_its_span(end: int, due: bool) -> None:
    assert RENEWAL.is_due(end, NOW) is due


def test_no_renewal_ends_later_than_was_promised_and_then_none_is_due() -> None:
    assert RENEWAL.end(NOW) == NOW + 3 * HOUR
    assert RENEWAL.end(NOW + 9 * HOUR) == RENEWAL.until
    assert not RENEWAL.is_due(RENEWAL.until, RENEWAL.until)


def test_a_promise_has_the_span_of_the_first_grant_in_whole_seconds() -> None:
    assert promised(NOW + DAY + 1, NOW + HOUR + 999, NOW) == Renewal((NOW + DAY) // SECOND * SECOND, HOUR)


@pytest.mark.parametrize(
    ("until", "end"), [(NOW + DAY, 0), (NOW + HOUR, NOW + HOUR), (NOW + DAY, NOW), (0, NOW + HOUR)]
)
def test_what_could_never_be_renewed_is_not_promised(until: int, end: int) -> None:
    assert promised(until, end, NOW) is None


def test_it_is_asked_again_more_often_where_the_span_is_short_and_at_most_once_a_minute() -> None:
    assert Renewal(NOW, HOUR).pause_ms == MINUTE
    assert Renewal(NOW, 100 * HOUR).pause_ms == HOUR
