"""The simulated machine under a node: what runs on it goes on when the node's process dies, or dies with it.

A task's command says what the program does: ``("sim", OUTCOME, MILLISECONDS)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from dms_proto.allocation.stimuli import RunExited, RunStarted
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.ids import AllocationId, PeerId
from dms_proto.sim.clock import Clock
from dms_proto.sim.plan import Outcome
from dms_proto.work import Ending, EndReason, Task, Usage

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode

PARTS: Final = 2
"""Checkpoints that a program leaves which stops half-way."""
STATE: Final = "state"
"""Its checkpoint."""
START_MS: Final = (2, 15)
"""How long the executor takes to start a run."""


@dataclass
class Run:
    """One program that runs, or is being started."""

    allocation_id: AllocationId
    task: Task
    ends_at: int
    ending: EndReason
    exit_code: int
    started_at: int = -1
    frozen_at: int = -1
    moves_since: int = -1
    moved_ms: int = 0
    token: object = field(default_factory=object)


class SimMachine:
    """What runs on one machine."""

    def __init__(self, peer: PeerId, clock: Clock, rng: Random, first_runners: dict[str, PeerId]) -> None:
        self.peer = peer
        self.runs: dict[AllocationId, Run] = {}
        self.started: set[AllocationId] = set()
        self.began_twice: list[AllocationId] = []
        self._moved_ms: dict[AllocationId, int] = {}
        self._lost_at: dict[AllocationId, int] = {}
        self.node: SimNode | None = None
        self._clock = clock
        self._rng = rng
        self._first_runners = first_runners

    def execute(self, node: SimNode, allocation_id: AllocationId, task: Task) -> None:
        """Starts a run."""
        if allocation_id in self.runs or allocation_id in self.started:
            self.began_twice.append(allocation_id)
        self.node = node
        reason, exit_code, span = self._fate(task)
        run = Run(allocation_id, task, span, reason, exit_code)
        self.runs[allocation_id] = run
        self._clock.after(self._rng.randint(*START_MS), self._start, run, run.token)

    def stop(self, allocation_id: AllocationId, grace_ms: int) -> None:
        """Asks a run to stop, or kills it after the grace."""
        run = self.runs.get(allocation_id)
        if run is None:
            return
        self.thaw(allocation_id)
        end = self._clock.now + self._rng.randint(1, max(1, grace_ms))
        if run.started_at < 0 or end < run.ends_at:
            run.ending, run.exit_code = EndReason.KILLED_BY_SIGNAL, CHECKPOINT_EXIT if run.task.checkpoint else 143
            if run.started_at >= 0:
                self._end_at(run, end)
            else:
                run.ends_at = 1

    def freeze(self, allocation_id: AllocationId) -> None:
        """Freezes a run where it stands."""
        run = self.runs.get(allocation_id)
        if run is not None and run.started_at >= 0 and run.frozen_at < 0:
            run.frozen_at = self._clock.now
            run.token = object()
            self._count(run)

    def thaw(self, allocation_id: AllocationId) -> None:
        """Lets a run go on; its time stood still."""
        run = self.runs.get(allocation_id)
        if run is not None and run.frozen_at >= 0:
            stood, run.frozen_at = self._clock.now - run.frozen_at, -1
            run.started_at += stood
            run.moves_since = self._clock.now
            self._end_at(run, run.ends_at + stood)

    def crash(self, *, survive: bool) -> None:
        """The node's process died. What it was just starting may have started or not."""
        for run in list(self.runs.values()):
            if not survive or (run.started_at < 0 and self._rng.random() < 0.5):
                self._take_out(run)

    def billable_ms(self, allocation_id: AllocationId) -> int:
        """For how long a run has moved until its end, counted apart from what it says of itself; of one whose end no node has seen: and since."""
        lost_at = self._lost_at.get(allocation_id, self._clock.now)
        return self._moved_ms.get(allocation_id, 0) + self._clock.now - lost_at

    def adopt(self, node: SimNode, allocation_id: AllocationId) -> bool:
        """Whether a run is still there; from now on `node` hears of it."""
        self.node = node
        run = self.runs.get(allocation_id)
        if run is not None and run.started_at >= 0:
            node.later(1, allocation_id, RunStarted(_handle(allocation_id)))
        return run is not None

    def _take_out(self, run: Run) -> None:
        self._count(run)
        self._moved_ms[run.allocation_id] = run.moved_ms
        if self.node is None or not self.node.up:
            self._lost_at[run.allocation_id] = self._clock.now
        del self.runs[run.allocation_id]

    def _count(self, run: Run) -> None:
        """Counts the time in which it moved; from now on only if it still does."""
        if run.moves_since >= 0:
            run.moved_ms += self._clock.now - run.moves_since
            run.moves_since = self._clock.now if run.frozen_at < 0 else -1

    def _fate(self, task: Task) -> tuple[EndReason, int, int]:
        outcome, span = Outcome(task.command[1]), int(task.command[2])
        first = self._first_runners.setdefault(task.command[3], self.peer)
        if span > task.limits.wall_ms or outcome is Outcome.OVERRUNS:
            return EndReason.WALL_TIME, 137, task.limits.wall_ms
        if outcome is Outcome.FAILS or (outcome is Outcome.FAILS_ONCE and first == self.peer):
            return EndReason.EXIT_NONZERO, 1, span
        if outcome is Outcome.MEMORY:
            return EndReason.OUT_OF_MEMORY, 137, span
        if outcome is Outcome.HALFWAY and parts_done(task) < PARTS:
            return EndReason.EXIT_NONZERO, CHECKPOINT_EXIT, span
        if outcome is Outcome.BREAKS_NODE:
            return EndReason.PROVIDER_FAULT, -1, 1
        return EndReason.COMPLETED, 0, span

    def _start(self, run: Run, token: object) -> None:
        if self.runs.get(run.allocation_id) is not run or run.token is not token:
            return
        run.started_at = run.moves_since = self._clock.now
        self.started.add(run.allocation_id)
        self._end_at(run, self._clock.now + run.ends_at)
        if self.node is not None and self.node.up:
            self.node.feed(run.allocation_id, RunStarted(_handle(run.allocation_id)))

    def _end_at(self, run: Run, at: int) -> None:
        run.ends_at = at
        run.token = object()
        self._clock.at(at, self._end, run, run.token)

    def _end(self, run: Run, token: object) -> None:
        if self.runs.get(run.allocation_id) is not run or run.token is not token:
            return
        self._take_out(run)
        wall = self._clock.now - run.started_at
        usage = Usage(wall_ms=wall, cpu_us=wall * 900, memory_peak_bytes=1 << 20)
        if self.node is not None and self.node.up:
            self.node.feed(run.allocation_id, RunExited(Ending(run.ending, run.exit_code, usage=usage)))


def parts_done(task: Task) -> int:
    """How much of its work was done when it began: its checkpoint has one byte for each part."""
    return sum(wanted.size for wanted in task.inputs if wanted.path == STATE)


def _handle(allocation_id: AllocationId) -> str:
    return f"sim:{allocation_id}"
