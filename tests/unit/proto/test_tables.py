"""Every machine's table says what meets every stimulus in every phase: a handler, or a named reason why nothing happens."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from dms_proto.accounts import machine as accounts
from dms_proto.allocation import machine as allocation
from dms_proto.allocation.state import LifePhase
from dms_proto.grants import trust
from dms_proto.machine import Row, Stimulus
from dms_proto.market import auction, auction_state, offer_book, offer_state
from dms_proto.membership import machine as membership
from dms_proto.pool import machine as pool
from dms_proto.pool import services
from dms_proto.pool.state import PoolPhase
from dms_proto.tabs import kept_machine, used_machine
from dms_proto.tabs.terms import TabsPhase

MACHINES: dict[str, tuple[Mapping[Any, Row[Any]], type[StrEnum]]] = {
    "auction": (auction.TABLE, auction_state.AuctionPhase),
    "offer book": (offer_book.TABLE, offer_state.BookPhase),
    "allocation": (allocation.TABLE, LifePhase),
    "accounts": (accounts.TABLE, accounts.AccountsPhase),
    "trust": (trust.TABLE, trust.TrustPhase),
    "pool": (pool.TABLE, PoolPhase),
    "tabs of others": (kept_machine.TABLE, TabsPhase),
    "tabs elsewhere": (used_machine.TABLE, TabsPhase),
    "services": (services.TABLE, services.ServicesPhase),
    "membership": (membership.TABLE, membership.PeerPhase),
}


@pytest.mark.parametrize("name", MACHINES)
def test_every_stimulus_has_a_line_in_every_phase(name: str) -> None:
    table, phases = MACHINES[name]
    stimuli = {kind for _, kind in table}
    missing = [(phase, kind.__name__) for phase, kind in product(phases, stimuli) if (phase, kind) not in table]
    assert missing == []
    assert all(issubclass(kind, Stimulus) for kind in stimuli)


@pytest.mark.parametrize("name", MACHINES)
def test_every_line_says_in_words_what_happens(name: str) -> None:
    table, _ = MACHINES[name]
    assert all(row.because.strip() and not row.because.endswith(".") for row in table.values())
