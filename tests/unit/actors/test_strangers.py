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
    strangers.showed_grant(B, 0)
    assert strangers.may_write(A, 0, is_named=True)
    assert strangers.may_write(B, 0, is_named=False)


def test_a_new_name_does_not_fill_a_budget_and_keeps_who_was_let_in() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.wrote(A, OF_ONE, 0, is_named=False)
    strangers.inherit(A, PeerId("a anew"))
    assert not strangers.may_write(PeerId("a anew"), 0, is_named=False)
    strangers.showed_grant(B, 0)
    strangers.inherit(B, PeerId("b anew"))
    strangers.wrote(PeerId("b anew"), OF_ONE, 0, is_named=False)
    assert strangers.may_write(PeerId("b anew"), 0, is_named=False)


def test_a_log_that_is_long_enough_grows_by_no_stranger_any_more() -> None:
    size = 0
    strangers = Strangers(store_bytes=lambda: size, most_store_bytes=1_000)
    assert strangers.may_write(A, 0, is_named=False)
    size = 1_000
    assert not strangers.may_write(A, 0, is_named=False)
    assert strangers.may_write(B, 0, is_named=True)


def test_invented_peers_do_not_grow_it() -> None:
    strangers = Strangers()
    for number in range(MAX_REMEMBERED + 100):
        strangers.came(PeerId(f"invented {number}"), "20.1.1.1")
        strangers.showed_grant(PeerId(f"invented {number}"), 0)
        strangers.heard_of(PeerId(f"author {number}"), A)
    assert len(strangers._sources) == len(strangers._heard_by) == len(strangers._granted) == MAX_REMEMBERED


def test_a_grant_lets_in_as_long_as_it_counts() -> None:
    strangers = Strangers(LogBudget(SHARE))
    for peer in (A, B):
        strangers.showed_grant(peer, 1_000 if peer == A else 0)
        strangers.wrote(peer, OF_ONE, 0, is_named=False)
    assert strangers.may_write(A, 999, is_named=False)
    assert strangers.may_write(B, 10**12, is_named=False)

    strangers.wrote(A, OF_ONE, 1_000, is_named=False)
    assert not strangers.may_write(A, 1_000, is_named=False)
    strangers.doubt_grants()
    strangers.wrote(B, OF_ONE, 1_000, is_named=False)
    assert not strangers.may_write(B, 1_000, is_named=False)


def used_up(strangers: Strangers, peer: PeerId) -> None:
    while strangers.may_write(peer, 0, is_named=False):
        strangers.wrote(peer, 1_000, 0, is_named=False)


def test_authors_of_gossip_do_not_use_up_what_another_one_needs_to_be_bid_to() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.came(A, "20.1.1.1")
    strangers.came(B, "20.1.2.1")
    for number in range(1_000):
        author = PeerId(f"author {number}")
        strangers.heard_of(author, A)
        used_up(strangers, author)
    honest = PeerId("honest")
    strangers.heard_of(honest, A)
    assert not strangers.may_write(honest, 0, is_named=False)  # the neighbour that hands on so much is used up
    strangers.heard_of(honest, B)
    assert strangers.may_write(honest, 0, is_named=False)
    assert strangers.may_write(A, 0, is_named=False)  # but not what it needs for itself

    used_up(strangers, honest)
    strangers.came(honest, "20.1.3.1")
    assert strangers.may_write(honest, 0, is_named=False)


def test_two_authors_of_one_forwarder_leave_room_for_others() -> None:
    strangers = Strangers(LogBudget(SHARE))
    strangers.came(A, "20.1.1.1")
    for author in (PeerId("one"), PeerId("two"), PeerId("honest")):
        strangers.heard_of(author, A)
        assert strangers.may_write(author, 0, is_named=False)
        used_up(strangers, author)
