"""Nodes of Kubernetes as machines: what they give to Pods like the owner's, less what other Pods asked for, within the quotas of a namespace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from dms.executors.cluster.engine import Bounds, Capacity, EngineError, Machine
from dms.executors.cluster.kubernetes_pods import Condition, Metadata, Pod, PodSpec, Template, Toleration
from dms_proto.capability import NOTHING, Resources
from dms_proto.market.arithmetic import add, clamp_subtract, total_of
from dms_proto.units import CORE

_QUANTITY: Final = re.compile(r"(?P<number>[+-]?[\d.]+(?:[eE][+-]?\d+)?)(?P<unit>[numkMGTPE]|[KMGTPE]i)?")
_UNITS: Final = {
    **{
        unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
_PASSING: Final = "node.kubernetes.io/"
"""Taints by which Kubernetes itself keeps Pods from a node for a while: it does not answer, or is drained, or lacks something."""
_KEEPS_AWAY: Final = frozenset({"NoSchedule", "NoExecute"})
_MACHINES_OWN: Final = frozenset({"DaemonSet", "Node"})
"""What has made Pods that are on a node for as long as it is there."""
_SCOPES: Final = frozenset({"Terminating", "NotBestEffort"})
"""Of quotas, those that runners are in: they have a deadline, and say what they need."""
_CPU: Final = ("cpu", "requests.cpu", "limits.cpu")
_MEMORY: Final = ("memory", "requests.memory", "limits.memory")
_PODS: Final = ("pods", "count/pods")


class Taint(msgspec.Struct, frozen=True):
    """What keeps Pods from a node that do not tolerate it."""

    key: str
    effect: str
    value: str = ""


class _NodeSpec(msgspec.Struct, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class _NodeStatus(msgspec.Struct, frozen=True):
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A node as Kubernetes tells of it."""

    metadata: Metadata
    spec: _NodeSpec
    status: _NodeStatus

    @property
    def is_ready(self) -> bool:
        """Whether it answers, and takes Pods."""
        ready = any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)
        return ready and not self.spec.unschedulable


class _QuotaSpec(msgspec.Struct, frozen=True, rename="camel"):
    scopes: tuple[str, ...] = ()
    scope_selector: object = None


class _QuotaStatus(msgspec.Struct, frozen=True):
    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class ResourceQuota(msgspec.Struct, frozen=True):
    """What a namespace may have at most, and has."""

    spec: _QuotaSpec
    status: _QuotaStatus

    @property
    def counts_runners(self) -> bool:
        """Whether it bounds Pods such as ours."""
        return _SCOPES.issuperset(self.spec.scopes) and self.spec.scope_selector is None


def quantity(text: str) -> Decimal:
    """Reads an amount as Kubernetes spells it, such as 250m, 1.5Gi or 12e6.

    Raises:
        EngineError: it is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise EngineError(f"Kubernetes' answer is not understood: {text!r} is no amount")
    return Decimal(found["number"]) * _UNITS[found["unit"] or ""]


def amount_of(amounts: Mapping[str, str]) -> Resources:
    """The cores and the memory among what is listed."""
    cores, memory = quantity(amounts.get("cpu", "0")), quantity(amounts.get("memory", "0"))
    return Resources(cpu_millicores=int(cores * CORE), memory_bytes=int(memory))


def requested(spec: PodSpec) -> Resources:
    """What a Pod takes of its node, as the scheduler counts it: the most at a time of what is started one after the other, and what stays."""
    stays = most = NOTHING
    for container in spec.init_containers:
        wanted = amount_of(container.resources.requests)
        if container.restart_policy == "Always":
            stays = add(stays, wanted)
            wanted = NOTHING
        most = _larger(most, add(stays, wanted))
    running = add(stays, total_of(amount_of(container.resources.requests) for container in spec.containers))
    whole = _larger(_larger(most, running), amount_of(spec.resources.requests))
    return add(whole, amount_of(spec.overhead))


def machines_of(nodes: Iterable[Node], pods: Iterable[Pod], template: Template) -> tuple[Machine, ...]:
    """The nodes that a Pod like the owner's may be placed on, ready or not.

    Args:
        nodes: all of them.
        pods: all that are not over, of everybody.
        template: the owner's.

    Raises:
        EngineError: there is none.
    """
    on: dict[str, list[Pod]] = {}
    for pod in pods:
        on.setdefault(pod.spec.node_name, []).append(pod)
    machines = tuple(
        _machine(node, on.get(node.metadata.name, ()), template) for node in nodes if _is_for(node, template)
    )
    if not machines:
        raise EngineError("Kubernetes has no node that a Pod like that of executors.kubernetes_pod may be placed on")
    return machines


def bounded(capacity: Capacity, quotas: Iterable[ResourceQuota]) -> Capacity:
    """What of a cluster can be had under the quotas of a namespace; without one, all of it."""
    counting = [quota for quota in quotas if quota.counts_runners]
    if not counting:
        return capacity
    hard = [_quantities(quota.status.hard) for quota in counting]
    used = [_quantities(quota.status.used) for quota in counting]
    left = [
        {key: max(Decimal(), most - there.get(key, 0)) for key, most in each.items()}
        for each, there in zip(hard, used, strict=True)
    ]
    takes_more = all(each.get(key, 1) >= 1 for each in left for key in _PODS)
    idle = _within(left, capacity.idle) if takes_more else NOTHING
    return msgspec.structs.replace(capacity, bounds=Bounds(_within(hard, capacity.whole), idle))


def _machine(node: Node, pods: Sequence[Pod], template: Template) -> Machine:
    stays = [pod for pod in pods if any(owner.kind in _MACHINES_OWN for owner in pod.metadata.owner_references)]
    allocatable = node.status.allocatable
    whole = clamp_subtract(amount_of(allocatable), total_of(requested(pod.spec) for pod in stays))
    taken = total_of(requested(pod.spec) for pod in pods if pod not in stays)
    takes_jobs = node.is_ready and not _kept_away(node, template)
    has_room = len(pods) < quantity(allocatable.get("pods", "0"))
    idle = clamp_subtract(whole, taken) if takes_jobs and has_room else NOTHING
    return Machine(node.metadata.name, whole, idle, takes_jobs)


def _is_for(node: Node, template: Template) -> bool:
    selected = template.selector.items() <= node.metadata.labels.items()
    return selected and all(taint.key.startswith(_PASSING) for taint in _kept_away(node, template))


def _kept_away(node: Node, template: Template) -> list[Taint]:
    """The taints by which it takes no Pod like the owner's."""
    return [
        taint
        for taint in node.spec.taints
        if taint.effect in _KEEPS_AWAY and not any(_tolerates(each, taint) for each in template.tolerations)
    ]


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    """As Kubernetes has it: a toleration of every key names none."""
    if toleration.effect not in {"", taint.effect}:
        return False
    if toleration.operator == "Exists":
        return toleration.key in {"", taint.key}
    return toleration.operator == "Equal" and (toleration.key, toleration.value) == (taint.key, taint.value)


def _quantities(amounts: Mapping[str, str]) -> dict[str, Decimal]:
    return {key: quantity(amount) for key, amount in amounts.items()}


def _within(bounds: Sequence[Mapping[str, Decimal]], there: Resources) -> Resources:
    def least(keys: tuple[str, ...], unit: int, most: int) -> int:
        return min([most, *(int(each[key] * unit) for each in bounds for key in keys if key in each)])

    return Resources(least(_CPU, CORE, there.cpu_millicores), least(_MEMORY, 1, there.memory_bytes))


def _larger(one: Resources, other: Resources) -> Resources:
    return Resources(max(one.cpu_millicores, other.cpu_millicores), max(one.memory_bytes, other.memory_bytes))
