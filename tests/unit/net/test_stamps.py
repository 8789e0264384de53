"""Proof of work for others: made once, few bits first, not when nobody waits, and for one source only so much."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from dms.net.stamps import MAX_KEPT, Stamps
from dms_proto.ids import PeerId
from dms_proto.wire.stamps import MAX_BITS, day_of, worth

ME, A, B = PeerId("me"), PeerId("a"), PeerId("b")
NOW = 1_700_000_000_000


def made(stamps: Stamps, peer: PeerId, bits: int, source: str = "here") -> bytes:
    return trio.run(stamps.make, peer, source, bits, NOW, lambda: True)


def test_who_asks_again_is_shown_the_same_stamp_and_more_is_worked_for() -> None:
    stamps = Stamps(ME, daily_tries=2**8)
    first = made(stamps, A, 8)
    assert worth(first, ME, A, day_of(NOW)) >= 8
    assert [made(stamps, A, 8) for _ in range(100)] == [first] * 100  # which would be more than is done in a day
    with pytest.raises(ValueError, match="more than a node does in a day for all at one source"):
        made(stamps, A, 16)


def test_the_peers_of_a_source_share_what_is_done_for_them_in_a_day_and_others_do_not_wait() -> None:
    stamps = Stamps(ME, daily_tries=2**9)
    made(stamps, A, 8)
    made(stamps, B, 8)
    with pytest.raises(ValueError, match="8 bits of work are wanted, more than"):
        made(stamps, PeerId("c"), 8)
    assert made(stamps, PeerId("d"), 8, source="there")


def test_few_bits_come_first_and_what_nobody_waits_for_is_left() -> None:
    stamps, done = Stamps(ME), list[str]()

    async def make(peer: PeerId, bits: int) -> None:
        stamp = await stamps.make(peer, "here", bits, NOW, lambda: not done)
        done.append(f"{peer}: {'made' if stamp else 'left'}")

    async def both() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make, A, MAX_BITS)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(make, B, 8)

    trio.run(both)
    assert done == ["b: made", "a: left"]


def test_more_than_a_node_works_for_is_refused() -> None:
    with pytest.raises(ValueError, match="23 bits of work are wanted; a node works for 22 at most"):
        made(Stamps(ME), A, MAX_BITS + 1)


def test_invented_peers_do_not_grow_it() -> None:
    stamps = Stamps(ME)
    for number in range(MAX_KEPT + 10):
        made(stamps, PeerId(f"invented {number}"), 1)
    assert len(stamps._stamps) == MAX_KEPT
