from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.net import frames
from dms.net.config import MAX_FRAME
from dms.net.frames import Greeting, Kind
from dms.net.pipe import Splitter


@given(st.binary(max_size=1000))
def test_a_frame_is_its_length_a_zero_and_its_bytes(body: bytes) -> None:
    assert Splitter().feed(frames.frame(body)) == [bytes([Kind.FRAME]) + body]


def test_the_longest_frame_fits_into_the_longest_item_and_one_more_byte_does_not() -> None:
    assert Splitter(frames.MAX_ITEM).feed(frames.frame(bytes(MAX_FRAME)))
    with pytest.raises(ValueError, match="at most"):
        frames.frame(bytes(MAX_FRAME + 1))


def test_a_greeting_is_read_back() -> None:
    greeting = Greeting("dms/1", "agent", ("/ip4/127.0.0.1/tcp/1",))
    (item,) = Splitter().feed(frames.greeting(Kind.HELLO, greeting))
    assert item[0] == Kind.HELLO
    assert frames.read_greeting(item[1:]) == greeting


def test_a_greeting_with_unknown_fields_is_read() -> None:
    assert frames.read_greeting(b"\x82\xa7network\xa5dms/1\xa6future\x01") == Greeting("dms/1")


@given(st.binary(max_size=200))
def test_garbage_is_no_greeting_and_never_raises(data: bytes) -> None:
    read = frames.read_greeting(data)
    assert read is None or isinstance(read.network, str)
    assert isinstance(frames.read_reason(data), str)


def test_a_reason_is_cut_to_what_a_log_line_can_bear() -> None:
    (item,) = Splitter().feed(frames.reason(Kind.BYE, "x" * 5000))
    assert frames.read_reason(item[1:]) == "x" * 200
