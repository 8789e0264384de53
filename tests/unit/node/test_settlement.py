"""Both ways of settling leave nothing open that this node owes, and neither makes nor loses credit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.node.settlement import LocalCredit, Settlement, SignedIou
from dms_proto.accounts import machine
from dms_proto.accounts.book import Accounts, answered, charge, claim
from dms_proto.wire import Signer

ME, PEER = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
amounts = st.integers(0, 10**9)


@pytest.mark.parametrize("way", [LocalCredit("once"), SignedIou(ME)], ids=lambda way: type(way).__name__)
@given(spent=amounts, earned=amounts)
def test_nothing_that_is_owed_stays_open(way: Settlement, spent: int, earned: int) -> None:
    peer, accounts = PEER.peer_id, Accounts(ME.peer_id)
    work = (*charge(peer, "r", "a", spent), *claim(peer, "r", "b", earned), *answered(peer, "r", "b", earned, earned))
    for booked in work:
        accounts = accounts.post(booked.entry)

    for event in machine.decide(accounts, way.settle(accounts, peer), 0).events:
        accounts = machine.evolve(accounts, event)

    accounts.check()
    assert accounts.of(peer).open >= 0
