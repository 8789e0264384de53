"""Proof of work: cheap to check, good for one peer, one receiver and one day."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms_proto.ids import PeerId
from dms_proto.wire.stamps import MAX_BITS, STAMP_BYTES, day_of, make_stamp, worth

A, B = PeerId("12D3KooWA"), PeerId("12D3KooWB")
GOLDEN = "0000000000000624"
DAY = day_of(1_700_000_000_000)


def test_the_golden_stamp() -> None:
    """For other implementations: the first number from 0 on that is worth 12 bits."""
    assert make_stamp(A, B, DAY, 12).hex() == GOLDEN
    assert worth(bytes.fromhex(GOLDEN), A, B, DAY) >= 12


@settings(max_examples=20)
@given(bits=st.integers(0, 10), day=st.integers(0, 100_000))
def test_what_was_made_is_worth_it(bits: int, day: int) -> None:
    assert worth(make_stamp(A, B, day, bits), A, B, day) >= bits


def test_a_stamp_is_good_for_one_peer_one_receiver_and_the_days_about() -> None:
    stamp = make_stamp(A, B, DAY, 16)
    assert worth(stamp, A, B, DAY + 1) >= 16
    assert worth(stamp, A, B, DAY - 1) >= 16
    assert worth(stamp, B, A, DAY) < 16
    assert worth(stamp, A, PeerId("12D3KooWC"), DAY) < 16
    assert worth(stamp, A, B, DAY + 2) < 16


@pytest.mark.parametrize("stamp", [b"", b"short", bytes(STAMP_BYTES + 1)])
def test_what_is_no_stamp_is_worth_nothing(stamp: bytes) -> None:
    assert worth(stamp, A, B, DAY) == 0


def test_nobody_works_for_more_than_a_few_seconds() -> None:
    with pytest.raises(ValueError, match="23 bits of work are wanted"):
        make_stamp(A, B, DAY, MAX_BITS + 1)
