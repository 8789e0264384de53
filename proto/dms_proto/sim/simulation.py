"""One world under virtual time: nodes, network, faults and owners, as a plan says; checked at every step.

``Simulation(plan, seed).run()`` returns what happened, or raises `Violation` with the invariant that broke. Nothing but the plan and the seed
goes in, so a failure can be had again, with a trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from dms_proto import ids
from dms_proto.allocation.state import LifePhase
from dms_proto.allocation.stimuli import InputsArrived, OutputsStored, StopWished
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Resources
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Decision, Stimulus
from dms_proto.market import auction_effects, auction_state, auction_stimuli, auction_terms, offer_state
from dms_proto.sim import freezes
from dms_proto.sim.chance import chance
from dms_proto.sim.clock import Clock
from dms_proto.sim.comparing import compared
from dms_proto.sim.demands import Violation
from dms_proto.sim.executor import STATE, SimMachine, parts_done
from dms_proto.sim.invariants import Watch
from dms_proto.sim.liars import MISCHIEF_MS, Liar
from dms_proto.sim.network import SimNetwork
from dms_proto.sim.node import BOOK, SimNode
from dms_proto.sim.owners import Owner
from dms_proto.sim.plan import (
    Crash,
    CrashPoint,
    Freeze,
    JobSpec,
    Outage,
    Outcome,
    OwnerComes,
    Partition,
    Pause,
    Plan,
    Pressure,
    Stop,
)
from dms_proto.units import CORE, SECOND
from dms_proto.work import EndReason, Input, Limits, Output, Task

CHECK_EVERY_MS: Final = 5 * SECOND
"""How often it is asked whether everything is over."""
_BLOB: Final = ids.digest_of(b"sim")


class Report(msgspec.Struct, frozen=True):
    """What happened.

    Attributes:
        ended_ms: when everything was over, world time.
        steps: stimuli that machines met.
        performed: calls of the clock.
        delivered: messages that reached another node, by kind.
        reasons: how requests ended, by reason.
        appends: writes to the log, by node.
    """

    ended_ms: int
    steps: int
    performed: int
    delivered: dict[str, int]
    reasons: dict[str, int]
    appends: tuple[int, ...]


class Simulation:
    """A world that runs. One in `twice_every` stimuli is given to its machine twice, to see that nothing more comes of it."""

    def __init__(
        self, plan: Plan, seed: int, *, twice_every: int = 3, trace: Callable[[str], None] | None = None
    ) -> None:
        self.plan = plan
        self.rng = chance("world", seed)
        self.clock = Clock()
        self.network = SimNetwork(self.clock, chance("network", seed), plan.weather, wire=plan.wire)
        self.watch = Watch(self, twice_every)
        self.steps = 0
        self._trace = trace
        self._seed = seed
        self._first_runners: dict[str, PeerId] = {}
        self.nodes = [self._node(index) for index in range(len(plan.nodes))]
        self.by_peer = {node.peer: node for node in self.nodes}
        self.owners = {node.peer: Owner(node, self.clock) for node in self.nodes}
        self.requests = [self._request_id(index) for index in range(len(plan.jobs))]
        self.submitted: set[int] = set()
        self._schedule()

    # ------------------------------------------------------------------------------------------------------------ running

    def run(self) -> Report:
        """Lives through the plan, until everything is over.

        Raises:
            Violation: an invariant broke, or something is not over by the plan's horizon.
        """
        while self.clock.now < self.plan.horizon_ms:
            self.clock.run_until(min(self.clock.now + CHECK_EVERY_MS, self.plan.horizon_ms))
            if self._is_over():
                break
        self.watch.at_the_end()
        return self.report()

    def run_for(self, span: int) -> Report:
        """Lives for `span` milliseconds, over or not."""
        self.clock.run_until(self.clock.now + span)
        return self.report()

    def report(self) -> Report:
        """What happened so far."""
        reasons: dict[str, int] = {}
        for node in self.nodes:
            for state in node.requests().values():
                if state.ending is not None:
                    reasons[state.ending.reason] = reasons.get(state.ending.reason, 0) + 1
        return Report(
            self.clock.now,
            self.steps,
            self.clock.performed,
            dict(self.network.delivered),
            reasons,
            tuple(node.appends for node in self.nodes),
        )

    def _is_over(self) -> bool:
        if len(self.submitted) < len(self.plan.jobs) or self.clock.now < self._quiet_at:
            return False
        return not any(self.unfinished())

    def unfinished(self) -> list[str]:
        """What is not over yet, in words."""
        hanging: list[str] = []
        for node in self.nodes:
            if not node.up:
                hanging.append(f"{node!r} is down")
                continue
            hanging += [
                f"{node!r}: request {key} is {a.phase}, {a.search}: {a.why}; slots {[s.phase.value for s in a.slots]}"
                for key, a in node.requests().items()
                if a.phase is not auction_state.AuctionPhase.ENDED
            ]
            if node.spec.lie is None:
                ledger = node.book.ledger
                hanging += [f"{node!r}: {bid_id} is locked" for bid_id in ledger.locks]
                hanging += [f"{node!r}: {allocation} is reserved" for allocation in ledger.reservations]
                hanging += [
                    f"{node!r}: {key} is {a.phase}" for key, a in node.allocations().items() if a.phase not in _OVER
                ]
                hanging += [f"{node!r}: {run} runs" for run in node.machine.runs]
        return hanging

    # ------------------------------------------------------------------------------------------------------ what nodes need

    def stepped(self, node: SimNode, stream: str, stimulus: Stimulus, before: Any, decision: Decision) -> None:
        """See `node.World`."""
        self.steps += 1
        if self._trace is not None:
            self._trace(_line(self.clock.now, node, stream, stimulus, decision))
        if stream[0] == "r":
            for event in decision.events:
                node.note(event)
        self.watch.step(node, stream, stimulus, before, decision)

    def rested(self, node: SimNode) -> None:
        """See `node.World`."""
        if node.up and node.spec.lie is None:
            freezes.check(node, self.owners[node.peer])

    def collect(self, node: SimNode, effect: auction_effects.Collect, tries: int = 15) -> None:
        """See `node.World`: takes a moment; without a way, it is tried again for a while."""
        status = effect.status
        there = effect.provider in self.network.links[node.peer] or effect.provider == node.peer
        if there and not self.network.is_cut(node.peer, effect.provider):
            node.later(self.rng.randint(5, 200), status.request_id, auction_stimuli.Collected(status.allocation_id))
        elif tries:
            self.clock.after(SECOND, self._collect_again, node, effect, tries - 1, node.life)
        else:
            node.feed(
                status.request_id, auction_stimuli.Collected(status.allocation_id, "the provider cannot be reached")
            )

    def _collect_again(self, node: SimNode, effect: auction_effects.Collect, tries: int, life: int) -> None:
        if node.life == life:
            self.collect(node, effect, tries)

    def compare(self, node: SimNode, stream: str, effect: auction_effects.Compare) -> None:
        """See `node.World`: takes a moment."""
        node.later(self.rng.randint(5, 500), stream, compared(effect))

    def fetch(self, node: SimNode, allocation_id: AllocationId, requester: PeerId) -> None:
        """See `node.World`."""
        task = node.states[allocation_id].task
        there = requester in self.network.links[node.peer] or requester == node.peer
        if not task.inputs:
            node.later(1, allocation_id, InputsArrived())
        elif there and not self.network.is_cut(node.peer, requester):
            node.later(self.rng.randint(5, 300), allocation_id, InputsArrived())
        else:
            failed = "the requester cannot be reached"
            node.later(2 * SECOND, allocation_id, InputsArrived(failed))

    def store(self, node: SimNode, allocation_id: AllocationId, task: Task | None) -> None:
        """See `node.World`."""
        outputs = (_output(node, task),) if task is not None and task.outputs else ()
        node.later(self.rng.randint(1, 10), allocation_id, OutputsStored(outputs))

    def died(self, node: SimNode) -> None:
        """See `node.World`: a node reached its crash point."""
        for fault in self.plan.faults:
            if isinstance(fault, CrashPoint) and fault.node == node.index:
                self.crash(node, fault)
                return

    # ---------------------------------------------------------------------------------------------------------- what happens

    def crash(self, node: SimNode, fault: Crash | CrashPoint) -> None:
        """Kills a node's process; it starts again after a while."""
        if not node.up:
            return
        self._say(f"{node!r} dies; {fault}")
        self.watch.before_crash(node)
        node.die(forgets=fault.forgets)
        node.machine.crash(survive=fault.runs_survive)
        self.network.node_died(node.peer)
        self.clock.after(fault.down_ms, self._start, node)

    def _start(self, node: SimNode) -> None:
        if node.up:
            return
        self._say(f"{node!r} starts")
        node.start()
        self._bootstrap(node, node.life)

    def _bootstrap(self, node: SimNode, life: int) -> None:
        """Dials whom it was told of, until it has met them all."""
        if node.life != life:
            return
        told = [self.nodes[index].peer for index in node.spec.bootstrap if index < len(self.nodes)]
        alone = not self.network.links[node.peer]
        missing = [peer for peer in told if alone or peer not in node.membership.peers]
        for peer in missing:
            self.network.dial(node, peer)
        if missing:
            self.clock.after(2 * SECOND, self._bootstrap, node, life)

    def _submit(self, index: int) -> None:
        job = self.plan.jobs[index]
        node = self.nodes[job.node]
        if not node.up or node.frozen_until > self.clock.now:
            self.clock.after(100, self._submit, index)
            return
        self.submitted.add(index)
        request_id = self.requests[index]
        node.feed(request_id, auction_stimuli.Submitted(self._terms(job, request_id, node)))
        if job.cancel_after:
            # Of a job of several, every second one has one allocation taken back instead of all of it.
            one = job.count > 1 and job.cancel_after % 2 == 1
            self.clock.after(job.cancel_after, self._cancel_one if one else self._cancel, node, request_id)

    def _cancel(self, node: SimNode, request_id: RequestId) -> None:
        if not node.up or node.frozen_until > self.clock.now:
            self.clock.after(100, self._cancel, node, request_id)
        elif request_id in node.states:
            node.feed(request_id, auction_stimuli.CancelAsked())

    def _cancel_one(self, node: SimNode, request_id: RequestId) -> None:
        if not node.up or node.frozen_until > self.clock.now:
            self.clock.after(100, self._cancel_one, node, request_id)
            return
        auction = node.states.get(request_id)
        if isinstance(auction, auction_state.Auction):
            for slot in auction.slots:
                if slot.phase in (auction_state.SlotPhase.COMMITTING, auction_state.SlotPhase.HELD):
                    node.feed(request_id, auction_stimuli.AllocationCancelAsked(slot.allocation_id))
                    return

    def _freeze(self, node: SimNode, until: int) -> None:
        self._say(f"{node!r} stands still until {until}")
        node.frozen_until = max(node.frozen_until, until)

    def _fail(self, node: SimNode) -> None:
        self._say(f"the network of {node!r} fails")
        self.network.fail(node.peer)

    def _recover(self, node: SimNode) -> None:
        self._say(f"the network of {node!r} is back")
        self.network.recover(node.peer)
        self._bootstrap(node, node.life)

    def _part(self, side: frozenset[PeerId]) -> None:
        self._say(f"{[repr(self.by_peer[peer]) for peer in sorted(side)]} are cut off")
        self.network.part(side)

    def _heal(self, side: frozenset[PeerId]) -> None:
        self._say("the cut heals")
        self.network.heal(side)

    def _wish(self, node: SimNode, stimulus: Stimulus) -> None:
        if node.up:
            node.feed(BOOK, stimulus)

    def _stop_all(self, node: SimNode) -> None:
        if node.up:
            for allocation_id in node.allocations():
                node.feed(allocation_id, StopWished(EndReason.PROVIDER_STOPPED))

    def _misbehave(self, node: SimNode) -> None:
        assert node.liar is not None
        deed = node.liar.mischief(node)
        if deed is not None and node.up:
            self.network.send(node, *deed)
        if self.clock.now < self.plan.weather.until:
            self.clock.after(MISCHIEF_MS, self._misbehave, node)

    # ----------------------------------------------------------------------------------------------------------- setting up

    def _node(self, index: int) -> SimNode:
        spec = self.plan.nodes[index]
        peer = self._peer(index)
        machine = SimMachine(peer, self.clock, chance("machine", self._seed, index), self._first_runners)
        node = SimNode(index, peer, spec, self, machine, own=tuple(map(self._peer, spec.own)))
        if spec.lie is not None:
            node.liar = Liar(spec.lie, chance("liar", self._seed, index), lambda: [n.peer for n in self.nodes])
        self.network.add(node)
        return node

    def _peer(self, index: int) -> PeerId:
        return ids.peer_id_of(hashlib.sha256(f"{self._seed} {index}".encode()).digest())

    def _schedule(self) -> None:
        for node in self.nodes:
            self.clock.at(node.spec.joins_at, self._start, node)
            if node.liar is not None:
                self.clock.at(node.spec.joins_at + SECOND, self._misbehave, node)
        for index, job in enumerate(self.plan.jobs):
            self.clock.at(job.at, self._submit, index)
        self._quiet_at = max(map(self._schedule_fault, self.plan.faults), default=0)

    def _schedule_fault(self, fault: object) -> int:
        """Returns when it is over."""
        at = self.clock.at
        match fault:
            case Crash(node=index, at=when, down_ms=down):
                at(when, self.crash, self.nodes[index], fault)
                return when + down + 1
            case CrashPoint(node=index, append=append, effects=effects):
                self.nodes[index].crash_points[append] = effects
                return 0
            case Partition(side=indexes, at=when, until=until):
                side = frozenset(self.nodes[index].peer for index in indexes)
                at(when, self._part, side)
                at(until, self._heal, side)
            case Outage(node=index, at=when, until=until):
                at(when, self._fail, self.nodes[index])
                at(until, self._recover, self.nodes[index])
            case Freeze(node=index, at=when, until=until):
                at(when, self._freeze, self.nodes[index], until)
            case Pressure(node=index, at=when, until=until, cores=cores, memory=memory):
                at(when, self._wish, self.nodes[index], offer_state.PressureSeen(Resources(cores * CORE, memory)))
                at(until, self._wish, self.nodes[index], offer_state.PressureSeen(Resources()))
            case Pause(node=index, at=when, until=until, stopping=stopping):
                wish = offer_state.PauseWished(True, "" if stopping else "the owner needs it", stopping)
                at(when, self._wish, self.nodes[index], wish)
                after = offer_state.NodeStarted() if stopping else offer_state.PauseWished(False)
                at(until, self._wish, self.nodes[index], after)
            case OwnerComes(node=index, at=when, until=until):
                at(when, self.owners[self.nodes[index].peer].comes, fault)
            case Stop(node=index, at=when):
                at(when, self._stop_all, self.nodes[index])
                return when
            case _:
                raise TypeError(f"unknown fault {fault!r}")
        return until + 1

    def _request_id(self, index: int) -> RequestId:
        return ids.request_id(hashlib.sha256(f"request {self._seed} {index}".encode()).digest())

    def _terms(self, job: JobSpec, request_id: RequestId, node: SimNode) -> auction_terms.Terms:
        resources = Resources(job.cores * CORE, job.memory, 0, job.gpus)
        needs = Capability(
            resources=resources,
            architecture=job.architecture,
            executors=(ExecutorOffer("sandbox", "", Isolation.NONE),),
            relayed=True,
            max_wall_ms=job.wall_ms,
            job_classes=(job.kind,) if job.kind is not None else (),
        )
        task = Task(
            executor="sandbox",
            command=("sim", job.outcome, str(job.work_ms), request_id),
            inputs=(Input("in", _BLOB, 3),) if job.inputs else (),
            outputs=("out",) if job.outputs else (),
            checkpoint=STATE if job.outcome is Outcome.HALFWAY else "",
            resources=resources,
            limits=Limits(wall_ms=job.wall_ms),
        )
        return auction_terms.Terms(
            request_id=request_id,
            requester=node.peer,
            task=task,
            needs=needs,
            count=job.count,
            together=job.together,
            bids_wanted=job.bids_wanted,
            max_price=job.max_price,
            queue_ms=job.queue_ms,
            patience_ms=job.patience_ms,
            deadline_at=node.now + job.deadline_ms if job.deadline_ms else 0,
            priority=job.priority,
            verify=job.verify,
            seed=f"secret {request_id}".encode(),
            pricing=job.pricing,
        )

    def _say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.clock.now:>9}      {text}")


def _output(node: SimNode, task: Task) -> Output:
    """What a program leaves: the same wherever it runs, or a little different on each node; or how far it has got."""
    if task.checkpoint in task.outputs:
        parts = parts_done(task) + 1
        return Output(STATE, ids.digest_of(f"sim {parts} parts".encode()), parts)
    size = _SIZE + (node.index if task.command[1] == Outcome.VARIES else 0)
    return Output("out", ids.digest_of(f"sim {size}".encode()), size)


_SIZE: Final = 1_000
_OVER: Final = (LifePhase.ENDED, LifePhase.CLOSED)


def _line(now: int, node: SimNode, stream: str, stimulus: Stimulus, decision: Decision) -> str:
    """A step on one line: what arrived, what was written down, what is to be done."""
    what = stimulus.__class__.__name__
    for field in (
        "bid",
        "decline",
        "ack",
        "refused",
        "answer",
        "status",
        "request",
        "commit",
        "release",
        "probe",
        "hello",
    ):
        inner = getattr(stimulus, field, None)
        if inner is not None and not isinstance(inner, str):
            what += f"({_brief(inner)})"
            break
    source = next((getattr(stimulus, f) for f in ("provider", "requester", "peer", "by") if hasattr(stimulus, f)), "")
    events = ", ".join(_brief(event) for event in decision.events)
    effects = ", ".join(_brief(effect) for effect in decision.effects)
    return (
        f"{now:>9} {node!r:>4} {stream[:10]:<10} {what} {ids.short(source) if source else ''} => {events} | {effects}"
    )


_TOLD: Final = (
    "phase",
    "round",
    "number",
    "refusal",
    "reason",
    "why",
    "final",
    "slots",
    "slot",
    "taken",
    "bid_id",
    "count",
    "price",
)


def _brief(thing: Any) -> str:
    inner = getattr(thing, "message", None)
    if inner is not None:
        return f"{_brief(inner)}→{ids.short(thing.peer)}"
    told = [f"{f}={_value(getattr(thing, f))}" for f in _TOLD if getattr(thing, f, None) not in (None, "")]
    ending = getattr(thing, "ending", None)
    if ending is not None:
        told.append(f"ending={ending.reason}")
    return f"{type(thing).__name__}({' '.join(told)})" if told else type(thing).__name__


def _value(value: object) -> str:
    return str(value)[:60] if isinstance(value, (int, str)) else repr(value)[:60]


__all__ = ["Report", "Simulation", "Violation"]
