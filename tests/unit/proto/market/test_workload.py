"""What a node has under way, provider by provider, and what follows for the facts of bidders."""

from __future__ import annotations

from typing import Any

import pytest

from dms_proto.ids import PeerId, RequestId
from dms_proto.machine import Decision, Stimulus
from dms_proto.market import auction
from dms_proto.market.auction_state import Auction
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.preferences import balanced
from dms_proto.market.workload import Workload
from dms_proto.reputation import FULL, NEWCOMER
from dms_proto.sim.requester import Requester

DOUBT = FULL - NEWCOMER
PROVEN = BidderFacts(successes=9, standing=770_000, doubt=230_000)
NEW = BidderFacts()


class Asker(Requester):
    """A request of a node that has others."""

    def __init__(self, workload: Workload, name: str = "r-1", **changed: Any) -> None:
        super().__init__(preferences=balanced(), **({"bids_wanted": 9} | changed))
        self.name = RequestId(name)
        self.workload = workload
        self._decide = self._informed

    def _informed(self, state: Auction, stimulus: Stimulus, now: int) -> Decision:
        return auction.decide(*self.workload.informed(state, stimulus), now)

    def award(self, **bidders: BidderFacts) -> dict[str, int]:
        """All bid, with room for everything; how many allocations each gets."""
        self.submit(*bidders)
        for peer, facts in bidders.items():
            self.bid(peer, facts=facts, slots=20)
        self.wait(self.terms.window_ms)
        self.workload.note(self.name, self.state)
        return {peer: self.workload.at(PeerId(peer)) for peer in bidders}


def test_each_request_goes_where_least_is_under_way() -> None:
    workload = Workload()
    for number in range(8):
        shares = Asker(workload, f"r-{number}").award(a=NEW, b=NEW, c=NEW, d=NEW)
    assert shares == {"a": 2, "b": 2, "c": 2, "d": 2}


def test_the_allocations_of_one_job_are_shared_out_as_well() -> None:
    assert Asker(Workload(), count=8).award(a=NEW, b=NEW, c=NEW, d=NEW) == {"a": 2, "b": 2, "c": 2, "d": 2}


def test_what_is_over_does_not_count() -> None:
    workload = Workload()
    asker = Asker(workload)
    assert asker.award(a=NEW) == {"a": 1}
    workload.note(asker.name, Auction())
    assert workload.at(PeerId("a")) == 0
    Asker(workload).award(a=NEW)
    workload.forget(asker.name)
    assert workload.at(PeerId("a")) == 0


def test_who_has_kept_its_word_goes_before_a_newcomer_while_nothing_else_is_under_way() -> None:
    assert Asker(Workload()).award(new=NEW, proven=PROVEN) == {"new": 0, "proven": 1}


def test_newcomers_together_get_no_more_than_those_that_have_kept_their_word() -> None:
    workload = Workload()
    for number in range(12):
        shares = Asker(workload, f"r-{number}").award(proven=PROVEN, b=NEW, c=NEW, d=NEW)
    assert shares == {"proven": 6, "b": 2, "c": 2, "d": 2}


@pytest.mark.parametrize(("source", "most"), [("198.51.100.0/24", 1), ("192.168.1.7", 6)])
def test_newcomers_of_one_public_source_are_tried_one_at_a_time(source: str, most: int) -> None:
    workload = Workload()
    crowd = BidderFacts(source=source)
    for number in range(12):
        shares = Asker(workload, f"r-{number}").award(proven=PROVEN, b=crowd, c=crowd)
    assert shares["b"] + shares["c"] == most
