"""Strangers: who they are, where they are, and what they may still cause to be written."""

from __future__ import annotations

from dms_actors.strangers import MAX_REMEMBERED, Strangers
from dms_proto.ids import PeerId
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.units import MIB
from dms_proto.wire.log_budget import BURSTS_A_DAY, PEER_PART, SOURCE_PART, LogBudget

A, B = PeerId("a"), PeerId("b")
SHARE = 64 * MIB
OF_ONE = SHARE // PEER_PART // BURSTS_A_DAY


def test_identities_of_one_block_of_addresses_share_a_budget() -> None:
    strangers = Strangers(LogBudget(SHARE))
    for number in range(100):
        sybil = PeerId(f"sybil {number}")
        strangers.came(sybil, f"20.1.1.{number}")
        strangers.wrote(sybil, SHARE // SOURCE_PART // 100, 0, is_named=False)
    strangers.came(A, "20.1.1.200")
    strangers.came(B, "20.1.2.200")
    assert not strangers.may_write(A, 0, is_named=False)
    assert strangers.may_write(B, 0, is_named=False)


def test_who_left_still_pays_where_it_was() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.came(A, "20.1.1.1")
    assert strangers.source(A) == "20.1.1.0/24"
    assert strangers.source(B) == UNKNOWN


def test_whom_the_owner_named_or_who_shows_a_grant_is_no_stranger() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.wrote(A, OF_ONE, 0, is_named=False)
    strangers.wrote(B, OF_ONE, 0, is_named=False)
    assert not strangers.may_write(A, 0, is_named=False)
    assert not strangers.may_write(B, 0, is_named=False)
    strangers.showed_grant(B)
    assert strangers.may_write(A, 0, is_named=True)
    assert strangers.may_write(B, 0, is_named=False)


def test_a_new_name_does_not_fill_a_budget_and_keeps_who_was_let_in() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.wrote(A, OF_ONE, 0, is_named=False)
    strangers.inherit(A, PeerId("a anew"))
    assert not strangers.may_write(PeerId("a anew"), 0, is_named=False)
    strangers.showed_grant(B)
    strangers.inherit(B, PeerId("b anew"))
    strangers.wrote(PeerId("b anew"), OF_ONE, 0, is_named=False)
    assert strangers.may_write(PeerId("b anew"), 0, is_named=False)


def test_a_log_that_is_long_enough_grows_by_no_stranger_any_more() -> None:
    size = 0
    strangers = Strangers(store_bytes=lambda: size, most_store_bytes=1_000)
    assert strangers.may_write(A, 0, is_named=False)
    size = 1_000
    assert not strangers.may_write(A, 1_000, is_named=False)
    assert strangers.may_write(B, 1_000, is_named=True)


def test_invented_peers_do_not_grow_it() -> None:
    strangers = Strangers()
    for number in range(MAX_REMEMBERED + 100):
        strangers.came(PeerId(f"invented {number}"), "20.1.1.1")
        strangers.showed_grant(PeerId(f"invented {number}"))
    assert len(strangers._sources) == len(strangers._granted) == MAX_REMEMBERED
