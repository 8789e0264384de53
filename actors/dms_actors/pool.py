"""The Pool actor: keeps containers warm and gives them calls, and knows the services they run. Thinks with the machines of both.

It also writes down to which nodes the calls of its owner went.
"""

from __future__ import annotations

from typing import Any, Final

from dms_actors.behaviour import Address
from dms_actors.draft import Journal
from dms_actors.letters import ShowServices, ShowState, TellAgain, Told
from dms_actors.machine_actor import MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.world import Containers
from dms_proto.machine import Effect
from dms_proto.pool import machine, routes, services
from dms_proto.pool.fold import after_restart, evolve
from dms_proto.pool.routes import CALLS_STREAM, Routes, RouteTaken
from dms_proto.pool.services import SERVICES_STREAM, Services
from dms_proto.pool.state import (
    POOL_STREAM,
    Deliver,
    Fail,
    ImageWithdrawn,
    Pool,
    PoolSaved,
    Refuse,
    StartContainer,
    StopContainer,
)

SERVICES: Final[Machine[Services]] = Machine(services.decide, services.evolve, lambda _state: None, lambda _state: ())
ROUTES: Final[Machine[Routes]] = Machine(routes.decide, routes.evolve, lambda _state: None, lambda _state: ())
POOL: Final[Machine[Pool]] = Machine(machine.decide, evolve, machine.next_deadline, machine.resume)


class PoolActor(MachineActor):
    """One node's pool. What a batch of calls has come to is due at once, so it is part of the batch's draft."""

    def __init__(self, *, journal: Journal, containers: Containers, mishaps: Mishaps | None = None) -> None:
        self.shell = Shell(POOL, POOL_STREAM, Pool())
        self.services = Shell(SERVICES, SERVICES_STREAM, Services())
        self.routes = Shell(ROUTES, CALLS_STREAM, Routes())
        super().__init__(journal, (self.services, self.shell, self.routes), mishaps)
        self._containers = containers
        self._has_looked = False

    def start(self, me: Address, *, is_new: bool) -> None:
        """Rebuilds the state from where it was last written as one."""
        self.me = me
        if not is_new:
            self.services.replay(self.journal.read_stream(SERVICES_STREAM))
            self.shell.replay(self.journal.read_stream(POOL_STREAM, since=PoolSaved.__name__))
        self.shell.state = after_restart(self.shell.state, 1)

    def begin(self, turn: Turn, now: int) -> None:
        """Containers that may have outlived the node are looked for; what was to be stopped is stopped."""
        if not self._has_looked:
            self._has_looked = True
            self._containers.find()
        super().begin(turn, now)

    def handle(self, turn: Turn, message: object, now: int) -> object:
        """A stimulus, or the question for the state."""
        match message:
            case Told(stimulus=stimulus, cause_id=cause_id) if type(stimulus) in services.WISHES:
                before = self.services.state
                turn.apply(self.services, stimulus, now, cause_id)
                for image in services.let_go(before, self.services.state):
                    turn.apply(self.shell, ImageWithdrawn(image), now, cause_id)
                return None
            case Told(stimulus=RouteTaken() as stimulus, cause_id=cause_id):
                turn.apply(self.routes, stimulus, now, cause_id)
                return None
            case Told(stimulus=stimulus, cause_id=cause_id):
                turn.apply(self.shell, stimulus, now, cause_id)
                return None
            case ShowServices():
                return self.services.state
            case ShowState():
                return self.shell.state
            case TellAgain():
                return None
            case _:
                raise TypeError(f"a pool is told stimuli, not {message!r}")

    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        """Starts, stops, delivers, refuses."""
        match effect:
            case StartContainer(container_id=container_id, image=image, size=size):
                self._containers.start(container_id, image, size)
            case StopContainer(container_id=container_id):
                self._containers.stop(container_id)
            case Deliver(call_id=call_id, container_id=container_id, virtual_id=virtual_id, placement=placement):
                self._containers.deliver(call_id, container_id, virtual_id, placement)
            case Refuse(call_id=call_id, refusal=refusal):
                self._containers.refuse(call_id, refusal)
            case Fail(call_id=call_id, why=why):
                self._containers.fail(call_id, why)
            case _:
                raise TypeError(f"no hands for {effect!r}")
