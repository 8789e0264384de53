"""The built-in result comparators: what each takes for the same, and that nothing in a file makes two different ones the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.comparing import Result, ResultComparator
from dms.comparing.json_values import JsonValues
from dms.comparing.lines import Lines
from dms.comparing.numbers import Numbers

Compare = Callable[[ResultComparator, bytes, bytes], bool]


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """Whether two results of one file `out`, and nothing printed, are the same; asked both ways round."""
    root = tmp_path_factory.mktemp("results")
    paths = root / "left", root / "right"

    def same(comparator: ResultComparator, left: bytes, right: bytes) -> bool:
        for path, text in zip(paths, (left, right), strict=True):
            path.write_bytes(text)
        one, other = (Result({"out": path}, Path("/dev/null")) for path in paths)
        answer = comparator.same(one, other)
        assert comparator.same(other, one) is answer
        return answer

    return same


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (b'{"a": 1, "b": [true, null]}', b'{"b":[true,null],\n"a":1.0}', True),
        (b"100", b"1e2", True),
        (b"0.1", b"0.10000000000000000000000000000001", False),
        (b"[1, 2]", b"[2, 1]", False),
        (b"true", b"1", False),
        (b'"1"', b"1", False),
        (b'["number", "1"]', b"1", False),
        (b"[NaN, -Infinity]", b"[NaN,-Infinity]", True),
        (b"NaN", b"null", False),
        (b"NaN", b'"NaN"', False),
        (b'{"a": 1, "a": 2}', b'{"a": 2}', False),
        (b'{"a": 1, "a": 2}', b'{"a": 1, "a":  2}', False),
        (b"1e99999999999999999999", b"2e99999999999999999999", False),
        (b"\xff", b"1", False),
        (b"not json", b"not  json", False),
        (b"not json", b"not json", True),
        (b"", b"null", False),
    ],
)
def test_json_compares_values(compare: Compare, left: bytes, right: bytes, same: bool) -> None:
    assert compare(JsonValues(""), left, right) is same


@pytest.mark.parametrize("close", [b"", b"]"])
@pytest.mark.parametrize("depth", [10**power for power in range(2, 6)])
def test_json_that_nests_too_deep_is_compared_byte_by_byte(compare: Compare, depth: int, close: bytes) -> None:
    text = b"[" * depth + close * depth
    assert compare(JsonValues(""), text, text)
    assert not compare(JsonValues(""), text, b"[" * (depth + 1) + close * (depth + 1))
    assert not compare(JsonValues(""), text, b"[1]")


@pytest.mark.parametrize(
    ("parameter", "left", "right", "same"),
    [
        ("", b"x = 1.0000001", b"x = 1.0000002", True),
        ("", b"x = 1.0", b"x = 1.1", False),
        ("", b"x = 1.0", b"y = 1.0", False),
        ("", b"a,1.5,2.5\nb,3.5,1e3\n", b"a,1.5,2.50\nb,3.5,1000.0\n", True),
        ("", b"1.0\n", b"1.0\n1.0\n", False),
        ("", b"1.0", b"1.0\n", False),
        ("", b"1000000000", b"1000000001", False),
        ("0.1", b"7", b"7.1", True),
        ("0.1", b"7", b"8", False),
        ("1e-3", b"-2.0", b"2.0", False),
        ("", b"1e-17", b"-3e-18", False),
        ("1e-6:1e-12", b"1e-17", b"-3e-18", True),
        (":1e-12", b"1e-17", b"-3e-18", True),
        ("", b"nan", b"nan", True),
        ("", b"1e400", b"1e500", False),
        ("0.1", b"v1.2", b"v1.3", False),
        ("0.1", b"sha 12ab", b"sha 13ab", False),
        ("", b"9" * 10_000, b"9" * 9_999 + b"8", False),
    ],
)
def test_numbers_may_differ_a_little_and_nothing_else(
    compare: Compare, parameter: str, left: bytes, right: bytes, same: bool
) -> None:
    assert compare(Numbers(parameter), left, right) is same


@pytest.mark.parametrize("parameter", ["x", "-1e-6", "0.2", "nan", "1e-6:x", "1e-6:inf", "1e-6:-1"])
def test_a_tolerance_that_is_none_is_refused_with_what_would_be_one(parameter: str) -> None:
    with pytest.raises(ValueError, match="numbers takes a tolerance such as 1e-6"):
        Numbers(parameter)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (b"a\nb\n", b"b\na", True),
        (b"a\na\nb\n", b"a\nb\nb\n", False),
        (b"a\n", b"a\na\n", False),
        (b"a\r\n", b"a\n", False),
        (b"", b"\n", False),
    ],
)
def test_lines_may_come_in_any_order(compare: Compare, left: bytes, right: bytes, same: bool) -> None:
    assert compare(Lines(""), left, right) is same


@pytest.mark.parametrize("make", [JsonValues, Lines])
def test_a_parameter_where_none_is_taken_is_refused(make: Callable[[str], ResultComparator]) -> None:
    with pytest.raises(ValueError, match="takes no parameter, and 'x' is one"):
        make("x")


def test_results_with_other_files_are_not_the_same(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("1")
    nothing = Path("/dev/null")
    one, other = Result({"out": tmp_path / "out"}, nothing), Result({"result": tmp_path / "out"}, nothing)
    printed = Result({"out": tmp_path / "out"}, tmp_path / "out")
    for comparator in (JsonValues(""), Lines(""), Numbers("")):
        assert not comparator.same(one, other)
        assert not comparator.same(one, printed)


@given(
    text=st.binary(max_size=200), make=st.sampled_from([lambda: JsonValues(""), lambda: Lines(""), lambda: Numbers("")])
)
def test_what_is_the_same_byte_for_byte_is_the_same(
    compare: Compare, text: bytes, make: Callable[[], ResultComparator]
) -> None:
    assert compare(make(), text, text)
