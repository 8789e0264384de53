from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.net.guards.varint import VarintSplitter


def encoded(body: bytes) -> bytes:
    head, length = bytearray(), len(body)
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + body


@given(st.lists(st.binary(max_size=400), max_size=20), st.integers(1, 500))
def test_bodies_come_out_whole_however_the_bytes_are_cut(bodies: list[bytes], step: int) -> None:
    stream = b"".join(map(encoded, bodies))
    splitter, out = VarintSplitter(1000), []
    for start in range(0, len(stream), step):
        out += splitter.feed(stream[start : start + step])
    assert out == bodies


def test_a_length_above_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="300 bytes"):
        VarintSplitter(100).feed(b"\xac\x02")


def test_a_length_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        VarintSplitter(100).feed(b"\xff" * 10)
