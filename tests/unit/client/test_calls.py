"""What an answer means, whoever gave it."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.calls import worker
from dms.client.calls import Call, Codec, framed
from dms.client.errors import RemoteError, RemoteTraceback, WorkerLost

ABOUT = {"type": "KeyError", "message": "'x'", "traceback": "Traceback …"}


def call(codec: Codec = "pickle") -> Call:
    made = Call(Future(), b"", codec, 1)
    assert made.begin()
    return made


def failed(about: Any = ABOUT, rest: bytes = b"") -> bytes:
    said = json.dumps(about).encode()
    return worker.FAILED + worker.LENGTH.pack(len(said)) + said + rest


def settled(answer: bytes, codec: Codec = "pickle") -> Future[Any]:
    made = call(codec)
    made.settle(answer)
    return made.future


def test_what_the_worker_says_is_what_the_future_has() -> None:
    frame = framed(worker.ONE, "pickle", divmod, (7, 2), {})
    assert settled(worker.answered(frame[4:], cloudpickle)[4:]).result(0) == (3, 1)
    frame = framed(worker.EACH, "json", divmod, [(7, 2), (9, 3)], {})
    assert settled(worker.answered(frame[4:], cloudpickle)[4:], "json").result(0) == [[3, 1], [3, 0]]
    frame = framed(worker.ONE, "pickle", divmod, (7, 0), {})
    error = settled(worker.answered(frame[4:], cloudpickle)[4:]).exception(0)
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.__cause__, RemoteTraceback)


@pytest.mark.parametrize("rest", [b"", b"garbage", pickle.dumps("no exception"), pickle.dumps(KeyError("x"))[:-3]])
def test_an_exception_that_cannot_be_had_is_told_in_words(rest: bytes) -> None:
    error = settled(failed(rest=rest)).exception(0)
    assert isinstance(error, RemoteError)
    assert (error.type, error.message) == ("KeyError", "'x'")
    again = pickle.loads(pickle.dumps(error))
    assert (again.type, str(again)) == ("KeyError", str(error))


class Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_json_opens_no_pickle(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "went off"))
    with pytest.raises(ValueError, match=r".*"):
        settled(worker.RESULT + bomb, "json")
    assert isinstance(settled(failed(rest=bomb), "json").exception(0), RemoteError)
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=64), st.sampled_from([worker.RESULT, worker.FAILED, b""]))
def test_any_bytes_are_an_answer_or_none_and_nothing_else_is_raised(data: bytes, kind: bytes) -> None:
    made = call("json")
    try:
        made.settle(kind + data)
    except ValueError:
        made.fail(WorkerLost("it answered with what is no answer"))
    assert made.future.done()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        worker.FAILED,
        worker.FAILED + b"\xff\xff\xff\xff{}",
        failed([]),
        failed({"type": 1}),
        worker.FAILED + worker.LENGTH.pack(100_005) + b'{"x":' + b"[" * 100_000,
        worker.RESULT + b"[" * 100_000 + b"]" * 100_000,
        worker.RESULT + b"\xff",
    ],
)
def test_what_is_no_answer_leaves_the_call_open(answer: bytes) -> None:
    made = call("json")
    with pytest.raises(ValueError, match=r".*"):
        made.settle(answer)
    assert not made.future.done()


def test_a_cancelled_call_is_neither_begun_nor_failed() -> None:
    future: Future[Any] = Future()
    future.cancel()
    made = Call(future, b"", "pickle", 1)
    made.fail(WorkerLost("gone"))
    assert future.cancelled()
