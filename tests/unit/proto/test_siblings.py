"""Names of siblings: what they are called, where they are found, who is one."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.testing.samples import PROVIDER, REQUEST, REQUESTER
from dms_proto.capability import Capability
from dms_proto.ids import PeerId, allocation_id, bid_id
from dms_proto.market.auction_messages import task_of
from dms_proto.market.auction_siblings import roll_of
from dms_proto.market.auction_state import Auction, Slot, SlotPhase
from dms_proto.market.auction_terms import Terms
from dms_proto.siblings import MOST_WAYS, Names, Roll, Sibling, Way, flaw_of, hosts_of, read_way, ways
from dms_proto.work import Task

PLAIN = Terms(REQUEST, REQUESTER.peer_id, Task("sandbox", ("x",), ports=(80,)), Capability(), 1, count=5)
NAMED = msgspec.structs.replace(PLAIN, task=msgspec.structs.replace(PLAIN.task, names=Names(0, 5)))


@given(st.integers(0, MOST_WAYS), st.integers(0, MOST_WAYS + 1))
def test_each_sibling_has_an_address_of_its_own_on_loopback_and_its_own_name_is_where_it_listens(
    index: int, count: int
) -> None:
    pairs = [line.split() for line in hosts_of(Names(index, count)).splitlines()]
    addresses = {name: address for address, name in pairs}
    assert list(addresses) == [f"{number}.job.internal" for number in range(count)]
    assert len(set(addresses.values())) == count
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses.values())
    assert index >= count or addresses[f"{index}.job.internal"] == "127.0.0.1"


def test_a_way_leads_to_each_port_of_each_other_one() -> None:
    found = list(ways(Names(1, 3), (80, 90)))
    assert found == [Way(0, 80), Way(0, 90), Way(2, 80), Way(2, 90)]
    assert [way.address for way in found[::2]] == ["127.1.0.1:80", "127.1.0.3:80"]
    assert [read_way(way.destination) for way in found] == found


@pytest.mark.parametrize(
    "text",
    ["", "1.job.internal", "a.job.internal:80", "1.job.internal:80 ", "1xjob.internal:8", "1.job.internal:999999"],
)
def test_what_is_no_way_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no port of a sibling"):
        read_way(text)


def test_there_are_as_many_ports_of_others_as_go_in_one_message_of_the_kernels() -> None:
    assert not flaw_of("sandbox", 251, 1)
    assert not flaw_of("sandbox", 26, 10)
    assert "251 ports of others, 250 are the most" in flaw_of("sandbox", 252, 1)
    assert "260 ports" in flaw_of("sandbox", 27, 10)


def test_who_has_a_place_now_is_on_the_roll_and_no_other() -> None:
    peer = PROVIDER.peer_id
    slots = tuple(
        Slot(number, number, phase=phase, provider=peer, allocation_id=allocation_id(bid_id(REQUEST, peer, 0), number))
        for number, phase in enumerate(SlotPhase)
    )
    (held,) = (slot for slot in slots if slot.phase is SlotPhase.HELD)
    roll = roll_of(Auction(terms=NAMED, slots=slots), lambda peer: (f"/at/{peer}",) * 9)
    assert roll == Roll((Sibling(held.piece, held.allocation_id, peer, (f"/at/{peer}",) * 4),))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(roll), type=Roll) == roll
    assert roll.has(held.allocation_id, peer)
    assert not roll.has(held.allocation_id, PeerId("another"))
    assert roll.at(held.piece) == roll.siblings[0]
    assert roll.at(99) is None
    assert roll_of(Auction(terms=PLAIN, slots=slots), lambda _peer: ()) == Roll()


def test_each_allocation_is_told_its_number() -> None:
    assert task_of(NAMED, 2).names == Names(2, 5)
    assert task_of(PLAIN, 2).names == Names()
