"""Actors without threads: all on the caller's, one batch at a time, in an order drawn from a seed, under a clock that only goes on when told to.

::

    SeededLoop                  the seed, the clock, what is due later; chooses who is next
      └─ SeededRuntime          one process: its actors; can be killed at any moment
           └─ the actors        the same behaviours as on threads, the same mailbox rules, the same supervision

The same seed gives the same run to the byte, so a run that goes wrong can be looked at as often as it takes.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from dms_actors.behaviour import Behaviour
from dms_actors.draft import Draft
from dms_actors.mailbox import BATCH, CAPACITY, Letter, Stop
from dms_actors.member import Member, Pending, commit
from dms_proto.errors import InternalError

EPOCH: Final = 1_700_000_000_000
"""Where the clock begins, Unix ms."""
STALL: Final = 0.03
"""How likely it is that time goes on between two batches, as if the machine were busy."""
STALL_MS: Final = 20
SHARED: Final = 0.5
"""How likely it is that an actor's draft is written together with others, and that one that is ready takes part."""


class _Timer(NamedTuple):
    at: int
    number: int
    runtime: SeededRuntime | None
    call: Callable[[], object]


class _MadeToFail(Exception):  # noqa: N818 - it is wanted
    """What `SeededAddress.fail_next` has a behaviour raise."""


class SeededLoop:
    """Chance and time for a number of runtimes.

    Attributes:
        rng: the only source of chance.
        now: Unix ms.
        watch: called after each batch with the actor's name and behaviour: where invariants are checked.
        failures: what behaviours raised, besides what they were made to raise: supervision hides it, a test must not.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a test's own chance
        self.now = EPOCH
        self.watch: Callable[[str, Behaviour], None] = lambda _name, _behaviour: None
        self.failures: list[tuple[str, Exception]] = []
        self.runtimes: list[SeededRuntime] = []
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()

    def later(self, delay_ms: int, call: Callable[[], object], runtime: SeededRuntime | None = None) -> None:
        """Calls after `delay_ms`, unless `runtime` was killed meanwhile."""
        heapq.heappush(self._timers, _Timer(self.now + delay_ms, next(self._numbers), runtime, call))

    def run(self, is_enough: Callable[[], bool], until: int) -> bool:
        """Goes on until it is enough (True), or the clock has passed `until` or nothing is left to do (False)."""
        while not is_enough():
            if not self.step() and not self._pass_time(until):
                return is_enough()
        return True

    def step(self) -> bool:
        """Has one actor handle a batch, or makes one call that is due. False: nothing is due now."""
        ready = [actor for runtime in self.runtimes for actor in runtime.ready()]
        is_due = bool(self._timers) and self._timers[0].at <= self.now
        if not ready and not is_due:
            return False
        choice = self.rng.randrange(len(ready) + is_due)
        if choice < len(ready):
            self._shift(ready, ready[choice])
        else:
            timer = heapq.heappop(self._timers)
            if timer.runtime is None or timer.runtime.is_alive:
                timer.call()
        if self.rng.random() < STALL:
            self.now += self.rng.randrange(STALL_MS)
        return True

    def _shift(self, ready: Sequence[SeededAddress], chosen: SeededAddress) -> None:
        """One actor, and some of those of its process that are ready too, whose drafts are then written together, as on a thread."""
        crew = [chosen]
        if self.rng.random() < SHARED:
            crew += [a for a in ready if a.runtime is chosen.runtime and a is not chosen and self.rng.random() < SHARED]
        pending = [actor.work() for actor in crew]
        commit([one for one in pending if one is not None])
        for actor in crew:
            if actor.is_alive:  # not, when its process was killed in the middle of it
                actor.after()

    def _pass_time(self, until: int) -> bool:
        """Goes to the next moment at which something is due."""
        due = [at for runtime in self.runtimes for at in runtime.deadlines()]
        if self._timers:
            due.append(self._timers[0].at)
        if not due or self.now >= until:
            return False
        self.now = max(self.now, min(due))
        return True


class SeededRuntime:
    """Implements `behaviour.Runtime`: the actors of one process.

    Args:
        loop: chance and time.
        skew_ms: how far this process's clock is ahead.
    """

    def __init__(self, loop: SeededLoop, skew_ms: int = 0) -> None:
        self.loop = loop
        self.skew_ms = skew_ms
        self.is_alive = True
        self.actors: list[SeededAddress] = []
        loop.runtimes.append(self)

    def clock(self) -> int:
        """Unix ms, by this process's clock."""
        return self.loop.now + self.skew_ms

    def spawn(
        self,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], object] | None = None,
        *,
        is_new: bool = False,
        capacity: int = CAPACITY,
    ) -> SeededAddress:
        """Starts an actor; it begins when it is chosen."""
        actor = SeededAddress(self, name, build, failed, capacity, is_new=is_new)
        self.actors.append(actor)
        return actor

    def later(self, delay_ms: int, call: Callable[[], object]) -> None:
        """Calls after `delay_ms`, if the process is alive then."""
        self.loop.later(delay_ms, call, self)

    def kill(self) -> None:
        """Ends the process as kill -9 does: nobody is stopped or told."""
        self.is_alive = False
        self.loop.runtimes.remove(self)
        for actor in self.actors:
            actor.is_alive = False

    def stop_all(self) -> None:
        """Ends what still runs, youngest first, each after what waits in its mailbox."""
        for actor in reversed(self.actors[:]):
            actor.stop()
            while actor.is_alive:
                actor.step()

    def ready(self) -> Iterator[SeededAddress]:
        """The actors that have something to do now."""
        return (actor for actor in self.actors if actor.is_ready())

    def deadlines(self) -> Iterator[int]:
        """When the others wake by themselves, by the loop's clock."""
        return (actor.wakes_at - self.skew_ms for actor in self.actors if actor.wakes_at is not None)


class SeededAddress:
    """Implements `behaviour.Address`; the actor itself behind it. Supervised as on a thread, by the same `Member`."""

    def __init__(
        self,
        runtime: SeededRuntime,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], object] | None,
        capacity: int,
        *,
        is_new: bool,
    ) -> None:
        self.name = name
        self.is_alive = True
        self.refused = 0
        self.wakes_at: int | None = None
        self.has_begun = False
        self.runtime = runtime
        self._capacity = capacity
        self._waiting: deque[Letter | Stop] = deque()
        self._is_to_fail = False
        self._member = Member(
            self, lambda: _Breakable(build(), self), runtime.clock, failed, is_new=is_new, noticed=self._notice
        )

    # -- Address

    def tell(self, message: object) -> bool:
        """See `Address.tell`."""
        if not self.is_alive:
            return False
        if len(self._waiting) >= self._capacity:
            self.refused += 1
            return False
        self._waiting.append(Letter(message))
        return True

    def ask(self, message: object, timeout: float) -> Any:
        """See `Address.ask`. Has the others go on until the answer is there; `timeout` is seconds of the loop's clock."""
        answers: list[object] = []
        self.pass_on(message, answers.append)
        loop = self.runtime.loop
        if not loop.run(lambda: bool(answers), loop.now + int(timeout * 1000)):
            raise InternalError("internal", f"{self.name} did not answer within {timeout} s", retryable=True)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def pass_on(self, message: object, answer: Callable[[object], object]) -> None:
        """See `Address.pass_on`."""
        if self.is_alive:
            self._waiting.append(Letter(message, answer))
        else:
            answer(InternalError("internal", f"{self.name} has ended", retryable=True))

    def stop(self) -> None:
        """See `Address.stop`."""
        if self.is_alive:
            self._waiting.append(Stop())

    # -- for the loop

    @property
    def behaviour(self) -> Behaviour | None:
        """What it does; None while it has not begun, or has been given up."""
        breakable = self._member.behaviour
        return breakable.behaviour if isinstance(breakable, _Breakable) else None

    def fail_next(self) -> None:
        """The next batch breaks the behaviour."""
        self._is_to_fail = True

    def is_made_to_fail(self) -> bool:
        """Whether that batch is this one."""
        failing, self._is_to_fail = self._is_to_fail, False
        return failing

    def is_ready(self) -> bool:
        """Whether it has something to do now."""
        is_due = self.wakes_at is not None and self.wakes_at <= self.runtime.clock()
        return self.is_alive and (not self.has_begun or bool(self._waiting) or is_due)

    def work(self) -> Pending | None:
        """Begins, or handles one batch; what is pending is to be written, with that of others if there is any."""
        self.has_begun = True
        if self._waiting and isinstance(self._waiting[0], Stop) and self.behaviour is not None:
            return None
        return self._member.work(self._take())

    def after(self) -> None:
        """Everything of the batch is written and done, or nothing."""
        is_last = bool(self._waiting) and isinstance(self._waiting[0], Stop)
        deadline = None if is_last else self._member.deadline()
        if self._member.is_over or is_last:
            self.is_alive, self.wakes_at = False, None
            self.runtime.actors.remove(self)
            waiting = [letter for letter in self._waiting if isinstance(letter, Letter)]
            self._waiting.clear()
            self._member.end(waiting)
        else:
            self.wakes_at = deadline
        if self.behaviour is not None:
            self.runtime.loop.watch(self.name, self.behaviour)

    def step(self) -> None:
        """Begins, handles one batch, or ends."""
        pending = self.work()
        if pending is not None:
            commit((pending,))
        self.after()

    def _take(self) -> tuple[Letter, ...]:
        most = self.runtime.loop.rng.randint(1, BATCH)
        batch: list[Letter] = []
        while self._waiting and len(batch) < most and isinstance(letter := self._waiting[0], Letter):
            batch.append(letter)
            self._waiting.popleft()
        return tuple(batch)

    def _notice(self, error: Exception) -> None:
        if not isinstance(error, _MadeToFail):
            self.runtime.loop.failures.append((self.name, error))


class _Breakable:
    """A behaviour that fails when its address was told that it should."""

    def __init__(self, behaviour: Behaviour, address: SeededAddress) -> None:
        self.behaviour = behaviour
        self._address = address
        self.start, self.deadline, self.stop = behaviour.start, behaviour.deadline, behaviour.stop

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object] | Draft:
        """See `Behaviour.receive`."""
        if self._address.is_made_to_fail():
            raise _MadeToFail
        return self.behaviour.receive(batch, now)
