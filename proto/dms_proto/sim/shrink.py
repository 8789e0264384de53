"""Makes a failing plan as small as it can be while the same invariant still breaks: fewer jobs, faults and nodes, better weather."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from dms_proto.sim.plan import (
    AnyFault,
    Crash,
    CrashPoint,
    Freeze,
    Outage,
    OwnerComes,
    Partition,
    Pause,
    Plan,
    Pressure,
    Stop,
    Weather,
)
from dms_proto.sim.simulation import Simulation, Violation

MAX_TRIES: Final = 400
"""Simulations run while shrinking; each takes a fraction of a second."""

change = msgspec.structs.replace


def broken_by(plan: Plan, seed: int) -> Violation | None:
    """The invariant that this plan breaks, or None."""
    try:
        Simulation(plan, seed).run()
    except Violation as violation:
        return violation
    return None


def shrink(plan: Plan, seed: int, name: str, tries: int = MAX_TRIES) -> Plan:
    """The smallest plan found that still breaks the invariant `name`."""
    smaller = True
    while smaller and tries > 0:
        smaller = False
        for candidate in _smaller(plan):
            tries -= 1
            violation = broken_by(candidate, seed)
            if violation is not None and violation.name == name:
                plan, smaller = candidate, True
                break
            if tries <= 0:
                break
    return plan


def trace_of(plan: Plan, seed: int) -> list[str]:
    """Everything that happens in a plan, up to the violation: one line per step, probes and hellos left out."""
    lines: list[str] = []
    try:
        Simulation(plan, seed, trace=lines.append).run()
    except Violation as violation:
        lines.append(f"          {violation}")
    return [line for line in lines if " members " not in line or "Tell" in line]


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with one part less, coarse cuts first."""
    for jobs in _less(plan.jobs):
        yield change(plan, jobs=jobs)
    for faults in _less(plan.faults):
        yield change(plan, faults=faults)
    for index in reversed(range(1, len(plan.nodes))):
        if not _is_needed(plan, index):
            yield _without_node(plan, index)
    calm = Weather(delay_ms=plan.weather.delay_ms, jitter_ms=plan.weather.jitter_ms, until=plan.weather.until)
    for field in ("loss", "duplication", "reordering"):
        if getattr(plan.weather, field):
            yield change(plan, weather=change(plan.weather, **{field: getattr(calm, field)}))
    for index, job in enumerate(plan.jobs):
        if job.count > 1:
            halved = change(job, count=job.count // 2)
            yield change(plan, jobs=(*plan.jobs[:index], halved, *plan.jobs[index + 1 :]))


def _less(parts: tuple) -> Iterator[tuple]:  # type: ignore[type-arg]
    """The first half, the second half, and all but one."""
    if len(parts) > 2:
        yield parts[: len(parts) // 2]
        yield parts[len(parts) // 2 :]
    for index in range(len(parts)):
        yield (*parts[:index], *parts[index + 1 :])


def _is_needed(plan: Plan, index: int) -> bool:
    return any(job.node == index for job in plan.jobs) or any(index in _nodes_of(fault) for fault in plan.faults)


def _nodes_of(fault: AnyFault) -> tuple[int, ...]:
    match fault:
        case Partition(side=side):
            return side
        case Crash() | CrashPoint() | Outage() | Freeze() | Pressure() | Pause() | Stop() | OwnerComes():
            return (fault.node,)


def _without_node(plan: Plan, index: int) -> Plan:
    """The plan without a node that nothing mentions; the nodes after it move up."""

    def moved(old: int) -> int:
        return old - (old > index)

    nodes = tuple(
        change(node, bootstrap=tuple(moved(b) for b in node.bootstrap if b != index) or ((0,) if at else ()))
        for at, node in enumerate(plan.nodes)
        if at != index
    )
    jobs = tuple(change(job, node=moved(job.node)) for job in plan.jobs)
    faults = tuple(
        change(fault, side=tuple(map(moved, fault.side)))
        if isinstance(fault, Partition)
        else change(fault, node=moved(fault.node))
        for fault in plan.faults
    )
    return change(plan, nodes=nodes, jobs=jobs, faults=faults)
