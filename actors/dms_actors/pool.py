"""The Pool actor: keeps containers warm and gives them calls, and knows the services they run. Thinks with the machines of both.

It also writes down to which nodes the calls of its owner went, and has the tabs of calls that are paid (`tabs`).
"""

from __future__ import annotations

from typing import Any, Final

from dms_actors.behaviour import Address
from dms_actors.draft import Journal
from dms_actors.letters import ShowServices, ShowState, ShowTabs, TabQuestion, TellAgain, Told
from dms_actors.machine_actor import TIME, MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.tabs import STIMULI, Tabs
from dms_actors.world import Containers, Paying
from dms_proto.ids import PeerId
from dms_proto.machine import Effect, Stimulus, TimeCame
from dms_proto.pool import machine, routes, services
from dms_proto.pool.fold import after_restart, evolve
from dms_proto.pool.routes import CALLS_STREAM, Routes, RouteTaken
from dms_proto.pool.services import SERVICES_STREAM, Services
from dms_proto.pool.state import (
    POOL_STREAM,
    Called,
    Deliver,
    Fail,
    ImageWithdrawn,
    Pool,
    PoolSaved,
    Refuse,
    StartContainer,
    StopContainer,
)
from dms_proto.tabs.kept import TurnAway

SERVICES: Final[Machine[Services]] = Machine(services.decide, services.evolve, lambda _state: None, lambda _state: ())
ROUTES: Final[Machine[Routes]] = Machine(routes.decide, routes.evolve, lambda _state: None, lambda _state: ())
POOL: Final[Machine[Pool]] = Machine(machine.decide, evolve, machine.next_deadline, machine.resume)


class PoolActor(MachineActor):
    """One node's pool. What a batch of calls has come to is due at once, so it is part of the batch's draft."""

    def __init__(
        self, *, journal: Journal, containers: Containers, paying: Paying, mishaps: Mishaps | None = None
    ) -> None:
        self.shell = Shell(POOL, POOL_STREAM, Pool())
        self.services = Shell(SERVICES, SERVICES_STREAM, Services())
        self.routes = Shell(ROUTES, CALLS_STREAM, Routes())
        self.tabs = Tabs(paying)
        super().__init__(journal, (self.services, self.shell, self.routes, *self.tabs.shells), mishaps)
        self._containers = containers
        self._has_looked = False

    def start(self, me: Address, *, is_new: bool) -> None:
        """Rebuilds the state from where it was last written as one."""
        self.me = me
        if not is_new:
            self.services.replay(self.journal.read_stream(SERVICES_STREAM))
            self.shell.replay(self.journal.read_stream(POOL_STREAM, since=PoolSaved.__name__))
            self.tabs.replay(self.journal)
        self.shell.state = after_restart(self.shell.state, 1)

    def begin(self, turn: Turn, now: int) -> None:
        """Containers that may have outlived the node are looked for; what was to be stopped is stopped."""
        if not self._has_looked:
            self._has_looked = True
            self._containers.find()
            self.tabs.begin(turn, now)
        super().begin(turn, now)

    def handle(self, turn: Turn, message: object, now: int) -> object:
        """A stimulus, or a question."""
        match message:
            case Told(stimulus=stimulus, cause_id=cause_id):
                return self._meet(turn, stimulus, now, cause_id)
            case TabQuestion():
                self.tabs.ask(turn, message, self.services.state, self.shell.state, now)
            case ShowServices():
                return self.services.state
            case ShowState():
                return self.shell.state
            case ShowTabs():
                return self.tabs.kept.state, self.tabs.used.state
            case TellAgain():
                self.tabs.tell_again()
            case _:
                raise TypeError(f"a pool is told stimuli, not {message!r}")
        return None

    def _meet(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> str:
        """Hands a stimulus to the machine that meets it; gives why nothing comes of it, where who tells it waits for that."""
        if type(stimulus) in services.WISHES:
            before = self.services.state
            turn.apply(self.services, stimulus, now, cause_id)
            for image in services.let_go(before, self.services.state):
                self._apply(turn, ImageWithdrawn(image), now, cause_id)
        elif isinstance(stimulus, RouteTaken):
            turn.apply(self.routes, stimulus, now, cause_id)
        elif type(stimulus) in STIMULI:
            return self.tabs.hear(turn, stimulus, now, cause_id)
        elif not isinstance(stimulus, Called) or self.tabs.lets_in(turn, stimulus, now, cause_id):
            self._apply(turn, stimulus, now, cause_id)
        return ""

    def time_came(self, turn: Turn, shell: Shell[Any], now: int) -> None:
        """See `MachineActor.time_came`."""
        if shell is self.shell:
            self._apply(turn, TimeCame(), now, TIME)
        else:
            super().time_came(turn, shell, now)

    def turn_written(self, turn: Turn) -> None:
        """Also: what may come to be owed from now on counts where it is bounded."""
        super().turn_written(turn)
        self.tabs.stake()

    def blame(self, peer: PeerId, now: int) -> None:
        """See `MachineActor.blame`."""
        self.tabs.blame(peer)

    def _apply(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        before = self.shell.state
        events = turn.apply(self.shell, stimulus, now, cause_id).events
        self.tabs.follow(turn, before, self.shell.state, (stimulus, *events), now, cause_id)

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
            case TurnAway(call_id=call_id, refusal=refusal):
                self._containers.refuse(call_id, refusal)
            case _:
                self.tabs.perform(effect, cause_id)
