from __future__ import annotations

import io
import json
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.config.settings import Log
from dms.telemetry import logs

log = logging.getLogger("dms.test")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, [logging.getLogger(name).level for name in logs.ROOTS])
    yield
    logs.shut_down()
    root.setLevel(before[0])
    for name, level in zip(logs.ROOTS, before[1], strict=True):
        logging.getLogger(name).setLevel(level)


def test_a_line_says_time_level_logger_ids_and_message() -> None:
    out = io.StringIO()
    logs.set_up(Log(), terminal=out)
    log.info("committed to %s", "P", extra={"allocation": "a-1", "request": "r-1", "unknown": "x"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO dms\.test \[request=r-1 allocation=a-1\] committed to P\n",
        out.getvalue(),
    )


def test_without_ids_there_are_no_brackets() -> None:
    out = io.StringIO()
    logs.set_up(Log(), terminal=out)
    log.warning("hello")
    assert out.getvalue().endswith("Z WARNING dms.test hello\n")


def test_json_lines_are_objects_with_the_same_facts() -> None:
    out = io.StringIO()
    logs.set_up(Log(json=True), terminal=out)
    try:
        raise KeyError("gone")
    except KeyError:
        log.exception("failed\nbadly", extra={"peer": "P"})
    (line,) = out.getvalue().splitlines()
    record = json.loads(line)
    assert record["level"] == "error"
    assert record["logger"] == "dms.test"
    assert record["message"] == "failed\nbadly"
    assert record["peer"] == "P"
    assert "KeyError: 'gone'" in record["error"]


@given(st.text(max_size=200))
def test_whatever_a_peer_says_is_one_line_without_control_characters(text: str) -> None:
    line = logs.one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


def test_a_traceback_stays_on_the_line_of_its_record() -> None:
    out = io.StringIO()
    logs.set_up(Log(), terminal=out)
    try:
        raise ValueError("\x1b[2Jfake\nline")
    except ValueError:
        log.exception("failed")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "ValueError" in out.getvalue()


def test_a_huge_message_is_cut() -> None:
    out = io.StringIO()
    logs.set_up(Log(), terminal=out)
    log.info("%s", "x" * 10**6)
    assert len(out.getvalue()) < logs.MAX_MESSAGE + 200


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_decides_what_is_written(level: str, shown: int) -> None:
    out = io.StringIO()
    logs.set_up(Log(level=level), terminal=out)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert len(out.getvalue().splitlines()) == shown


def test_libraries_are_heard_from_warning_on() -> None:
    out = io.StringIO()
    logs.set_up(Log(level="debug"), terminal=out)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble")
    assert "chatter" not in out.getvalue()
    assert "trouble" in out.getvalue()


def test_files_are_private_rotate_by_size_and_old_ones_go(tmp_path: Path) -> None:
    file = tmp_path / "node.log"
    logs.set_up(Log(max_bytes=2000, backups=2), file)
    for number in range(100):
        log.info("record %d %s", number, "x" * 50)
    logs.shut_down()
    assert {path.name for path in tmp_path.iterdir()} == {"node.log", "node.log.1", "node.log.2"}
    for path in tmp_path.iterdir():
        assert path.stat().st_size <= 2000
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "record 99 " in file.read_text()


def test_setting_up_again_replaces_and_does_not_double() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up(Log(), terminal=first)
    logs.set_up(Log(), terminal=second)
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_log_that_cannot_be_written_is_told_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(Log(), tmp_path / "missing" / "node.log")
    log.info("one")
    log.info("two")
    told = capsys.readouterr().err
    assert told.count("lost a record") == 1
    assert "node.log" in told
