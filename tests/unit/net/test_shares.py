"""Shares of a peer and of its source: many identities hold no more than one, and what was held leaves nothing behind."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dms.net.shares import Shares, TakenError


def taken(shares: Shares, held: ExitStack, peer: str, source: str) -> bool:
    try:
        held.enter_context(shares.place(peer, source))
    except TakenError:
        return False
    return True


def test_all_identities_of_a_source_hold_what_one_may_and_another_source_is_not_touched() -> None:
    shares = Shares(2, most=8)
    with ExitStack() as held:
        assert [taken(shares, held, peer, "here") for peer in "abcd"] == [True, True, False, False]
        assert taken(shares, held, "honest", "there")
    assert len(shares) == 0


def test_a_peer_that_comes_again_from_elsewhere_holds_what_it_held() -> None:
    shares = Shares(2)
    with ExitStack() as held:
        assert taken(shares, held, "a", "here")
        assert taken(shares, held, "a", "there")
        assert not taken(shares, held, "a", "elsewhere")


def test_all_together_have_a_bound_and_a_place_is_free_again_however_it_was_left() -> None:
    shares = Shares(2, most=3)
    with ExitStack() as held:
        assert [taken(shares, held, "ab"[n // 2], "st"[n // 2]) for n in range(4)] == [True, True, True, False]
    with pytest.raises(ZeroDivisionError), shares.place("a", "s"):
        raise ZeroDivisionError
    with ExitStack() as held:
        assert [taken(shares, held, "a", "s") for _ in range(3)] == [True, True, False]


def test_without_a_share_there_is_no_place() -> None:
    with ExitStack() as held:
        assert not taken(Shares(0), held, "a", "here")
