"""Two honest nodes under a clock that a test owns: one asks, the other runs work for it, whatever a `Guest` does to them meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from dms.testing.guest import Guest
from dms.testing.seeded_market import SeededMarket, SeededNode
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_actors.node import Node
from dms_actors.strangers import Strangers
from dms_proto.allocation.events import AllocationOpened
from dms_proto.ids import RequestId
from dms_proto.market.offer_state import PauseWished
from dms_proto.units import MINUTE, SECOND
from dms_proto.wire.log_budget import ROW_BYTES
from dms_proto.work import EndReason


class HonestPair:
    """The pair, and its market.

    Attributes:
        requester: takes no work.
        provider: whom guests attack.
    """

    def __init__(self, strangers: Callable[[], Strangers] = Strangers, seed: int = 1) -> None:
        self.market = SeededMarket(seed, strangers=strangers)
        self.requester, self.provider = self.market.nodes[:2]
        for number, node in enumerate((self.requester, self.provider)):
            self.market.fabric.remotes[node.signer.peer_id] = f"20.0.{number}.1"
            node.start()
        self.requester.node.tell(Told(PauseWished(paused=True, because="it only asks"), "test"))
        self.pass_time(2 * SECOND)

    @property
    def now(self) -> int:
        """Unix ms."""
        return self.market.loop.now

    def guest(self, remote: str = "30.0.0.1", *, greets: bool = True) -> Guest:
        """A stranger, connected to the provider."""
        guest = Guest(self.market, remote)
        guest.connect(self.provider)
        if greets:
            guest.say(self.provider, guest.hello())
        self.pass_time(SECOND)
        return guest

    def pass_time(self, millis: int) -> None:
        """Lets everything happen that does within a time."""
        until = self.now + millis
        self.market.loop.later(millis, lambda: None)
        self.market.loop.run(lambda: self.now >= until, until)

    def part(self) -> None:
        """Neither reaches the other any more."""
        me, other = self.requester.signer.peer_id, self.provider.signer.peer_id
        self.market.fabric.cuts.add(frozenset((me, other)))
        self.market.fabric.disconnect(me, other)

    def works(self) -> bool:
        """Whether a job of the requester is done by the provider."""
        job = self.market.submit(self.requester)
        self.market.loop.run(lambda: self._is_over(job), self.now + 5 * MINUTE)
        ran = any(job == run for run in self._ran_here())
        return ran and self.market.endings().get(job) is EndReason.COMPLETED

    def written(self, node: SeededNode | None = None) -> int:
        """Bytes in a node's event store; the provider's unless said otherwise."""
        log = (node or self.provider).machine.log
        return sum(len(row.body) + ROW_BYTES for row in log.events)

    def node(self, node: SeededNode | None = None) -> Node:
        """The live behaviour of a node; the provider's unless said otherwise."""
        behaviour = (node or self.provider).node.behaviour
        assert isinstance(behaviour, Node)
        return behaviour

    def _is_over(self, job: RequestId) -> bool:
        return job not in self.requester.orchestrators.ids()

    def _ran_here(self) -> list[str]:
        rows = (row for row in self.provider.machine.log.events if row.kind == AllocationOpened.__name__)
        opened = (from_row(row) for row in rows)
        return [event.reservation.request_id for event in opened if isinstance(event, AllocationOpened)]
