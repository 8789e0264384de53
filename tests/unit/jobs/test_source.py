"""Text to located values: what is read, from where, and what is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.jobs.problems import BadJob
from dms.jobs.source import MAX_DEPTH, MAX_DOCUMENT_BYTES, Located, located, parse


def _read(text: str) -> object:
    return parse(text.encode(), "job").plain()


def _refusal(data: str | bytes) -> BadJob:
    with pytest.raises(BadJob) as caught:
        parse(data.encode() if isinstance(data, str) else data, "job")
    return caught.value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("NO", "NO"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("010", 10),
        ("10:30", "10:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("1_000", "1_000"),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    assert _read(f"key: {written}") == {"key": value}


def test_a_scalar_remembers_how_it_was_written() -> None:
    root = parse(b"a: 1.10", "job.yaml")
    assert isinstance(root.value, dict)
    assert (root.value["a"].value, root.value["a"].text) == (1.1, "1.10")


@pytest.mark.parametrize("text", ["a: 1\nb:\n  - x\n  - y: 2\n", '{"a": 1,\n "b": [\n  "x",\n  {"y": 2}]}'])
def test_every_value_knows_its_line(text: str) -> None:
    root = parse(text.encode(), "job")
    assert isinstance(root.value, dict)
    items = root.value["b"].value
    assert isinstance(items, list)
    inner = items[1].value
    assert isinstance(inner, dict)
    assert [root.value["a"].line, items[0].line, inner["y"].line] == [1, 3, 4]


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("a: 1\nb: &x 2", 2, "anchors and aliases"),
        ("a: [*x]", 1, "anchors and aliases"),
        ("a: 1\n<<: {b: 2}\na: 2", 3, "stands twice (first on line 1)"),
        ("a: !!python/object:os.system x", 1, "tag"),
        ("a: !custom x", 1, "tag"),
        ("a: 1\n---\nb: 2", 3, "second YAML document"),
        ("", 0, "empty"),
        ("# only a comment", 0, "empty"),
        ("a: [1, 2\nb: 3", 2, "not well-formed YAML"),
        ("a: 1\n\tb: 2", 2, "not well-formed YAML"),
        ("? [a]\n: b", 1, "a key is a word"),
        ('{"a": 1,\n"a": 2}', 2, "stands twice (first on line 1)"),
        ('{"a": 1,\n}', 2, "not well-formed JSON"),
        ('{"a" 1}', 1, "not well-formed JSON"),
        ('{"a": 1} x', 1, "something follows"),
        ('{"a": "\\ud800"}', 1, "surrogate"),
        ('{"a": "\n"}', 1, "not well-formed JSON"),
        ('{"a": tru}', 1, "not well-formed JSON"),
        ('{"a": 012}', 1, "not well-formed JSON"),
    ],
)
def test_what_is_not_accepted_is_refused_with_its_line(text: str, line: int, rule: str) -> None:
    refusal = _refusal(text)
    assert refusal.code == "bad_job"
    assert refusal.problems[0].line == line
    assert rule in refusal.problems[0].rule


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "a: " + "{a: " * 10_000, "- " * 40 + "x"])
def test_deep_nesting_is_refused(text: str) -> None:
    assert f"{MAX_DEPTH} levels" in _refusal(text).message


def test_a_yaml_file_may_be_one_flow_mapping() -> None:
    assert parse(b"{command: [a, b]}", "job.yaml").plain() == {"command": ["a", "b"]}


def test_a_document_larger_than_the_limit_is_refused_unread() -> None:
    assert "larger than 1 MiB" in _refusal(b"#" * (MAX_DOCUMENT_BYTES + 1)).message


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    assert _refusal(b"a: 1\nb: \xff").problems[0].line == 2


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbfa: 1", "job").plain() == {"a": 1}


def test_too_many_values_are_refused() -> None:
    assert "more than" in _refusal("a: [" + "1," * 60_000 + "1]").message


def test_json_escapes_mean_what_they_mean_in_json() -> None:
    assert _read('{"a": "\\ud83d\\ude00\\/\\t"}') == {"a": "😀/\t"}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.sampled_from([None, 1, "\t"]))
def test_every_json_document_reads_as_json_does(value: dict[str, object], indent: int | str | None) -> None:
    assert parse(json.dumps(value, indent=indent).encode(), "job.json").plain() == value


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_bad_job(data: bytes) -> None:
    with contextlib.suppress(BadJob):
        assert isinstance(parse(data, "job"), Located)


def test_a_large_document_is_read_within_the_time_of_a_test() -> None:
    # 48,000 values on 24,000 lines; counting lines from the start for each would run into the time limit.
    text = '{"env": {\n' + ",\n".join(f'"K{index}": "v"' for index in range(24_000)) + "}}"
    env = parse(text.encode(), "job").value
    assert isinstance(env, dict)
    last = env["env"].value
    assert isinstance(last, dict)
    assert last["K23999"].line == 24_001


def test_plain_values_become_located_ones_and_back() -> None:
    assert located({"a": [1, "b", None], "c": {"d": True}}).plain() == {"a": [1, "b", None], "c": {"d": True}}
    with pytest.raises(TypeError):
        located({"a": object()})
