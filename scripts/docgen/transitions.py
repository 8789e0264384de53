"""Which phases follow on which, as seen in the simulator: what the diagrams in docs/concepts are drawn from.

A machine's table says which handler meets a stimulus in a phase, not which phase comes next. The simulator runs the same machines through
every scenario; each change of phase it sees is written to `docs/concepts/transitions.json` as [from, cause, to]. The cause is the stimulus
where the phase is the table's own, and the event where it is a finer one (a slot, the search). A change that rare seeds alone show stays in
the file until somebody takes it out. Of the allocation every phase the simulator reaches also meets every stimulus in every variant, at once and
much later, since its rare ways are the ones a reader wants to know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dms_proto.accounts import machine as accounts
from dms_proto.allocation import machine as allocation
from dms_proto.allocation.endings import KEEP_MS
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.stimuli import (
    CancelHeard,
    InputsArrived,
    NodeRestarted,
    OutputsStored,
    ReceiptHeard,
    RequesterBack,
    RequesterGone,
    RunExited,
    RunStarted,
    StopWished,
)
from dms_proto.machine import Decision, Stimulus, Table, TimeCame
from dms_proto.market import auction, auction_fold, offer_book
from dms_proto.membership import machine as membership
from dms_proto.messages import Receipt
from dms_proto.pool import machine as pool
from dms_proto.pool import services
from dms_proto.sim.node import ACCOUNTS, BOOK, MEMBERS, SimNode
from dms_proto.sim.scenarios import SCENARIOS, plan_of
from dms_proto.sim.simulation import Simulation
from dms_proto.tabs import kept_machine, used_machine
from dms_proto.work import Ending, EndReason, Usage

change = msgspec.structs.replace
FILE = Path(__file__).parents[2] / "docs" / "concepts" / "transitions.json"
Edge = tuple[str, str, str]
Seen = dict[str, set[Edge]]

TABLES: Mapping[str, Table[Any]] = {
    "auction": auction.TABLE,
    "offer_book": offer_book.TABLE,
    "allocation": allocation.TABLE,
    "membership": membership.TABLE,
}
"""The machines by name. Their edges are caused by stimuli."""
PHASELESS: Mapping[str, Table[Any]] = {
    "accounts": accounts.TABLE,
    "pool": pool.TABLE,
    "services": services.TABLE,
    "tabs_kept": kept_machine.TABLE,
    "tabs_used": used_machine.TABLE,
}
"""Machines whose phases say little: they have a table, and no diagram."""
FINER = ("slot", "search")
"""Phases inside the auction. Their edges are caused by events."""


VARIANTS: tuple[Stimulus, ...] = (
    InputsArrived(),
    InputsArrived(failed="not to be had"),
    RunStarted("pid"),
    RunExited(Ending(EndReason.COMPLETED, 0)),
    OutputsStored(),
    RequesterGone(),
    RequesterBack(),
    NodeRestarted(adopted=True),
    NodeRestarted(adopted=False),
    StopWished(EndReason.PROVIDER_STOPPED),
    TimeCame(),
)
"""What an allocation of any kind may meet; what names its requester is added by `meet`."""


class _Watched(Simulation):
    """A simulation that notes every change of phase, and an allocation in each phase."""

    seen: Seen
    allocations: dict[str, Allocation]

    def stepped(self, node: SimNode, stream: str, stimulus: Stimulus, before: Any, decision: Decision) -> None:
        super().stepped(node, stream, stimulus, before, decision)
        if node.spec.lie is not None:
            return
        for machine, edge in changes(stream, stimulus, before, decision, node.states.get(stream, before)):
            self.seen[machine].add(edge)
        if isinstance(before, Allocation) and before.task is not None:
            self.allocations[before.phase] = before


def changes(stream: str, stimulus: Stimulus, before: Any, decision: Decision, after: Any) -> Iterator[tuple[str, Edge]]:
    """The changes of phase in one step."""
    cause = type(stimulus).__name__
    if stream == ACCOUNTS:
        return
    if stream == MEMBERS:
        for peer in {*before.peers, *after.peers}:
            was, now = before.peers.get(peer), after.peers.get(peer)
            if now is None:
                yield "membership", (was.phase, cause, "forgotten")
            elif was is None or was.phase is not now.phase:
                yield "membership", ("unknown" if was is None else was.phase, cause, now.phase)
        return
    machine = "offer_book" if stream == BOOK else "auction" if stream.startswith("r") else "allocation"
    if before.phase is not after.phase:
        yield machine, (before.phase, cause, after.phase)
    if machine == "auction":
        yield from _finer(before, decision)


def _finer(state: Any, decision: Decision) -> Iterator[tuple[str, Edge]]:
    for event in decision.events:
        following = auction_fold.evolve(state, event)
        cause = type(event).__name__
        if state.search is not following.search:
            yield "search", (state.search, cause, following.search)
        for was, now in zip(state.slots, following.slots, strict=False):
            if was.phase is not now.phase:
                yield "slot", (was.phase, cause, now.phase)
        state = following


def observe(seeds: int) -> Seen:
    """What `seeds` seeds of every scenario show."""
    seen: Seen = {name: set() for name in (*TABLES, *FINER)}
    allocations: dict[str, Allocation] = {}
    for scenario in SCENARIOS:
        for seed in range(seeds):
            world = _Watched(plan_of(scenario, seed), seed)
            world.seen, world.allocations = seen, allocations
            world.run()
    for state in allocations.values():
        seen["allocation"] |= set(meet(state))
    return seen


def meet(state: Allocation) -> Iterator[Edge]:
    """Where every stimulus leads from `state`, now and after everything has been waited for."""
    assert state.reservation is not None
    requester = state.reservation.requester
    request_id = state.reservation.request_id
    receipt = Receipt(request_id, state.reservation.allocation_id, EndReason.COMPLETED, Usage(), 0)
    own = (CancelHeard(requester, request_id), ReceiptHeard(requester, receipt))
    for start in (state, change(state, gone_until=1) if state.phase in _AT_WORK else state):
        for stimulus in (*VARIANTS, *own):
            for now in (start.ended_at, start.ended_at + KEEP_MS):
                after = start
                for event in allocation.decide(start, stimulus, now).events:
                    after = evolve(after, event)
                if after.phase is not start.phase:
                    yield (start.phase, type(stimulus).__name__, after.phase)


_AT_WORK = (LifePhase.PREPARING, LifePhase.STARTING, LifePhase.RUNNING)


def stored() -> Seen:
    """What the file says."""
    raw = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: {tuple(edge) for edge in edges} for name, edges in raw.items()}


def store(seen: Seen) -> None:
    """Writes the file, one edge a line."""
    lines = [
        f'  "{name}": [\n' + ",\n".join(f"    {json.dumps(list(edge))}" for edge in sorted(edges)) + "\n  ]"
        for name, edges in seen.items()
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def unlisted(seen: Seen) -> list[str]:
    """Edges that no table allows: from a phase in which the stimulus is not listed, or is listed as changing nothing."""
    wrong = []
    for name, table in TABLES.items():
        rows = {(str(phase), kind.__name__): row for (phase, kind), row in table.items()}
        for start, cause, end in sorted(seen[name]):
            row = rows.get((membership.PeerPhase.MET if start == "unknown" else start, cause))
            about_another = name == "membership" and row is not None
            if row is None and not about_another:
                wrong.append(f"{name}: {start} --{cause}--> {end} is not in the table")
    return wrong
