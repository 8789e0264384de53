"""What is printed is plain, aligned, and cannot move the cursor, whoever wrote it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.cli.blocks import Box, Boxes, Line, Table, clean
from dms.cli.text import plain
from dms.cli.views import words
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Resources
from dms_proto.units import GIB
from dms_proto.work import Ending, EndReason


def _text(*blocks: Line | Box | Boxes | Table) -> list[str]:
    return list(plain(blocks))


def test_boxes_and_tables_are_aligned_without_trailing_space() -> None:
    assert _text(
        Boxes((Box("One", (("a", "1"), ("long", "2"))), Box("Two", ()))),
        Table(("NAME", "N"), (("x", "1"), ("yy", "200")), frozenset({1})),
        Line(),
    ) == ["One", "  a     1", "  long  2", "Two", "NAME    N", "x       1", "yy    200", ""]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 😀", "plain é 漢 😀"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("line\nbreak\ttab", "line break tab"),
        ("\u202eevil", "\\u202eevil"),
        ("\r\x07", "\\x0d\\x07"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_whatever_is_cleaned_can_be_printed_on_one_line(text: str) -> None:
    assert clean(text).isprintable()


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_every_row_of_a_table_is_one_line(rows: list[tuple[str, str]]) -> None:
    assert len(_text(Table(("A", "B"), rows))) == len(rows) + 1


def test_a_terminal_gets_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from dms.cli import terminal

    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setenv("COLUMNS", "60")
    terminal.show(
        [
            Line("warned \x1b[2J", "warn"),
            Box("Title", (("k", "v [bold]x[/bold]"),)),
            Boxes((Box("B", ()),)),
            Table(("H",), (("cell",),)),
        ]
    )
    text = output.getvalue()
    for word in ("warned \\x1b[2J", "Title", "v [bold]x[/bold]", "H", "cell"):
        assert word in text


@pytest.mark.parametrize(
    ("amounts", "text"),
    [
        (Resources(), "nothing"),
        (Resources(1000, GIB, 0), "1 core, 1 GiB memory"),
        (
            Resources(500, 0, 0, (Gpu("0", "nvidia", "A100", 40 * GIB), Gpu(milli=500))),
            "0.5 cores, GPU 0 nvidia A100 40 GiB, 0.5 of GPU",
        ),
    ],
)
def test_resources_in_words(amounts: Resources, text: str) -> None:
    assert words.resources(amounts) == text


def test_needs_name_the_executor() -> None:
    assert words.needs(Capability(Resources(2000), executors=(ExecutorOffer("wasm"),))) == "wasm 2 cores"


@pytest.mark.parametrize(
    ("then", "text"), [(0, "never"), (99_000, "1 s ago"), (101_000, "0 s ago"), (40_000, "1 min ago")]
)
def test_times_gone_by(then: int, text: str) -> None:
    assert words.ago(then, 100_000) == text


def test_longer_times_gone_by() -> None:
    assert words.ago(1, 1 + 3 * 3_600_000) == "3 h ago"
    assert words.ago(1, 1 + 50 * 86_400_000) == "50 d ago"


def test_endings_name_whose_doing_it_was() -> None:
    assert words.ending(None) == ""
    assert words.ending(Ending(EndReason.COMPLETED, 0)) == "completed"
    assert (
        words.ending(Ending(EndReason.OUT_OF_MEMORY, 137, "256 MiB"))
        == "out of memory (requester), exit code 137: 256 MiB"
    )
    assert words.ending(Ending(EndReason.PROVIDER_LOST)) == "provider lost (network)"


def test_instants_are_utc() -> None:
    assert words.clock(1_700_000_000_123) == "2023-11-14 22:13:20.123Z"


def test_spans_need_both_ends() -> None:
    assert words.span(0, 5) == "-"
    assert words.span(1_000, 3_500) == "2.5 s"


def test_what_is_left_out_is_said() -> None:
    assert words.shown_of(2, 2, "bids") == ""
    assert "2 of 5 bids" in words.shown_of(2, 5, "bids")
