"""`json`: the same values, however they are written. What is no JSON, or nests too deep to be read, has to be the same byte for byte."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from dms.comparing import Result, same_files

_NO_JSON: Final = object()


class JsonValues:
    """Order of keys, white space and spelling of numbers (``1``, ``1.0``, ``1e0``) do not count; order of elements does.

    Numbers are compared exactly. NaN and Infinity, which some programs write, are the same as themselves. A file in which an object has a key
    twice is no JSON: readers differ on what it says.
    """

    def __init__(self, parameter: str) -> None:
        if parameter:
            raise ValueError(f"json takes no parameter, and {parameter!r} is one")

    def same(self, left: Result, right: Result) -> bool:
        """See `ResultComparator`."""
        return same_files(left, right, _same)


def _same(left: Path, right: Path) -> bool:
    one, other = left.read_bytes(), right.read_bytes()
    left_value, right_value = _value(one), _value(other)  # the same bytes too: see `ResultComparator.same`
    if left_value is _NO_JSON or right_value is _NO_JSON:
        return one == other
    try:
        return bool(left_value == right_value)
    except RecursionError:
        return one == other


def _value(text: bytes) -> Any:
    try:
        return json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
        )
    except (ValueError, InvalidOperation, RecursionError):
        return _NO_JSON


def _number(text: str) -> tuple[str, Decimal]:
    """A number as something that is equal to no other kind of value: in Python, 1 is True."""
    return "number", Decimal(text)


def _constant(text: str) -> tuple[str, str]:
    return "constant", text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found
