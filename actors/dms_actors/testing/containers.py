"""The pool's hands in memory: containers that start and answer after a while, and callers that remember what they were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dms_actors.behaviour import Address
from dms_actors.letters import Told
from dms_actors.world import Paying
from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.machine import Stimulus
from dms_proto.market.obligations import Obligations
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import CallId, ContainerId, Image, VirtualId
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.state import Called, CallEnded, ContainerDied, PoolRestarted, Started
from dms_proto.work import Usage

LOST = "failed: the node was restarted"


def free_of_charge(tell_node: Callable[[object], object] = lambda _letter: None) -> Paying:
    """For a pool that talks to nobody else. `tell_node`: hears what the node would be told."""
    return Paying(PeerId("me"), lambda _peer, _message, _cause: None, tell_node, lambda _ready: None, Obligations())


class MemoryContainers:
    """Implements `world.Containers`. Outlives the node, as processes do: the next pool is given to `serve`.

    Args:
        later: has something done after so many ms.
        start_ms: how long a container takes to start.
        call_ms: how long it works on a call.

    Attributes:
        alive: the containers whose processes are there.
        hits: what was delivered to each container, and on behalf of each virtual one.
        outcomes: what each caller was told: "done", "refused: …", "failed: …". None was told twice.
    """

    def __init__(
        self, later: Callable[[int, Callable[[], object]], object], *, start_ms: int = 500, call_ms: int = 5
    ) -> None:
        self.alive: dict[ContainerId, Image] = {}
        self.hits: Counter[str] = Counter()
        self.outcomes: dict[CallId, str] = {}
        self._later = later
        self._start_ms = start_ms
        self._call_ms = call_ms
        self._starting: set[ContainerId] = set()
        self._at_work: dict[ContainerId, CallId] = {}
        self._unanswered: dict[CallId, Called] = {}
        self._pool: Address | None = None

    def serve(self, pool: Address) -> None:
        """Outcomes are told to this pool from now on."""
        self._pool = pool

    @property
    def unanswered(self) -> int:
        """How many calls wait for an answer."""
        return len(self._unanswered)

    def call(self, called: Called) -> None:
        """Somebody calls."""
        self._unanswered[called.call_id] = called
        self._tell(called)

    def lose_callers(self) -> None:
        """The node's process has died, and with it the connections of all who wait for an answer."""
        self._pool = None
        self._at_work.clear()
        for call_id in tuple(self._unanswered):
            self._told(call_id, LOST)

    def find(self) -> None:
        """See `Containers.find`."""
        for call_id in self._at_work.values():
            self._told(call_id, LOST)
        self._at_work.clear()
        self._tell(PoolRestarted(tuple(self.alive)))
        for called in self._unanswered.values():
            self._tell(called)

    def start(self, container_id: ContainerId, image: Image, size: Resources) -> None:
        """See `Containers.start`."""
        del size

        def started() -> None:
            if container_id in self._starting:
                self._starting.remove(container_id)
                self.alive[container_id] = image
                self._tell(Started(container_id))

        assert container_id not in self.alive, f"{container_id} is there already"
        if container_id not in self._starting:
            self._starting.add(container_id)
            self._later(self._start_ms, started)

    def stop(self, container_id: ContainerId) -> None:
        """See `Containers.stop`."""
        self._later(1, lambda: self.die(container_id, ""))

    def die(self, container_id: ContainerId, why: str) -> None:
        """Its process ends."""
        self.alive.pop(container_id, None)
        self._starting.discard(container_id)
        self._at_work.pop(container_id, None)
        self._tell(ContainerDied(container_id, why))

    def deliver(self, call_id: CallId, container_id: ContainerId, virtual_id: VirtualId, placement: Placement) -> None:
        """See `Containers.deliver`."""
        assert container_id in self.alive, f"{call_id} is given to {container_id}, which is not there"
        assert container_id not in self._at_work, f"{container_id} is at work"
        assert placement.chosen in (container_id, None), f"{call_id} was meant for {placement.chosen}"
        self.hits.update((container_id, virtual_id))
        self._at_work[container_id] = call_id
        self._later(self._call_ms, lambda: self._answer(call_id, container_id))

    def refuse(self, call_id: CallId, refusal: Refusal) -> None:
        """See `Containers.refuse`."""
        self._told(call_id, f"refused: {refusal.code}")

    def fail(self, call_id: CallId, why: str) -> None:
        """See `Containers.fail`."""
        self._told(call_id, f"failed: {why}")

    def _answer(self, call_id: CallId, container_id: ContainerId) -> None:
        if self._at_work.get(container_id) == call_id:
            del self._at_work[container_id]
            self._told(call_id, "done")
            self._tell(CallEnded(call_id, Usage(wall_ms=self._call_ms)))

    def _told(self, call_id: CallId, outcome: str) -> None:
        assert call_id not in self.outcomes, f"{call_id} was told {self.outcomes[call_id]}, now {outcome}"
        self._unanswered.pop(call_id, None)
        self.outcomes[call_id] = outcome

    def _tell(self, stimulus: Stimulus) -> None:
        if self._pool is not None:
            self._pool.tell(Told(stimulus, "containers"))
