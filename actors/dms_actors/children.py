"""The actors under the Node: an Orchestrator for each request of ours, an Allocation for each piece of work here.

Started when a request or a commit arrives, and after a restart for whatever was not over. Each says itself when it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from dms_actors.allocation import AllocationActor
from dms_actors.behaviour import Address, Runtime
from dms_actors.letters import AllocationAbandoned, RequestAbandoned, TellAgain, Told
from dms_actors.machine_actor import MachineActor
from dms_actors.orchestrator import Orchestrator
from dms_actors.world import Survey, World
from dms_proto.allocation.stimuli import Opened
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_state import OpenAllocation


class Children:
    """Starts, finds and ends the actors under `node`.

    Args:
        runtime: what starts them.
        world: what they work with, and the directories by which others find them.
        node: whom they tell, and who hears when one is given up.
    """

    def __init__(self, runtime: Runtime, world: World, node: MachineActor) -> None:
        self._runtime = runtime
        self._world = world
        self._node = node
        self._requesters: dict[AllocationId, PeerId] = {}

    def resume(self, survey: Survey, reserved: Mapping[AllocationId, Reservation], invoke_within_ms: int) -> None:
        """What was not over goes on; those that outlived a failure of the Node actor alone say again what they told it."""
        world = self._world
        self._requesters = {id_: reservation.requester for id_, reservation in reserved.items()}
        for child in (*world.orchestrators, *world.allocations):
            child.tell(TellAgain())
        for allocation_id in dict.fromkeys((*survey.allocations, *reserved)):
            if world.allocations.get(allocation_id) is not None:
                continue
            self._start_allocation(allocation_id)
            if allocation_id in reserved and allocation_id not in survey.allocations:
                # Committed, and the node died before the allocation was written down: it waits for its invocation.
                opened = Opened(reserved[allocation_id], None, invoke_within_ms)
                world.allocations.tell(allocation_id, Told(opened, "restart"))
        for request_id in survey.requests:
            if world.orchestrators.get(request_id) is None:
                self._start_orchestrator(request_id)

    def open_request(self, request_id: RequestId) -> Address:
        """Starts the actor of a new request."""
        return self._start_orchestrator(request_id, is_new=True)

    def open_allocation(self, effect: OpenAllocation, invoke_within_ms: int, cause_id: str) -> None:
        """Starts the actor of a committed allocation; with its invocation, if the commit carried it."""
        reservation, task = effect.reservation, effect.task
        self._requesters[reservation.allocation_id] = reservation.requester
        address = self._start_allocation(reservation.allocation_id, is_new=True)
        address.tell(Told(Opened(reservation, task, invoke_within_ms), cause_id))

    def find(self, id_: str) -> Address | None:
        """The actor of a request or an allocation."""
        return self._world.orchestrators.get(id_) or self._world.allocations.get(id_)

    def is_held_by(self, peer: PeerId, allocation_id: AllocationId) -> bool:
        """Whether an allocation that is not over was committed by `peer`."""
        return self._requesters.get(allocation_id) == peer

    def held_by(self, peer: PeerId) -> int:
        """How many allocations that are not over were committed by `peer`."""
        return sum(requester == peer for requester in self._requesters.values())

    def request_over(self, request_id: RequestId) -> None:
        """A request has ended: so does its actor."""
        _end(self._world.orchestrators.remove(request_id))

    def allocation_over(self, allocation_id: AllocationId) -> None:
        """An allocation is closed: so is its actor."""
        self.forget(allocation_id)
        _end(self._world.allocations.remove(allocation_id))

    def forget(self, allocation_id: AllocationId) -> None:
        """Nobody holds an allocation any more."""
        self._requesters.pop(allocation_id, None)

    def tell_of(self, peer: PeerId, to_requests: Stimulus, to_work: Stimulus, cause_id: str) -> None:
        """Something has happened to `peer`: all requests hear it, and the work that it has here."""
        for address in self._world.orchestrators:
            address.tell(Told(to_requests, cause_id))
        for allocation_id, requester in self._requesters.items():
            if requester == peer:
                self._world.allocations.tell(allocation_id, Told(to_work, cause_id))

    def _start_orchestrator(self, request_id: RequestId, *, is_new: bool = False) -> Address:
        node, world = self._address(), self._world
        address = self._runtime.spawn(
            f"orchestrator {request_id[:10]}",
            lambda: Orchestrator(
                request_id,
                journal=world.journal,
                post=world.post,
                collector=world.collector,
                node=node,
                obligations=world.obligations,
                workload=world.workload,
                seekers=world.seekers,
                mishaps=world.mishaps,
            ),
            lambda _name: node.tell(RequestAbandoned(request_id)),
            is_new=is_new,
        )
        world.orchestrators.add(request_id, address)
        return address

    def _start_allocation(self, allocation_id: AllocationId, *, is_new: bool = False) -> Address:
        node, world = self._address(), self._world
        address = self._runtime.spawn(
            f"allocation {allocation_id[:10]}",
            lambda: AllocationActor(
                allocation_id,
                journal=world.journal,
                post=world.post,
                workbench=world.workbench,
                node=node,
                mishaps=world.mishaps,
            ),
            lambda _name: node.tell(AllocationAbandoned(allocation_id)),
            is_new=is_new,
        )
        world.allocations.add(allocation_id, address)
        return address

    def _address(self) -> Address:
        assert self._node.me is not None, "the node has begun"
        return self._node.me


def _end(address: Address | None) -> None:
    if address is not None:
        address.stop()
