from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto import units

quantities = st.integers(0, units.MAX_QUANTITY)


@given(quantities)
def test_a_plain_number_of_bytes_is_itself(value: int) -> None:
    assert units.parse_bytes(value) == value
    assert units.parse_bytes(f"{value}B") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4GiB", 4 * 2**30),
        ("512Mi", 512 * 2**20),
        ("1.5GB", 1_500_000_000),
        (" 2 kib ", 2048),
        ("1TiB", 2**40),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, value: int) -> None:
    assert units.parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("250ms", 250), ("1.5", 1500), ("1d", 86_400_000)],
)
def test_durations_are_read_as_people_write_them_and_a_bare_number_is_seconds(text: str, value: int) -> None:
    assert units.parse_millis(text) == value


@pytest.mark.parametrize(("text", "value"), [(2, 2000), (0.5, 500), ("500m", 500), ("1.25", 1250)])
def test_cores_are_read_as_people_write_them(text: str | float, value: int) -> None:
    assert units.parse_millicores(text) == value


@given(st.integers(0, units.MAX_QUANTITY))
def test_credits_printed_are_read_back_exactly(value: int) -> None:
    text = units.format_credits(value)
    assert text.endswith(" credit" if value == units.CREDIT else " credits")
    assert units.parse_credits(text.split()[0]) == value


@pytest.mark.parametrize(
    ("number", "text", "replies"),
    [(0, "0 nodes", "0 replies wait"), (1, "1 node", "1 reply waits"), (2, "2 nodes", "2 replies wait")],
)
def test_one_is_singular_and_every_other_number_plural(number: int, text: str, replies: str) -> None:
    assert units.format_count(number, "node") == text
    assert units.format_count(number, "reply waits", "replies wait") == replies


@given(st.integers(0, 10**9))
def test_cores_printed_are_read_back_exactly(value: int) -> None:
    text = units.format_cores(value)
    assert text.endswith(" core" if value == 1000 else " cores")
    assert units.parse_millicores(text.split()[0]) == value


@given(quantities)
def test_bytes_printed_are_never_more_than_the_value_and_within_one_percent(value: int) -> None:
    number, unit = units.format_bytes(value).split()
    step = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    shown = float(number) * step
    assert shown <= value <= shown * 1.01 + 0.01
    assert float(number) < 1024 or unit == "TiB"


@given(st.integers(0, 3_599_999))
def test_durations_printed_never_reach_sixty_of_the_smaller_unit(value: int) -> None:
    text = units.format_millis(value)
    assert not text.startswith("60 s")
    assert "60s" not in text.split()[-1:]


@given(st.integers(1, 10**12))
def test_a_negative_duration_is_the_positive_one_with_a_sign(value: int) -> None:
    assert units.format_millis(-value) == "-" + units.format_millis(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (250, "250 ms"),
        (1500, "1.5 s"),
        (59_999, "59.99 s"),
        (90_500, "1m 30.5s"),
        (119_999, "1m 59.99s"),
        (7_260_000, "2h 1m"),
    ],
)
def test_durations_are_printed_for_people(value: int, text: str) -> None:
    assert units.format_millis(value) == text


def test_a_single_millicore_is_not_shown_as_nothing() -> None:
    assert units.format_cores(1) == "0.001 cores"
    assert units.format_cores(1000) == "1 core"
    assert units.format_cores(1500) == "1.5 cores"


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_millis, units.parse_millicores, units.parse_credits])
@pytest.mark.parametrize("text", ["", "many", "-1", "1e3", "1,5", "٣", "1 2", "nan", "inf", "0x10", "1.5.5", "9" * 19])
def test_what_is_no_quantity_is_refused_with_value_error(parse: object, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|larger"):
        parse(text)  # type: ignore[operator]


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_within_bounds_or_refused(text: str) -> None:
    for parse in (units.parse_bytes, units.parse_millis, units.parse_millicores, units.parse_credits):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert 0 <= value <= units.MAX_QUANTITY


def test_finer_than_the_smallest_unit_is_refused_rather_than_rounded() -> None:
    with pytest.raises(ValueError, match="finer"):
        units.parse_millicores("0.0005")
    with pytest.raises(ValueError, match="finer"):
        units.parse_bytes("0.3B")
    with pytest.raises(ValueError, match="finer"):
        units.parse_credits("0.0000001")


def test_larger_than_the_largest_quantity_is_refused() -> None:
    assert units.parse_bytes(units.MAX_QUANTITY) == units.MAX_QUANTITY
    with pytest.raises(ValueError, match="larger"):
        units.parse_bytes(units.MAX_QUANTITY + 1)


def test_credits_know_no_milli_suffix() -> None:
    with pytest.raises(ValueError, match="credits"):
        units.parse_credits("20m")


@pytest.mark.parametrize(
    ("value", "text"),
    [(-5, "0 s"), (0, "0 s"), (59_999, "59 s"), (132_930, "2 min"), (units.HOUR, "1 h"), (49 * units.HOUR, "2 d")],
)
def test_an_age_is_one_unit(value: int, text: str) -> None:
    assert units.format_age(value) == text


@pytest.mark.parametrize(
    ("parse", "largest"),
    [
        (units.parse_credits, "9007199254.740992 credits"),
        (units.parse_bytes, "8192 TiB"),
        (units.parse_millicores, "9007199254740.992 cores"),
    ],
)
def test_too_much_is_refused_with_the_most_there_can_be_in_the_unit_it_was_asked_in(
    parse: Callable[[str], int], largest: str
) -> None:
    with pytest.raises(ValueError, match=f"'99999999999999999' is larger than the most there can be, {largest}"):
        parse("99999999999999999")
