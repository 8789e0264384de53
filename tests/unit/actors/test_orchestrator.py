"""The Orchestrator: what it says of a provider is said once, when it is written."""

from __future__ import annotations

from typing import Any

from dms_actors.draft import Draft
from dms_actors.letters import AttemptNoted, CheckUnderWay, Told
from dms_actors.mishaps import Mishaps
from dms_actors.orchestrator import Orchestrator
from dms_actors.proofs import Heard
from dms_actors.shell import Turn
from dms_proto.errors import MachineError
from dms_proto.ids import PeerId
from dms_proto.market.auction_effects import LetDown
from dms_proto.market.auction_stimuli import BidHeard, PeerLost, StatusHeard
from dms_proto.market.auction_terms import SpotCheck
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.obligations import Obligations
from dms_proto.market.seekers import Seekers
from dms_proto.market.workload import Workload
from dms_proto.messages import AllocationStatus, Phase
from dms_proto.reputation import Kind
from dms_proto.sim.requester import Requester
from dms_proto.verification.spot_check import SpotChecks
from dms_proto.work import Ending, EndReason


class Anything:
    """Takes every call."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: True


class Sends(Anything):
    """Sends everything at once."""

    def send(self, *_arguments: object, **_named: object) -> bytes:
        return b"frame"


class Listener(Anything):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def tell(self, message: object) -> bool:
        self.messages.append(message)
        return True


def orchestrating(requester: Requester, node: Any) -> Orchestrator:
    """An orchestrator in the middle of a request."""
    anything: Any = Anything()
    post: Any = Sends()
    orchestrator = Orchestrator(
        requester.terms.request_id,
        journal=anything,
        post=post,
        collector=anything,
        node=node,
        obligations=Obligations(),
        workload=Workload(),
        seekers=Seekers(1),
        mishaps=Mishaps(),
    )
    orchestrator.start(anything, is_new=True)
    orchestrator.receive([], requester.now)
    orchestrator.shell.state = requester.state
    return orchestrator


def test_a_provider_s_good_work_is_noted_once_though_it_could_not_be_written_at_first() -> None:
    node: Any = Listener()
    requester = Requester(bids_wanted=1).submit("a")
    allocation = requester.hold("a")
    orchestrator = orchestrating(requester, node)
    ending = Ending(EndReason.COMPLETED)
    status = AllocationStatus(
        requester.terms.request_id, allocation, list(Phase).index(Phase.ENDED), Phase.ENDED, ending=ending
    )

    first: Draft | Any = orchestrator.receive([Told(StatusHeard(requester.winner or "a", status), "c")], requester.now)
    assert node.messages == []
    first.refused(MachineError("disk_full", "no room"))
    again: Draft | Any = orchestrator.receive([], requester.now + 1_000)
    again.written()

    assert [type(message) for message in node.messages].count(AttemptNoted) == 1


def test_a_provider_that_is_given_up_when_its_time_is_over_is_noted_as_at_fault() -> None:
    node: Any = Listener()
    requester = Requester(bids_wanted=1).submit("a")
    requester.hold("a")
    orchestrator = orchestrating(requester, node)

    lost: Any = orchestrator.receive([Told(PeerLost(PeerId("a")), "c")], requester.now)
    lost.written()
    assert [type(message) for message in node.messages] == [LetDown]
    due = orchestrator.deadline()
    assert due is not None
    over: Any = orchestrator.receive([], due)
    over.written()

    noted = [message for message in node.messages if isinstance(message, AttemptNoted)]
    assert [(note.provider, note.kind) for note in noted] == [("a", Kind.FAULT)]


def test_the_bid_that_is_taken_when_the_window_closes_is_kept_as_a_proof() -> None:
    requester = Requester(bids_wanted=3).submit("a", gossip=True, known=2)
    orchestrator = orchestrating(requester, Listener())
    bid_id = requester.bid("a")  # its effects do not matter: the same bid is told below
    bid = requester.state.bids[bid_id].bid

    told: Any = orchestrator.receive(
        [Told(BidHeard(PeerId("a"), bid, BidderFacts()), "c", Heard(b"frame", 1))], requester.now
    )
    told.written()
    due = orchestrator.deadline()
    assert due is not None
    over: Any = orchestrator.receive([], due)

    assert [row.kind for row in over.rows] == ["AwardMade", "FrameKept"]


def test_after_a_restart_a_spot_check_says_that_it_is_under_way() -> None:
    node: Any = Listener()
    check = SpotCheck(PeerId("a"), 1_000, 7, SpotChecks())
    requester = Requester(bids_wanted=1, spot_check=check).submit("a")
    requester.hold("a")
    orchestrator = orchestrating(requester, node)
    orchestrator.begin(Turn(), requester.now + 5)

    told = [message for message in node.messages if isinstance(message, CheckUnderWay)]
    assert told == [CheckUnderWay(PeerId("a"), requester.state.opened_at)]
