"""Whatever somebody else has written, reading it ends with a value or one error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.untrusted import read_json, read_msgpack

DEEP = 100_000


def test_what_is_nested_too_deeply_is_refused_like_what_is_broken() -> None:
    for data in (b"\x91" * DEEP + b"\xc0", b"\xc1", b""):
        with pytest.raises(msgspec.DecodeError):
            read_msgpack(data, list[Any])
    for data in (b"[" * DEEP + b"]" * DEEP, b"{", b"", b'"\xff"'):
        with pytest.raises(msgspec.DecodeError):
            read_json(data, list[Any])


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for read in (read_msgpack, read_json):
        try:
            read(data, dict[str, Any])
        except msgspec.DecodeError:
            continue


def test_what_is_right_is_read() -> None:
    assert read_msgpack(msgspec.msgpack.encode([1]), list[int]) == [1]
    assert read_json(b"[1]", list[int]) == [1]
