"""The Orchestrator: what it says of a provider is said once, when it is written."""

from __future__ import annotations

from typing import Any

from dms_actors.draft import Draft
from dms_actors.letters import AttemptNoted, Told
from dms_actors.orchestrator import Orchestrator
from dms_proto.errors import MachineError
from dms_proto.market.auction_state import StatusHeard
from dms_proto.market.obligations import Obligations
from dms_proto.messages import AllocationStatus, Phase
from dms_proto.sim.requester import Requester
from dms_proto.work import Ending, EndReason


class Anything:
    """Takes every call."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: True


class Listener(Anything):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def tell(self, message: object) -> bool:
        self.messages.append(message)
        return True


def test_a_provider_s_good_work_is_noted_once_though_it_could_not_be_written_at_first() -> None:
    anything: Any = Anything()
    node: Any = Listener()
    requester = Requester(bids_wanted=1).submit("a")
    allocation = requester.hold("a")
    request = requester.terms.request_id
    orchestrator = Orchestrator(
        request, journal=anything, post=anything, collector=anything, node=node, obligations=Obligations()
    )
    orchestrator.start(anything, is_new=True)
    orchestrator.receive([], requester.now)
    orchestrator.shell.state = requester.state
    ending = Ending(EndReason.COMPLETED)
    status = AllocationStatus(request, allocation, list(Phase).index(Phase.ENDED), Phase.ENDED, ending=ending)

    first: Draft | Any = orchestrator.receive([Told(StatusHeard(requester.winner or "a", status), "c")], requester.now)
    assert node.messages == []
    first.refused(MachineError("disk_full", "no room"))
    again: Draft | Any = orchestrator.receive([], requester.now + 1_000)
    again.written()

    assert [type(message) for message in node.messages].count(AttemptNoted) == 1
