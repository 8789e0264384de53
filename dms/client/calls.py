"""A call of a function: as bytes on its way out, and what the bytes that come back mean. See `dms.calls.worker` for the format.

With the codec "pickle" an answer is opened here, in the caller's own process, and whoever runs the worker can put into it what he likes: unpickling
runs it. The codec "json" opens nothing: results are JSON, exceptions are told in words.
"""

from __future__ import annotations

import json
import pickle
from concurrent.futures import Future
from typing import Any, Final, Literal

import cloudpickle
import msgspec

from dms.calls import worker
from dms.client.errors import RemoteError, RemoteTraceback
from dms_proto.untrusted import read_json

Codec = Literal["pickle", "json"]
CODECS: Final[dict[str, bytes]] = {"pickle": worker.PICKLE, "json": worker.JSON}


class Failure(msgspec.Struct, frozen=True):
    """What is told in words of an exception."""

    type: str
    message: str
    traceback: str


class Call:
    """One call and its future."""

    __slots__ = ("codec", "frame", "future", "sent_at", "tries")

    def __init__(self, future: Future[Any], frame: bytes, codec: Codec, tries: int) -> None:
        """`tries`: workers that may be lost over it before it is given up, and one."""
        self.future = future
        self.frame = frame
        self.codec = codec
        self.tries = tries
        self.sent_at = 0.0

    def begin(self) -> bool:
        """Says that a worker gets it; False: it was cancelled before. Once it has begun it cannot be cancelled."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def settle(self, answer: bytes) -> None:
        """Takes its answer.

        Raises:
            ValueError: that is none; it is still open.
        """
        match answer[:1]:
            case worker.RESULT:
                self._settle_result(answer)
            case worker.FAILED:
                self.future.set_exception(_exception(answer, self.codec))
            case _:
                raise ValueError(answer[:1])

    def fail(self, error: BaseException) -> None:
        """Ends it without an answer."""
        if self.begin():
            self.future.set_exception(error)

    def _settle_result(self, answer: bytes) -> None:
        body = memoryview(answer)[1:]
        if self.codec == "json":
            try:
                result = json.loads(bytes(body))
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
        else:
            try:
                result = pickle.loads(body)  # noqa: S301 - the caller's own risk, as the module says
            except BaseException as error:  # noqa: BLE001 - a pickle can raise anything; it is the answer that nobody can have
                self.future.set_exception(error)
                return
        self.future.set_result(result)


def framed(shape: bytes, codec: Codec, function: Any, arguments: Any, keywords: dict[str, Any]) -> bytes:
    """A call as bytes.

    Raises:
        ValueError: it is too long.
        Exception: it cannot be pickled.
    """
    return worker.framed(CODECS[codec], shape, cloudpickle.dumps((function, arguments, keywords)))


def _exception(answer: bytes, codec: Codec) -> BaseException:
    head = 1 + worker.LENGTH.size
    if len(answer) < head:
        raise ValueError("it is cut off")
    (size,) = worker.LENGTH.unpack(answer[1:head])
    try:
        said = read_json(answer[head : head + size], Failure)
    except msgspec.DecodeError as error:
        raise ValueError("it cannot be read") from error
    original = _original(answer[head + size :]) if codec == "pickle" else None
    raised = original or RemoteError(said.type, said.message)
    raised.__cause__ = RemoteTraceback(said.traceback)
    return raised


def _original(pickled: bytes) -> BaseException | None:
    """The exception itself, if it can be had."""
    if not pickled:
        return None
    try:
        error = pickle.loads(pickled)  # noqa: S301 - see above
    except BaseException:  # noqa: BLE001 - then it is told in words
        return None
    return error if isinstance(error, BaseException) else None
