"""A pool of warm containers among many users: the real machine, played processes, and a node that is killed at any moment.

What must hold is looked at after every turn: never more than the capacity · a refused newcomer changes nothing · no call lost or delivered twice · a
virtual container points to one container that is there, or waits · no hot container goes for an equal tier · what is idle ends in time · the log
gives the live state · the counters are what was delivered.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any, Final

import msgspec

from dms_proto.capability import Gpu, Resources
from dms_proto.ids import PeerId
from dms_proto.machine import Effect, Event, Stimulus, TimeCame, Transient
from dms_proto.market.arithmetic import clamp_subtract, fits_within, total_of
from dms_proto.pool import machine
from dms_proto.pool.fold import after_restart, evolve
from dms_proto.pool.placement import replay
from dms_proto.pool.records import Because, CallId, ContainerId, ContainerPhase, Image, Service
from dms_proto.pool.state import (
    Called,
    CallEnded,
    CallerGone,
    CapacityWished,
    ContainerDied,
    ContainerStopping,
    Deliver,
    Fail,
    Pool,
    PoolRestarted,
    PoolRules,
    PoolSaved,
    Refuse,
    RulesWished,
    StartContainer,
    Started,
    StartFailed,
    StopContainer,
)
from dms_proto.pool.tiers import hot_until, tier_of
from dms_proto.sim.chance import chance
from dms_proto.sim.demands import demand
from dms_proto.units import CORE, GIB, MINUTE, SECOND
from dms_proto.work import Usage

BEGIN_MS: Final = 1_000_000_000
DOWN_MS: Final = 3 * SECOND
"""How long a killed node is away."""
LOST: Final = "lost with the node"


class Plan(msgspec.Struct, frozen=True):
    """Who calls what, how often, and what goes wrong.

    Attributes:
        users, services: how many; a third of the users pays.
        images: how many the services share.
        for_ms: how long calls come.
        every_ms: between two calls, on average.
        call_ms, start_ms: how long a call, and a start, takes on average.
        kills: how often the node is killed and started again.
        survive: how likely a container's process is to outlive the node.
        faults: how likely a start is to fail, and a call to bring its container down.
        rules: of the pool.
        capacity: of the pool.
    """

    users: int = 40
    services: int = 6
    images: int = 4
    for_ms: int = 10 * MINUTE
    every_ms: int = 100
    call_ms: int = 150
    start_ms: int = 2 * SECOND
    kills: int = 6
    survive: float = 0.7
    faults: float = 0.01
    rules: PoolRules = PoolRules(ttl_ms=MINUTE, hot_ms=2 * SECOND, save_every=100)
    capacity: Resources = Resources(8 * CORE, 16 * GIB, gpus=(Gpu("0", "nvidia", "A100", 40 * GIB),))


class Figures(msgspec.Struct, frozen=True):
    """What came of the calls, and what it took."""

    calls: int
    ended: int
    refused: dict[str, int]
    failed: int
    lost_with_node: int
    starts: int
    kills: int
    events: int


class Process(msgspec.Struct):
    """A container's process; outlives the node, if it is lucky."""

    container_id: ContainerId
    size: Resources
    is_ready: bool = False


class PoolWorld:
    """One pool, its log, its processes, and those who call. Time goes on by `wait`.

    Attributes:
        outcomes: of each call, once it has one.
    """

    def __init__(self, plan: Plan, rng: Random) -> None:
        self.plan = plan
        self.rng = rng
        self.now = BEGIN_MS
        self.pool = Pool()
        self.log: list[Event] = []
        self.processes: dict[ContainerId, Process] = {}
        self.outcomes: dict[CallId, str] = {}
        self.made: list[CallId] = []
        self.given: set[CallId] = set()
        self.hits: Counter[str] = Counter()
        """What was written down as delivered, by container and virtual container."""
        self.starts = 0
        self.kills = 0
        self._saved_at = 0
        self._due: list[tuple[int, int, Stimulus]] = []
        self._numbers = count()
        self.tell(CapacityWished(plan.capacity))
        self.tell(RulesWished(plan.rules))

    # -------------------------------------------------------------------------------------------------------------- node

    def tell(self, stimulus: Stimulus, *, effects: int | None = None) -> None:
        """One turn: decided, written down, done. `effects`: only so many of them are done, since the node is killed then."""
        before = self.pool
        wanted = self._decide(stimulus)
        while (due := machine.next_deadline(self.pool)) is not None and due <= self.now:
            wanted += self._decide(TimeCame())
        self.hits.update(
            name for each in wanted if isinstance(each, Deliver) for name in (each.container_id, each.virtual_id)
        )
        self._look(before, stimulus, wanted)
        done = len(wanted) if effects is None else effects
        for effect in wanted[:done]:
            self._perform(effect)
        for effect in wanted[done:]:
            if isinstance(effect, (Refuse, Fail)):
                self._outcome(effect.call_id, LOST)

    def _decide(self, stimulus: Stimulus) -> list[Effect]:
        before, decision = self.pool, machine.decide(self.pool, stimulus, self.now)
        state = before
        for event in decision.events:
            if isinstance(event, ContainerStopping) and event.because is Because.EVICTED:
                _goes_rightly(before, event, stimulus, self.now)
            state = evolve(state, event)
            if isinstance(event, PoolSaved):
                self._saved_at = len(self.log)
            if not isinstance(event, Transient):
                self.log.append(_written_and_read(event))
        self.pool = state
        return list(decision.effects)

    def kill(self) -> None:
        """The node dies; its calls are lost with their connections. It is back after a while and finds what is alive."""
        self.kills += 1
        for call_id in self.pool.calls:
            self._outcome(call_id, LOST)
        self.processes = {key: each for key, each in self.processes.items() if self.rng.random() < self.plan.survive}
        self._due = [(at, number, each) for at, number, each in self._due if isinstance(each, Called)]
        heapq.heapify(self._due)
        self.now += DOWN_MS
        self.pool = self.folded()
        self._counters_survive()
        for effect in machine.resume(self.pool):
            self._perform(effect)
        for process in self.processes.values():
            process.is_ready = True
        self.tell(PoolRestarted(tuple(self.processes)))

    def folded(self) -> Pool:
        """The state as it follows from the log since all of it was last written as one."""
        return self._fold(self.log[self._saved_at :])

    def _fold(self, events: Sequence[Event]) -> Pool:
        pool = Pool()
        for event in events:
            pool = evolve(pool, event)
        return after_restart(pool, self.now)

    # ------------------------------------------------------------------------------------------------------------- world

    def later(self, delay_ms: int, stimulus: Stimulus) -> None:
        """The node is told after `delay_ms`."""
        heapq.heappush(self._due, (self.now + delay_ms, next(self._numbers), stimulus))

    def wait(self, span_ms: int) -> None:
        """Lets time pass, with all that comes of it."""
        until = self.now + span_ms
        while True:
            deadline = machine.next_deadline(self.pool)
            at = min(self._due[0][0] if self._due else until + 1, until + 1 if deadline is None else deadline)
            if at > until:
                break
            self.now = max(self.now, at)
            if self._due and self._due[0][0] <= self.now:
                self.tell(heapq.heappop(self._due)[2])
            else:
                self.tell(TimeCame())
        self.now = max(self.now, until)

    def call(self) -> Called:
        """Somebody calls something."""
        user = self.rng.randrange(self.plan.users)
        service = min(self.rng.randrange(self.plan.services), self.rng.randrange(self.plan.services))
        self.made.append(CallId(f"call-{len(self.made)}"))
        return Called(
            self.made[-1],
            PeerId(f"user-{user}"),
            Service(f"service-{service}", self._image(service % self.plan.images)),
            tier=int(user % 3 == 0),
        )

    def _image(self, number: int) -> Image:
        """Every third image wants half of a GPU."""
        gpus = (Gpu(memory_bytes=8 * GIB, milli=500),) if number % 3 == 2 else ()
        return Image("python", f"model-{number}", Resources(CORE, (1 + number % 4) * GIB, gpus=gpus))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartContainer(container_id=container_id, size=size):
                self._start(container_id, size)
            case StopContainer(container_id=container_id):
                self.later(self.rng.randrange(1, 500), ContainerDied(container_id))
            case Deliver(call_id=call_id, container_id=container_id):
                self._work(call_id, container_id)
            case Refuse(call_id=call_id, refusal=refusal):
                demand(call_id not in self.given, "no call is delivered and refused", call_id)
                self._outcome(call_id, f"refused: {refusal.code}")
            case Fail(call_id=call_id):
                self._outcome(call_id, "failed")
            case _:
                raise TypeError(f"no hands for {effect!r}")

    def _start(self, container_id: ContainerId, size: Resources) -> None:
        self.starts += 1
        demand(container_id not in self.processes, "no container is started twice", container_id)
        taken = total_of(process.size for process in self.processes.values())
        fits = fits_within(size, clamp_subtract(self.pool.capacity, taken))
        demand(fits, "never more than the capacity", f"{container_id}: {size} beside {taken}")
        if self.rng.random() < self.plan.faults:
            self.later(self._about(self.plan.start_ms), StartFailed(container_id, "no luck"))
            return
        self.processes[container_id] = Process(container_id, size)
        self.later(self._about(self.plan.start_ms), Started(container_id))

    def _work(self, call_id: CallId, container_id: ContainerId) -> None:
        demand(call_id not in self.given, "no call is delivered twice", call_id)
        self.given.add(call_id)
        demand(container_id in self.processes, "a call is delivered to what is there", f"{call_id} to {container_id}")
        took = self._about(self.plan.call_ms)
        if self.rng.random() < self.plan.faults:
            self.later(took, ContainerDied(container_id, "it fell over"))
        else:
            self.later(took, CallEnded(call_id, Usage(wall_ms=took), log_bytes=took))

    def _outcome(self, call_id: CallId, outcome: str) -> None:
        demand(
            call_id not in self.outcomes,
            "a call has one outcome",
            f"{call_id}: {self.outcomes.get(call_id)}, {outcome}",
        )
        self.outcomes[call_id] = outcome

    def _about(self, span_ms: int) -> int:
        return 1 + round(self.rng.expovariate(1 / span_ms))

    # -------------------------------------------------------------------------------------------------------------- laws

    def _look(self, before: Pool, stimulus: Stimulus, wanted: Sequence[Effect]) -> None:
        if isinstance(stimulus, ContainerDied):
            self.processes.pop(stimulus.container_id, None)
        if isinstance(stimulus, CallEnded) and stimulus.call_id in before.calls:
            self._outcome(stimulus.call_id, "ended")
        if (
            isinstance(stimulus, CallerGone)
            and stimulus.call_id not in self.pool.calls
            and stimulus.call_id in before.calls
        ):
            self._outcome(stimulus.call_id, "withdrawn")
        refused = [each for each in wanted if isinstance(each, Refuse)]
        if isinstance(stimulus, Called) and any(each.call_id == stimulus.call_id for each in refused):
            self._nothing_changed(before, wanted)
        for each in wanted:
            if isinstance(each, Deliver):
                demand(replay(each.placement) == each.placement, "a placement is replayed", str(each.placement))
        check(self.pool)
        self._idle_ends()

    def _nothing_changed(self, before: Pool, wanted: Sequence[Effect]) -> None:
        same = durable(self.pool) == durable(before) and self.pool.calls == before.calls
        demand(same or _was_due(before, self.now), "a refused newcomer changes nothing", str(wanted))

    def _idle_ends(self) -> None:
        ttl_ms = self.pool.rules.ttl_ms
        late = [each for each in self.pool.virtual.values() if not each.calls and each.used_at + ttl_ms < self.now]
        warm = [each for each in self.pool.containers.values() if each.is_idle and each.used_at + ttl_ms < self.now]
        demand(not late and not warm, "what is idle ends in time", f"{late} {warm}")

    def log_gives_the_state(self) -> None:
        """The log alone gives the live state, and the counters are what was delivered."""
        live, folded = durable(self.pool), durable(self.folded())
        demand(live == folded, "the log gives the live state", f"live {live}\nfolded {folded}")
        demand(folded == durable(self._fold(self.log)), "what was written as one is all that was before", str(folded))
        for name, hits in hits_of(self.pool).items():
            demand(hits == self.hits[name], "the counters are intact", f"{name}: {hits}, not {self.hits[name]}")

    def _counters_survive(self) -> None:
        """Where counters are written with each batch none is lost; else what was not written in time, and no more is asked of them."""
        for name, hits in hits_of(self.pool).items():
            is_exact = self.pool.rules.count_ms == 0
            demand(
                hits == self.hits[name] or (hits < self.hits[name] and not is_exact), "the counters are intact", name
            )
            self.hits[name] = hits

    def at_the_end(self) -> None:
        """Left alone, everything comes to its end."""
        self.wait(3 * self.pool.rules.ttl_ms + self.pool.rules.start_ms + 10 * MINUTE)
        missing = [each for each in self.made if each not in self.outcomes]
        demand(not missing, "no call is lost", f"{missing[:5]} of {len(missing)}")
        left = (self.pool.containers, self.pool.virtual, self.pool.calls, self.processes)
        demand(not any(left), "what is idle ends in time", str(left))


def hits_of(pool: Pool) -> dict[str, int]:
    """What each container, and each virtual one, has been given."""
    containers = {str(key): each.tally.hits for key, each in pool.containers.items()}
    return containers | {str(key): each.tally.hits for key, each in pool.virtual.items()}


def check(pool: Pool) -> None:
    """What holds of every state."""
    for virtual in pool.virtual.values():
        holder = pool.containers.get(virtual.container)
        pointed = [each.container_id for each in pool.containers.values() if virtual.virtual_id in each.virtual]
        demand(
            pointed == ([] if holder is None else [holder.container_id])
            and (holder is not None) == bool(virtual.container),
            "a virtual container points to one container or waits",
            f"{virtual} {pointed}",
        )
        demand(
            virtual.calls == sum(each.virtual_id == virtual.virtual_id for each in pool.calls.values()),
            "calls are counted",
            f"{virtual}",
        )
    for container in pool.containers.values():
        demand(len(container.virtual) <= pool.rules.virtual, "no more share a container than may", str(container))
        demand(len(container.calls) <= pool.rules.calls, "no more wait for a container than may", str(container))
        of_it = [each.call_id for each in pool.calls.values() if each.container_id == container.container_id]
        demand(sorted(of_it) == sorted(container.calls), "a call is at one container", str(container))
        at_work = [each for each in container.calls if pool.calls[each].delivered_at]
        demand(at_work == list(container.calls[:1])[: len(at_work)], "one call at a time, in order", str(container))
        is_gone = container.phase is ContainerPhase.STOPPING
        demand(not (is_gone and (container.calls or container.virtual)), "what is stopped has nothing", str(container))


def durable(pool: Pool) -> Pool:
    """What is left of a state after a restart, whenever that is."""
    return after_restart(pool, 0)


def _goes_rightly(before: Pool, event: ContainerStopping, stimulus: Stimulus, now: int) -> None:
    container = before.containers[event.container_id]
    demand(not container.calls, "nothing goes that has calls", str(container))
    if isinstance(stimulus, Called):
        is_hot = now < hot_until(container, before.rules.hot_ms)
        equal = stimulus.tier <= tier_of(container, before.virtual)
        demand(not (is_hot and equal), "no hot container goes for an equal tier", f"{container} for {stimulus}")


def _was_due(before: Pool, now: int) -> bool:
    """Whether something else was to be done in the same turn."""
    deadline = machine.next_deadline(before)
    return deadline is not None and deadline <= now


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final[dict[type[Event], Callable[[bytes], Any]]] = {}


def _written_and_read(event: Event) -> Event:
    kind = type(event)
    decode = _DECODERS.get(kind)
    if decode is None:
        decode = _DECODERS[kind] = msgspec.msgpack.Decoder(kind).decode
    read: Event = decode(_ENCODE(event))
    return read


def simulate(plan: Plan, seed: int) -> Figures:
    """Plays a plan to its end; raises `Violation` where something does not hold."""
    world = PoolWorld(plan, chance("pools", seed))
    kills = sorted(world.rng.randrange(plan.for_ms) for _ in range(plan.kills))
    while (passed := world.now - BEGIN_MS) < plan.for_ms:
        if kills and passed >= kills[0]:
            kills.pop(0)
            world.log_gives_the_state()
            world.tell(world.call(), effects=0)
            world.kill()
            world.log_gives_the_state()
        world.tell(world.call())
        world.wait(round(world.rng.expovariate(1 / plan.every_ms)))
    world.log_gives_the_state()
    world.at_the_end()
    ends = Counter(world.outcomes.values())
    refused = {name.removeprefix("refused: "): n for name, n in sorted(ends.items()) if name.startswith("refused")}
    return Figures(
        len(world.made), ends["ended"], refused, ends["failed"], ends[LOST],
        world.starts, world.kills, len(world.log),
    )  # fmt: skip
