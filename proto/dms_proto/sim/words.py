"""Words to build plans with: each takes a plan and gives one with more in it. What is random is drawn from the generator given."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from dms_proto.capability import Gpu, Price
from dms_proto.sim.plan import (
    AnyFault,
    Crash,
    Freeze,
    JobSpec,
    Lie,
    NodeSpec,
    Outage,
    Outcome,
    OwnerComes,
    Partition,
    Plan,
)
from dms_proto.units import GIB, MINUTE, SECOND

change = msgspec.structs.replace
SETTLED_MS = 3 * SECOND
"""When the nodes that were there from the start have met."""


def network(count: int, rng: Random, **spec: Any) -> Plan:
    """`count` nodes; each after the first knows one or two of those before it."""
    nodes = [NodeSpec(bootstrap=(), **spec)]
    for index in range(1, count):
        known = tuple(rng.sample(range(index), min(index, rng.randint(1, 2))))
        nodes.append(NodeSpec(bootstrap=known, **spec))
    # Should the others have forgotten it, the first node finds them as well.
    nodes[0] = change(nodes[0], bootstrap=tuple(range(1, min(3, count))))
    return Plan(nodes=tuple(nodes))


def with_jobs(plan: Plan, many: int, rng: Random, /, *, over_ms: int = 20 * SECOND, **spec: Any) -> Plan:
    """`many` jobs, anywhere, within `over_ms` from when the network has settled."""
    honest = [index for index, node in enumerate(plan.nodes) if node.lie is None]
    jobs = tuple(
        JobSpec(
            **{
                "node": rng.choice(honest),
                "at": SETTLED_MS + rng.randrange(over_ms),
                "work_ms": rng.choice((50, 300, 1_000, 4_000, 12_000)),
                "inputs": rng.random() < 0.3,
                "outputs": rng.random() < 0.3,
                **spec,
            }
        )
        for _ in range(many)
    )
    return change(plan, jobs=plan.jobs + jobs)


def with_weather(plan: Plan, **weather: Any) -> Plan:
    """With other weather."""
    return change(plan, weather=change(plan.weather, **weather))


def with_faults(plan: Plan, *faults: AnyFault) -> Plan:
    """With more that goes wrong."""
    return change(plan, faults=plan.faults + faults)


def with_node(plan: Plan, index: int, **spec: Any) -> Plan:
    """With one node changed."""
    nodes = list(plan.nodes)
    nodes[index] = change(nodes[index], **spec)
    return change(plan, nodes=tuple(nodes))


def with_liar(plan: Plan, lie: Lie, **spec: Any) -> Plan:
    """With one more node, which lies."""
    return change(plan, nodes=(*plan.nodes, NodeSpec(lie=lie, **spec)))


def crashing(plan: Plan, count: int, rng: Random) -> Plan:
    """Nodes die and start again."""
    faults = [
        Crash(
            node=rng.randrange(len(plan.nodes)),
            at=SETTLED_MS + rng.randrange(25 * SECOND),
            down_ms=rng.choice((20, 500, 3_000, 20_000)),
            runs_survive=rng.random() < 0.5,
            forgets=rng.random() < 0.5,
        )
        for _ in range(count)
    ]
    return with_faults(plan, *faults)


def parted(plan: Plan, count: int, rng: Random) -> Plan:
    """The network falls apart and heals, now and again."""
    faults = []
    for _ in range(count):
        side = tuple(sorted(rng.sample(range(len(plan.nodes)), rng.randint(1, len(plan.nodes) - 1))))
        at = SETTLED_MS + rng.randrange(20 * SECOND)
        faults.append(Partition(side, at, at + rng.choice((300, 2_000, 10_000, 40_000))))
    return with_faults(plan, *faults)


def frozen(plan: Plan, count: int, rng: Random) -> Plan:
    """Nodes stand still for a while."""
    faults = []
    for _ in range(count):
        at = SETTLED_MS + rng.randrange(20 * SECOND)
        faults.append(Freeze(rng.randrange(len(plan.nodes)), at, at + rng.choice((200, 800, 5_000))))
    return with_faults(plan, *faults)


def with_owners(plan: Plan, count: int, rng: Random) -> Plan:
    """Owners of machines, of any but the first, use them for a while, or unplug them."""
    faults = []
    for _ in range(count):
        at, unplugged = SETTLED_MS + rng.randrange(20 * SECOND), rng.random() < 0.3
        faults.append(
            OwnerComes(
                node=rng.randrange(1, len(plan.nodes)),
                at=at,
                until=at + rng.choice((400, 2_500, 8_000, 30_000)),
                cores=0 if unplugged else rng.choice((1, 2)),
                unplugged=unplugged,
                evict_after_ms=rng.choice((0, 1_000, 5_000, 60_000)),
            )
        )
    return with_faults(plan, *faults)


def cut_off(plan: Plan, node: int, rng: Random) -> Plan:
    """The network of one node is down for a while."""
    at = SETTLED_MS + rng.randrange(10 * SECOND)
    return with_faults(plan, Outage(node, at, at + rng.choice((1_000, 5_000, 30_000))))


def skewed(plan: Plan, rng: Random, most_ms: int) -> Plan:
    """Every node's clock is off by up to `most_ms`."""
    nodes = tuple(change(node, skew_ms=rng.randint(-most_ms, most_ms)) for node in plan.nodes)
    return change(plan, nodes=nodes)


def priced(plan: Plan, rng: Random) -> Plan:
    """Every node asks for something else."""
    nodes = tuple(
        change(node, tariff=Price(start=rng.randrange(200), cpu_core_hour=rng.randrange(50_000))) for node in plan.nodes
    )
    return change(plan, nodes=nodes)


def gpu(device: str = "", *, model: str = "A100", memory: int = 40 * GIB, milli: int = 1_000) -> Gpu:
    """A GPU of a machine (with a device) or in a need (without)."""
    return Gpu(device, "nvidia", model, memory, milli)


def any_outcome(rng: Random) -> Outcome:
    """Mostly well."""
    own = (Outcome.VARIES, Outcome.HALFWAY)
    return rng.choice((Outcome.OK,) * 5 + tuple(outcome for outcome in Outcome if outcome not in own))


def city(count: int, rng: Random, *, every_ms: int, for_ms: int, settled_ms: int, gpu_jobs: float = 0.02) -> Plan:
    """A large network at its daily work: each node submits a job about once in `every_ms`, from `settled_ms` on, for `for_ms`.

    One node in twenty has a GPU, and the share `gpu_jobs` of the jobs wants one. Messages are not encoded on their way:
    that takes time and shows nothing new.
    """
    plan = priced(network(count, rng), rng)
    nodes = [
        change(
            node,
            cores=rng.choice((2, 4, 8, 16)),
            gpus=(gpu("0"),) if index % 20 == 7 else (),
            joins_at=rng.randrange(settled_ms // 2) if index else 0,
            bootstrap=tuple(rng.sample(range(index), min(index, 2))),
        )
        for index, node in enumerate(plan.nodes)
    ]
    jobs = []
    for index in range(count):
        at = settled_ms + rng.randrange(every_ms)
        while at < settled_ms + for_ms:
            wants = (gpu(memory=10 * GIB),) if rng.random() < gpu_jobs else ()
            job = JobSpec(index, at, work_ms=rng.randrange(1_000, 60_000), gpus=wants, wall_ms=2 * MINUTE)
            jobs.append(job)
            at += rng.randrange(every_ms // 2, every_ms * 3 // 2)
    return change(plan, nodes=tuple(nodes), jobs=tuple(jobs), wire=False, horizon_ms=settled_ms + for_ms + 30 * MINUTE)
