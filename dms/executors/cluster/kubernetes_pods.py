"""Pods of Kubernetes: the one that a runner is placed in, made from the owner's own, and what those that are there tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import yaml

from dms.executors.cluster.engine import EngineError, EngineJob, Order, last_line
from dms.executors.cluster.files import LOG, is_taken

OURS: Final = {"app.kubernetes.io/managed-by": "dms"}
"""The label of the Pods that nodes of dms have placed."""
RUN: Final = "dms-run"
"""The annotation with the name that a Pod's job was submitted under."""
DIRECTORY: Final = "dms-directory"
"""The annotation with the directory of its run."""
END_S: Final = 30
"""How long a runner may take to end, before it is killed."""
AWAY_S: Final = 30
"""How long a Pod stays on a node that does not answer, after Kubernetes has given the node up: by itself it waits five minutes."""
_AWAY: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_BEGIN: Final = f'cd "$0" && exec "$@" >> {LOG} 2>&1'
_RUNNER: Final = "runner"
_MAX_NAME: Final = 50


class Amounts(msgspec.Struct, frozen=True):
    """What a container, or a Pod, asks for."""

    requests: dict[str, str] = {}


class Toleration(msgspec.Struct, frozen=True):
    """A taint of nodes that a Pod does not mind."""

    key: str = ""
    operator: Literal["Equal", "Exists", "Lt", "Gt"] = "Equal"
    value: str = ""
    effect: str = ""


class _Mount(msgspec.Struct, frozen=True, rename="camel"):
    mount_path: str


class _TheirContainer(msgspec.Struct, frozen=True, rename="camel"):
    image: str
    volume_mounts: tuple[_Mount, ...] = ()


class _TheirSpec(msgspec.Struct, frozen=True, rename="camel"):
    containers: tuple[_TheirContainer]
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class _TheirMetadata(msgspec.Struct, frozen=True):
    namespace: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _TheirPod(msgspec.Struct, frozen=True):
    kind: Literal["Pod"]
    metadata: _TheirMetadata
    spec: _TheirSpec


class Template(msgspec.Struct, frozen=True):
    """The owner's Pod.

    Attributes:
        manifest: as it was written, with one container.
        read: what is looked at of it.
    """

    manifest: Mapping[str, Any]
    read: _TheirPod

    @property
    def namespace(self) -> str:
        """Where Pods are placed."""
        return self.read.metadata.namespace

    @property
    def selector(self) -> Mapping[str, str]:
        """Labels of the nodes that it may be placed on."""
        return self.read.spec.node_selector

    @property
    def tolerations(self) -> Sequence[Toleration]:
        """Taints that it does not mind."""
        return self.read.spec.tolerations

    def mounts(self, directory: Path) -> bool:
        """Whether something is mounted at a directory, or above it."""
        (container,) = self.read.spec.containers
        return any(directory.is_relative_to(mount.mount_path) for mount in container.volume_mounts)


def template_of(text: str) -> Template:
    """Reads the owner's Pod, in YAML or JSON.

    Raises:
        ValueError: it is none that a runner can be placed in.
    """
    try:
        manifest = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"this is no YAML: {last_line(str(error))}") from error
    return Template(manifest, msgspec.convert(manifest, _TheirPod))


def name_of(name: str, mark: str) -> str:
    """The name of a job's Pod, whose `mark` no other has: of a job's name, what names of Pods may have."""
    spelled = re.sub("[^a-z0-9]+", "-", name.lower())[:_MAX_NAME].strip("-")
    return f"{spelled}-{mark}"


def pod_of(template: Template, name: str, job_id: str, order: Order) -> dict[str, Any]:
    """The Pod of a runner: the owner's, with what we say of it in place of theirs.

    Raises:
        EngineError: the runner would not find its directory.
    """
    if not template.mounts(order.directory):
        raise EngineError(f"executors.kubernetes_pod mounts nothing at or above {order.directory}")
    theirs = template.manifest["spec"]
    (container,) = theirs["containers"]
    metadata = template.read.metadata
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": job_id,
            "namespace": metadata.namespace,
            "labels": metadata.labels | OURS,
            "annotations": metadata.annotations | {RUN: name, DIRECTORY: str(order.directory)},
        },
        "spec": theirs
        | {
            "containers": [_runner(container, order)],
            "securityContext": {"runAsUser": os.geteuid(), "runAsGroup": os.getegid()}
            | theirs.get("securityContext", {}),
            "tolerations": [
                *theirs.get("tolerations", ()),
                *(
                    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": AWAY_S}
                    for key in _AWAY
                ),
            ],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": -(-order.wall_ms // 1000),
            "terminationGracePeriodSeconds": END_S,
        },
    }


def _runner(container: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """What is asked for is also the bound: the rest of a node is its other Pods'."""
    amounts = {"cpu": f"{order.resources.cpu_millicores}m", "memory": str(order.resources.memory_bytes)}
    theirs = container.get("resources", {})
    return {key: value for key, value in container.items() if key != "args"} | {
        "name": _RUNNER,
        "command": ["/bin/sh", "-c", _BEGIN, str(order.directory), *order.command],
        "resources": theirs | {what: theirs.get(what, {}) | amounts for what in ("requests", "limits")},
    }


# ------------------------------------------------------------------------------------------------------------- what is there


class Owner(msgspec.Struct, frozen=True):
    """What has made a Pod."""

    kind: str


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Of a Pod or a node."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: datetime | None = None
    owner_references: tuple[Owner, ...] = ()


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """As it was asked for."""

    resources: Amounts = Amounts()
    restart_policy: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What was asked for."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: dict[str, str] = {}
    resources: Amounts = Amounts()
    node_name: str = ""


class Condition(msgspec.Struct, frozen=True):
    """What holds, or does not, of a Pod or a node."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Reason(msgspec.Struct, frozen=True, rename="camel"):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class _State(msgspec.Struct, frozen=True):
    waiting: _Reason | None = None
    terminated: _Reason | None = None


class _ContainerStatus(msgspec.Struct, frozen=True):
    state: _State = _State()


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """How it goes."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[_ContainerStatus, ...] = ()
    container_statuses: tuple[_ContainerStatus, ...] = ()


class Pod(msgspec.Struct, frozen=True):
    """A Pod as Kubernetes tells of it."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus

    @property
    def run(self) -> str:
        """The name that its job was submitted under; empty: it is none of ours."""
        return self.metadata.annotations.get(RUN, "")

    @property
    def directory(self) -> Path:
        """Of its run."""
        return Path(self.metadata.annotations.get(DIRECTORY, ""))

    @property
    def is_running(self) -> bool:
        """Whether its runner was started. Its node tells that a moment later, or never if it dies first: that its run was taken tells it too."""
        return self.status.phase == "Running" or (bool(self.spec.node_name) and is_taken(self.directory))

    @property
    def has_ended(self) -> bool:
        """Whether its containers have."""
        return self.status.phase in {"Succeeded", "Failed"}

    def is_over(self, now: float) -> bool:
        """Whether nothing more will come of it. Deleted, and still there when its time to end is up, is one whose node does not answer.

        Args:
            now: seconds since 1970.
        """
        gone = self.metadata.deletion_timestamp
        return self.has_ended or (gone is not None and now > gone.timestamp())

    @property
    def reasons(self) -> list[tuple[str, _Reason]]:
        """Why containers of it wait or have ended, by which of both."""
        statuses = (*self.status.init_container_statuses, *self.status.container_statuses)
        states = [(each.state.waiting, each.state.terminated) for each in statuses]
        return [
            (what, reason)
            for state in states
            for what, reason in zip(("waits", "ended"), state, strict=True)
            if reason is not None
        ]


def jobs_of(pods: Iterable[Pod], now: float) -> dict[str, EngineJob]:
    """Jobs by name. Of two of one name the one that runs counts.

    Args:
        pods: of ours.
        now: seconds since 1970.
    """
    there = [(pod.is_running, pod) for pod in pods if not pod.is_over(now)]
    return {
        pod.run: EngineJob(pod.metadata.name, runs, pod.spec.node_name if runs else waits_for(pod))
        for runs, pod in sorted(there, key=itemgetter(0))
    }


def waits_for(pod: Pod) -> str:
    """What keeps a Pod from running: its place, its image, or what else its container waits for."""
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return last_line(condition.message) or condition.reason
    for what, reason in pod.reasons:
        if what == "waits":
            return _in_words(reason.reason, reason.message)
    return "a node is being chosen for it" if not pod.spec.node_name else f"{pod.spec.node_name} is starting it"


def why(pod: Pod) -> str:
    """Why a Pod failed, for a person: that it was evicted or preempted, or how its runner ended. Empty: it did not fail."""
    if pod.status.phase != "Failed":
        return ""
    said = [_in_words(pod.status.reason, pod.status.message)]
    said += [_in_words(each.reason, each.message) for each in pod.status.conditions if each.type == "DisruptionTarget"]
    said += [
        _in_words(reason.reason, reason.message or f"exit code {reason.exit_code}")
        for what, reason in pod.reasons
        if what == "ended" and reason.exit_code
    ]
    return next(filter(None, said), "it failed")


def _in_words(reason: str, message: str) -> str:
    return ": ".join(filter(None, (reason, last_line(message))))
