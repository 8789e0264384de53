"""Known work that a comparator has to compare: it is given out only while what was known is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from dms.testing.seeded_world import SeededJournal
from dms_actors.canaries import Canaries
from dms_actors.events import to_row
from dms_actors.letters import Submit
from dms_actors.testing.event_log import MemoryEventLog
from dms_actors.testing.seeded import SeededLoop, SeededRuntime
from dms_proto.ids import PeerId, RequestId, digest_of
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_state import SlotPhase
from dms_proto.market.auction_terms import KNOWN, Given, Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.sim.comparing import NEAR
from dms_proto.sim.requester import REQUEST, Requester, terms
from dms_proto.verification.policy import HASH, PROVEN, Apart, Policy, Verification, is_canary_due
from dms_proto.work import Output

DUE = next(seed for seed in (b"seed %d" % number for number in range(100)) if is_canary_due(seed, 0))
OUTPUTS = (Output("out", digest_of(b"out"), 3),)


@dataclass
class Opened:
    """Where new requests are started, and what they are told."""

    told: list[Submit] = field(default_factory=list)

    def open(self, _request: RequestId) -> Opened:
        return self

    def tell(self, message: Submit) -> None:
        self.told.append(message)


def known(comparator: str) -> Requester:
    """A request on whose result two proven providers have agreed."""
    verify = Verification(Policy.REPLICATE, 2, comparator, Apart.NODES)
    market = Requester(verify=verify, seed=b"then").submit("a", "b")
    for peer in "ab":
        market.bid(peer, facts=BidderFacts(source=f"net {peer}", streak=PROVEN))
    for bid_id, bid in tuple(market.state.bids.items()):
        market.acks(bid.provider, bid_id)
    for slot in market.state.slots:
        assert slot.phase is SlotPhase.HELD
        market.ends(slot.provider, slot.allocation_id, outputs=OUTPUTS)
    return market


def new(name: str) -> Terms:
    verify = Verification(Policy.ADAPTIVE, apart=Apart.NODES)
    return terms(request_id=RequestId(name), verify=verify, seed=DUE)


@pytest.mark.parametrize("comparator", [NEAR, HASH])
def test_known_work_whose_result_is_not_kept_any_more_is_forgotten_where_a_comparator_would_need_it(
    comparator: str,
) -> None:
    earlier, opened, kept = known(comparator), Opened(), True
    asked: list[Given] = []

    def is_here(given: Given) -> bool:
        asked.append(given)
        return kept

    journal = SeededJournal(MemoryEventLog(lambda: 0), SeededRuntime(SeededLoop(1), 0))
    journal.append([to_row(REQUEST, event, "test") for event in earlier.log])
    (judged,) = (event for event in earlier.log if isinstance(event, ResultJudged))
    canaries = Canaries(journal, is_here, opened.open, [(REQUEST, judged)])  # type: ignore[arg-type] # whoever is told
    beside = ResultJudged(0, 1, 0, unjudged=())

    canaries.judged(new("r-one"), beside)
    assert len(opened.told) == 1
    if comparator == HASH:
        assert not asked
        return
    (given,) = asked
    assert (given.index, given.outputs) == (KNOWN, OUTPUTS)
    accepted = earlier.state.slots[judged.accepted or 0]
    assert given.allocation_id == accepted.allocation_id
    canary = opened.told[0].terms.canary
    assert canary is not None
    assert canary.given == given

    kept = False
    canaries.judged(new("r-two"), beside)
    kept = True
    canaries.judged(new("r-three"), beside)
    assert len(opened.told) == 1
    assert PeerId("a") in {answer.provider for answer in canary.asked}
