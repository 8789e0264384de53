"""Printing logs: whole lines of several, what is missing, another attempt, and since when."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from dms.cli.context import Io
from dms.cli.log_printing import JobLog, print_logs, since_ms
from dms.rpc.api.allocations import LogPart
from dms.rpc.api.jobs import JobLogParams
from dms_proto.errors import UserError

MINUTE = 60_000


class Logs:
    """A node that answers for each slot with these parts, one after the other."""

    def __init__(self, *slots: list[LogPart]) -> None:
        self.slots = slots

    def call(self, _method: str, params: JobLogParams, _kind: type) -> LogPart:
        parts = self.slots[params.slot]
        return parts.pop(0) if len(parts) > 1 else parts[0]


def printed(capsysbinary: pytest.CaptureFixture[bytes], *slots: list[LogPart]) -> tuple[str, str]:
    node: Any = Logs(*slots)
    logs = [JobLog(node, JobLogParams("r-x"), slot, len(slots)) for slot in range(len(slots))]
    print_logs(Io(None, as_json=False), logs, follow=True)
    out, err = capsysbinary.readouterr()
    return out.decode(), err.decode()


def parts(*texts: bytes, attempt: int = 1) -> list[LogPart]:
    """A log in these parts, complete with the last."""
    ends = [sum(map(len, texts[: number + 1])) for number in range(len(texts))]
    return [
        LogPart(text, end - len(text), end, complete=end == ends[-1], attempt=attempt)
        for text, end in zip(texts, ends, strict=True)
    ]


def test_lines_of_several_slots_are_never_mixed(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    out, err = printed(capsysbinary, parts(b"on", b"e\ntwo\nlast"), parts(b"un", b"o\n", b"due\n"))
    assert out == "[0] one\n[0] two\n[0] last\n[1] uno\n[1] due\n"
    assert err == ""


def test_one_log_is_printed_byte_by_byte(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert printed(capsysbinary, parts(b"on", b"e\rtwo"))[0] == "one\rtwo"


def test_what_did_not_arrive_is_told_where_it_was(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    log = [
        LogPart(b"begin\n", 0, 6, complete=False, attempt=1),
        LogPart(b"end\n", 10, 14, complete=False, missing=4, attempt=1),
        LogPart(b"", 14, 14, complete=True, missing=1, attempt=1),
    ]
    out, err = printed(capsysbinary, log)
    assert out == "begin\nend\n"
    assert err == (
        "dms: 4 bytes from byte 6 on did not arrive here before the node was lost\n"
        "dms: 1 byte from byte 14 on did not arrive here before the node was lost\n"
    )


def test_another_attempt_is_printed_from_its_beginning(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    first = [LogPart(b"first\n", 0, 6, complete=False, attempt=1), LogPart(b"", 6, 6, complete=False, attempt=1)]
    beyond = LogPart(b"\n", 6, 7, complete=True, attempt=2)  # the answer to a question about the first
    out, err = printed(capsysbinary, [*first, beyond, *parts(b"second\n", attempt=2)])
    assert out == "first\nsecond\n"
    assert err == "dms: began again; what it printed before is void\n"


def test_an_attempt_that_goes_on_makes_nothing_void(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    first = [LogPart(b"first\n", 0, 6, complete=False, attempt=1)]
    second = msgspec.structs.replace(parts(b"second\n", attempt=2)[0], goes_on=True)
    out, err = printed(capsysbinary, [*first, second, second])
    assert out == "first\nsecond\n"
    assert err == "dms: goes on from its last checkpoint\n"


def test_a_line_without_an_end_is_not_waited_for_forever(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    long = b"x" * 70_000
    assert printed(capsysbinary, parts(long, b"y\n"), parts(b"\n"))[0] == f"[0] {long.decode()}\n[1] \n[0] y\n"


def test_since_is_a_span_a_time_or_now() -> None:
    now = time.time_ns() // 1_000_000
    assert since_ms(None) == 0
    assert now <= since_ms("now") <= now + MINUTE
    assert now - 10 * MINUTE <= since_ms("10m") <= now - 9 * MINUTE
    assert since_ms("1970-01-01T00:00:05+00:00") == 5_000
    with pytest.raises(UserError, match="'soon' is no span such as 10m"):
        since_ms("soon")
