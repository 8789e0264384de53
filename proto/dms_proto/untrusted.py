"""Reading what somebody else has written: whatever is wrong with it, how deep it is nested as well, is one error."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_TOO_DEEP: Final = "nested too deeply"


def read_msgpack(data: bytes, kind: type[T]) -> T:
    """What some msgpack says.

    Raises:
        msgspec.DecodeError: it is none of that kind, or is nested too deeply to read.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError(_TOO_DEEP) from error


def read_json(data: bytes, kind: type[T]) -> T:
    """What some JSON says.

    Raises:
        msgspec.DecodeError: it is none of that kind, not UTF-8, or is nested too deeply to read.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError(_TOO_DEEP) from error
