"""A pool driven by hand."""

from __future__ import annotations

import pytest

from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.pool import machine
from dms_proto.pool.fold import evolve
from dms_proto.pool.records import CallId, ContainerId, Image, Service
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.state import (
    Called,
    CallEnded,
    CapacityWished,
    ContainerDied,
    Deliver,
    Pool,
    PoolRules,
    Refuse,
    RulesWished,
    StartContainer,
    Started,
    StopContainer,
)
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, GIB
from dms_proto.work import Usage


def image(model: str = "m", gib: int = 1, user: str = "") -> Image:
    return Image("python", model, Resources(CORE, gib * GIB), PeerId(user))


class HandPool(Driven[Pool]):
    """Containers start, and calls end, when the test says so; what calls come to is written down with each."""

    def __init__(self) -> None:
        super().__init__(machine.decide, evolve, machine.next_deadline, Pool())
        self._calls = 0

    def of(self, gib: int, rules: PoolRules) -> HandPool:
        self.tell(CapacityWished(Resources(64 * CORE, gib * GIB)))
        self.tell(RulesWished(rules))
        return self

    def call(self, user: str, model: str = "m", *, gib: int = 1, tier: int = 0) -> CallId:
        """`user` calls the service that runs `model`."""
        self._calls += 1
        call_id = CallId(f"call-{self._calls}")
        self.tell(Called(call_id, PeerId(user), Service(f"s-{model}", image(model, gib)), tier))
        return call_id

    def start(self, container_id: ContainerId) -> None:
        self.tell(Started(container_id))

    def end(self, call_id: CallId, wall_ms: int = 5, log_bytes: int = 0) -> None:
        self.tell(CallEnded(call_id, Usage(wall_ms=wall_ms), log_bytes))

    def warm(self, user: str, model: str = "m", *, gib: int = 1, tier: int = 0) -> ContainerId:
        """A call from its start to its end; whatever has to go for it goes. Gives its container."""
        call_id = self.call(user, model, gib=gib, tier=tier)
        assert self.refusal() is None, self.refusal()
        effects = list(self.effects)
        while effects:
            match effects.pop(0):
                case StopContainer(container_id=container_id):
                    self.tell(ContainerDied(container_id))
                case StartContainer(container_id=container_id):
                    self.tell(Started(container_id))
                case Deliver(container_id=container_id):
                    self.end(call_id)
                    return container_id
            effects += self.effects
        raise AssertionError("it was not delivered")

    def refusal(self) -> Refusal | None:
        """Why the last stimulus led to a refusal, if it did."""
        return next((effect.refusal for effect in self.wanted(Refuse)), None)


@pytest.fixture
def pool() -> HandPool:
    return HandPool()
