"""JSON-RPC 2.0 as data: what a request may look like, what a response says (https://www.jsonrpc.org/specification).

Reading is in two steps, so that a batch with one bad element is still answered for the others: bytes to a JSON value (`decode`), then each
element to a `Call` or a `Failure` (`read_call`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms_proto.errors import DmsError, InternalError, MachineError, PeerError, UserError
from dms_proto.untrusted import read_json

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
APPLICATION_ERROR: Final = -32000
"""A `DmsError`: its stable code is in `data.code`."""

MAX_BATCH: Final = 100
MAX_METHOD: Final = 128

Id = str | int | float | None
Params = dict[str, Any] | list[Any]

_MEANINGS: Final = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
}
_KINDS: Final[dict[str, type[DmsError]]] = {
    "user": UserError,
    "peer": PeerError,
    "machine": MachineError,
    "internal": InternalError,
}


class Call(msgspec.Struct, frozen=True):
    """A request, or (`notification`) one that wants no answer."""

    method: str
    params: Params
    id: Id
    notification: bool


class ErrorData(msgspec.Struct, frozen=True):
    """What `error.data` says beyond the specification.

    Attributes:
        code: stable, as in docs/reference/errors.md.
        kind: whose doing it was: "user", "peer", "machine" or "internal".
        hint: the next step, or empty.
        retryable: whether the same call may succeed later.
    """

    code: str
    kind: str = "user"
    hint: str = ""
    retryable: bool = False


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `error` of a response."""

    code: int
    message: str
    data: ErrorData | None = None


def failure(code: int, detail: str, data_code: str, *, hint: str = "") -> Failure:
    """A failure of the protocol itself, with its standard meaning before the detail."""
    kind = "internal" if code == INTERNAL_ERROR else "user"
    return Failure(code, f"{_MEANINGS[code]}: {detail}", ErrorData(data_code, kind=kind, hint=hint))


def failure_of(error: DmsError) -> Failure:
    """How an error of ours is told to a caller."""
    kind = next((name for name, cls in _KINDS.items() if isinstance(error, cls)), "internal")
    return Failure(APPLICATION_ERROR, error.message, ErrorData(error.code, kind, error.hint, error.retryable))


def error_of(failure: dict[str, Any]) -> DmsError:
    """The error a response tells of, as the class and code it had on the other side.

    Codes of a newer node that this one does not know become `internal` with the code in the message.
    """
    from dms_proto.errors import CODES  # noqa: PLC0415 - only when something failed

    data = failure.get("data")
    data = data if isinstance(data, dict) else {}
    code, message = str(data.get("code", "internal")), str(failure.get("message", ""))
    cls = _KINDS.get(str(data.get("kind", "internal")), InternalError)
    if code not in CODES:
        code, message = "internal", f"{message} [{code}]"
    return cls(code, message, hint=str(data.get("hint", "")), retryable=bool(data.get("retryable", False)))


def decode(data: bytes) -> Any:
    """The JSON value in `data`.

    Raises:
        ValueError: not JSON, not UTF-8, or nested too deeply to read.
    """
    try:
        return read_json(data, Any)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def read_call(value: object) -> Call | Failure:
    """One element of a request: a call, or why it is none."""
    if not isinstance(value, dict):
        return failure(INVALID_REQUEST, "a request is an object", "bad_argument")
    if value.get("jsonrpc") != "2.0":
        return failure(INVALID_REQUEST, 'the member "jsonrpc" must be "2.0"', "bad_argument")
    method = value.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD:
        return failure(INVALID_REQUEST, 'the member "method" must be a string', "bad_argument")
    if not is_id(value.get("id")):
        return failure(INVALID_REQUEST, 'the member "id" must be a string, a number or null', "bad_argument")
    params = value.get("params", {})
    if not isinstance(params, dict | list):
        return failure(INVALID_REQUEST, 'the member "params" must be an object or an array', "bad_argument")
    return Call(method, params, value.get("id"), "id" not in value)


def is_id(value: object) -> bool:
    """Whether `value` may be a request's id."""
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def id_of(value: object) -> Id:
    """The id to answer with, or None where it cannot be told (as the specification says)."""
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def result_response(id_: Id, result: object) -> dict[str, object]:
    """A response of success."""
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def error_response(id_: Id, error: Failure) -> dict[str, object]:
    """A response of failure."""
    return {"jsonrpc": "2.0", "id": id_, "error": error}


def notification(method: str, params: object) -> dict[str, object]:
    """A message from the node that wants no answer."""
    return {"jsonrpc": "2.0", "method": method, "params": params}
