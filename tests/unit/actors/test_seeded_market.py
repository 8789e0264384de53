"""Whole markets of the real actors on one thread, from seeds: whatever goes wrong, everything comes to its end and nothing is left held."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from dms.testing.seeded_market import CALM, EVERYTHING, SeededMarket, Troubles
from dms_actors.events import from_row
from dms_proto.ids import PeerId
from dms_proto.market.auction_events import AttemptEnded, RequestOpened
from dms_proto.market.auction_terms import Canary
from dms_proto.work import EndReason

SEEDS = range(int(os.environ.get("DMS_SEEDS", "20")))
"""`make fuzz` takes many more."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def played(seed: int, troubles: Troubles) -> SeededMarket:
    market = SeededMarket(seed, troubles)
    market.run()
    market.check_end()
    return market


@cache
def calm(seed: int) -> SeededMarket:
    """A market without trouble, which several tests look at."""
    return played(seed, CALM)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_request_ends_and_all_capacity_is_free_in_the_end(seed: int) -> None:
    played(seed, EVERYTHING)


@pytest.mark.parametrize(
    "troubles",
    [
        Troubles(kills=8),
        Troubles(cuts=8),
        Troubles(full_disks=6),
        Troubles(failures=12),
        Troubles(loss=0.2),
        Troubles(doubling=0.7),
    ],
    ids=["kills", "cuts", "full disks", "failures", "loss", "doubling"],
)
def test_each_kind_of_trouble_alone_is_survived(troubles: Troubles) -> None:
    for seed in range(10):
        played(seed, troubles)


def test_without_trouble_every_request_that_was_made_is_accepted_and_ends_for_its_own_reasons() -> None:
    own = {EndReason.COMPLETED, EndReason.EXIT_NONZERO, EndReason.OUT_OF_MEMORY, EndReason.IMPOSSIBLE}
    own |= {
        EndReason.DEADLINE,
        EndReason.RETRIES_EXHAUSTED,
        EndReason.UNDECIDED,  # there are too few nodes to check its results
    }  # its deadline is part of it; so is its nodes' made-up fault
    for seed in range(20):
        market = calm(seed)
        assert market.accepted == set(market.requests)
        assert set(market.endings().values()) <= own, market.endings()


def test_the_same_seed_gives_the_same_event_logs_to_the_byte() -> None:
    for seed in range(5):
        assert played(seed, EVERYTHING).digest() == played(seed, EVERYTHING).digest()


def test_no_order_depends_on_how_this_process_hashes_its_strings() -> None:
    program = (
        "import logging; logging.disable(50)\n"
        "from dms.testing.seeded_market import *\n"
        "for seed in range(5):\n"
        "    market = SeededMarket(seed, EVERYTHING); market.run(); print(market.digest())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].split()) == 5


WITH_CANARIES = (32, 52, 53, 56)
"""Seeds in which some known work is given out: one in fifteen does."""


def test_known_work_is_given_out_once_more_to_somebody_who_has_not_seen_it() -> None:
    canaries = [canary for seed in WITH_CANARIES for canary in _canaries(calm(seed))]

    assert canaries, "none of these seeds has one any more: look for others that do"
    for canary, awarded in canaries:
        assert not {answer.provider for answer in canary.asked} & awarded


def _canaries(market: SeededMarket) -> Iterator[tuple[Canary, set[PeerId]]]:
    """The canaries that were sent, and who got them."""
    for node in market.nodes:
        events = [(row.stream, from_row(row)) for row in node.machine.log.events]
        for stream, event in events:
            if isinstance(event, RequestOpened) and event.terms.canary is not None:
                ends = (other for at, other in events if at == stream and isinstance(other, AttemptEnded))
                yield event.terms.canary, {end.provider for end in ends if end.provider}
