"""Pods as they are placed, and what Kubernetes tells as we read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dms.executors.cluster.engine import Capacity, EngineError, EngineJob, Machine, Order
from dms.executors.cluster.files import RunDirectory, Spec
from dms.executors.cluster.kubernetes import Kubernetes, refusal_of
from dms.executors.cluster.kubernetes_nodes import (
    Node,
    ResourceQuota,
    amount_of,
    bounded,
    machines_of,
    quantity,
    requested,
)
from dms.executors.cluster.kubernetes_pods import (
    Pod,
    PodSpec,
    Template,
    jobs_of,
    name_of,
    pod_of,
    template_of,
    waits_for,
    why,
)
from dms.executors.settings import KubernetesSettings
from dms_proto.capability import NOTHING, Resources
from dms_proto.units import CORE, GIB, MIB

ORDER = Order(
    ("/venv/bin/python", "-m", "runner", "/s h/runs/a-1"), Path("/s h/runs/a-1"), Resources(1_500, 256 * MIB), 90_500
)
DAY = "2026-11-28T12:00:00Z"
NOON = 1_795_867_200.0


def owners(**changes: Any) -> Template:
    container = {
        "name": "theirs",
        "image": "registry/dms:1",
        "command": ["sleep"],
        "args": ["9"],
        "resources": {"limits": {"cpu": "9", "example.com/fpga": "1"}},
        "volumeMounts": [{"name": "shared", "mountPath": "/s h"}],
    }
    spec = {"containers": [container], "hostUsers": False, "volumes": [{"name": "shared", "nfs": {"path": "/"}}]}
    manifest = {"kind": "Pod", "metadata": {"namespace": "market", "labels": {"team": "a"}}, "spec": spec | changes}
    return template_of(yaml.safe_dump(manifest))


def pod(name: str = "p", run: str = "", phase: str = "Running", **changes: Any) -> Pod:
    metadata = {"name": name, "annotations": {"dms-run": run, "dms-directory": "/s/runs/a"} if run else {}}
    metadata |= changes.pop("metadata", {})
    spec = {"nodeName": "large"} | changes.pop("spec", {})
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": {"phase": phase, **changes}}, Pod)


def node(name: str = "large", **changes: Any) -> Node:
    said = {
        "metadata": {"name": name, "labels": changes.pop("labels", {})},
        "spec": {"unschedulable": changes.pop("unschedulable", False), "taints": changes.pop("taints", [])},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"} | changes.pop("allocatable", {}),
            "conditions": [{"type": "Ready", "status": changes.pop("ready", "True")}],
        },
    }
    assert not changes
    return msgspec.convert(said, Node)


def asks(cpu: str, memory: str = "1Gi", **changes: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **changes}


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> ResourceQuota:
    return msgspec.convert({"spec": spec, "status": {"hard": hard, "used": used}}, ResourceQuota)


# ---------------------------------------------------------------------------------------------------------- what is placed


def test_a_pod_is_the_owners_with_our_runner_and_what_it_takes() -> None:
    made = pod_of(owners(), "dms-1-a-1", "dms-1-a-1-x", ORDER)
    spec, (runner,) = made["spec"], made["spec"]["containers"]

    assert made["metadata"]["labels"] == {"team": "a", "app.kubernetes.io/managed-by": "dms"}
    assert made["metadata"]["annotations"] == {"dms-run": "dms-1-a-1", "dms-directory": "/s h/runs/a-1"}
    assert (spec["hostUsers"], spec["volumes"][0]["name"], runner["image"]) == (False, "shared", "registry/dms:1")
    assert runner["command"][3:] == ["/s h/runs/a-1", *ORDER.command]
    assert "args" not in runner
    assert runner["resources"] == {
        "requests": {"cpu": "1500m", "memory": str(256 * MIB)},
        "limits": {"cpu": "1500m", "memory": str(256 * MIB), "example.com/fpga": "1"},
    }
    assert spec["activeDeadlineSeconds"] == 91


def test_a_runner_has_no_token_runs_once_and_as_the_nodes_user() -> None:
    spec = pod_of(owners(), "dms-1-a-1", "x", ORDER)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"] == {"runAsUser": os.geteuid(), "runAsGroup": os.getegid()}
    theirs = pod_of(owners(securityContext={"runAsUser": 7, "fsGroup": 8}), "dms-1-a-1", "x", ORDER)["spec"]
    assert theirs["securityContext"] == {"runAsUser": 7, "runAsGroup": os.getegid(), "fsGroup": 8}


def test_a_node_that_does_not_answer_keeps_a_runner_for_seconds_not_minutes() -> None:
    gpu = {"key": "gpu", "operator": "Exists"}
    first, *away = pod_of(owners(tolerations=[gpu]), "dms-1-a-1", "x", ORDER)["spec"]["tolerations"]
    assert first == gpu
    assert {(each["key"], each["tolerationSeconds"]) for each in away} == {
        ("node.kubernetes.io/not-ready", 30),
        ("node.kubernetes.io/unreachable", 30),
    }


def test_a_pod_that_does_not_see_the_run_is_not_placed() -> None:
    elsewhere = msgspec.structs.replace(ORDER, directory=Path("/home/runs/a-1"))
    with pytest.raises(EngineError, match=r"executors\.kubernetes_pod mounts nothing at or above /home/runs/a-1"):
        pod_of(owners(), "dms-1-a-1", "x", elsewhere)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Deployment", "Deployment"),
        ("kind: Pod\nmetadata: {name: x}\nspec: {containers: [{image: y}]}", "namespace"),
        ("kind: Pod\nmetadata: {namespace: x}\nspec: {containers: [{name: y}]}", "image"),
        ("kind: Pod\nmetadata: {namespace: x}\nspec: {containers: [{image: a}, {image: b}]}", "length 1"),
        ("kind: [", "this is no YAML"),
        ("", "object"),
    ],
    ids=["another kind", "no namespace", "no image", "two containers", "torn", "empty"],
)
async def test_what_is_no_pod_for_a_runner_is_said_of_the_setting(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(text)
    with pytest.raises(EngineError, match=words) as error:
        await Kubernetes(KubernetesSettings(str(file))).capacity()
    assert error.value.message.startswith(f"executors.kubernetes_pod: {file}: ")


@pytest.mark.parametrize("name", ["dms-0a1b-A_Z.9", "dms-0a1b-" + "x" * 90, "dms-0a1b---"])
def test_names_of_jobs_are_spelled_as_names_of_pods_may_be(name: str) -> None:
    spelled = name_of(name, "0123abcd")
    assert spelled.startswith("dms-0a1b-")
    assert spelled.endswith("-0123abcd")
    assert len(spelled) <= 63
    assert set(spelled) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


# ------------------------------------------------------------------------------------------------------------------- jobs


def test_of_two_pods_of_one_job_the_one_that_runs_counts() -> None:
    waits, runs = pod("w", "a", "Pending"), pod("r", "a")
    for both in ([waits, runs], [runs, waits]):
        assert jobs_of(both, NOON) == {"a": EngineJob("r", is_running=True, detail="large")}


def test_a_pod_whose_run_was_taken_runs_though_its_node_has_not_said_so(tmp_path: Path) -> None:
    """Else a node that dies just then, or is slow to tell, would have the run taken for lost."""
    run = RunDirectory(tmp_path / "runs" / "a-1")
    run.create(Spec("a-1", NOTHING))
    annotations = {"dms-run": "a", "dms-directory": str(run.path)}
    waits = pod("p", "a", "Pending", metadata={"annotations": annotations})
    assert not jobs_of([waits], NOON)["a"].is_running
    run.claim("its machine")
    assert jobs_of([waits], NOON)["a"] == EngineJob("p", is_running=True, detail="large")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_no_job(phase: str) -> None:
    assert jobs_of([pod("p", "a", phase)], NOON) == {}


def test_a_pod_that_is_being_deleted_is_a_job_until_its_time_is_up() -> None:
    """Its node does not answer then, and Kubernetes keeps it for good."""
    going = pod("p", "a", metadata={"deletionTimestamp": DAY})
    assert jobs_of([going], NOON - 1)["a"].is_running
    assert jobs_of([going], NOON + 1) == {}


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            pod(
                phase="Pending",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/2 nodes are available: 2 Insufficient cpu.",
                    }
                ],
            ),
            "0/2 nodes are available: 2 Insufficient cpu.",
        ),
        (
            pod(
                phase="Pending",
                containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}],
            ),
            "ErrImagePull: no such image",
        ),
        (pod(phase="Pending"), "large is starting it"),
        (pod(phase="Pending", spec={"nodeName": ""}), "a node is being chosen for it"),
    ],
    ids=["no room", "no image", "starting", "new"],
)
def test_what_a_pod_waits_for_is_told(there: Pod, words: str) -> None:
    assert waits_for(there) == words


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "Evicted: The node was low on resource: memory.",
        ),
        (
            pod(
                phase="Failed",
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByTaintManager",
                        "message": "Taint manager: deleting due to NoExecute taint",
                    }
                ],
                containerStatuses=[{"state": {"terminated": {"reason": "Error", "exitCode": 137}}}],
            ),
            "DeletionByTaintManager: Taint manager: deleting due to NoExecute taint",
        ),
        (
            pod(
                phase="Failed", containerStatuses=[{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]
            ),
            "OOMKilled: exit code 137",
        ),
        (pod(phase="Failed"), "it failed"),
        (pod(phase="Succeeded"), ""),
    ],
    ids=["evicted", "its node is gone", "out of memory", "without a word", "no failure"],
)
def test_why_a_pod_failed_is_told(there: Pod, words: str) -> None:
    assert why(there) == words


# --------------------------------------------------------------------------------------------------------------- capacity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", 2),
        ("250m", 0.25),
        ("1.5Gi", 1.5 * GIB),
        ("128974848", 128_974_848),
        ("129e6", 129e6),
        ("129M", 129e6),
        ("3E", 3e18),
        ("500n", 5e-7),
    ],
)
def test_amounts_are_read_as_kubernetes_spells_them(text: str, amount: float) -> None:
    assert float(quantity(text)) == amount


@pytest.mark.parametrize("text", ["", "x", "1Kib", "1 Gi"])
def test_what_is_no_amount_is_said(text: str) -> None:
    with pytest.raises(EngineError, match="is no amount"):
        quantity(text)


@pytest.mark.parametrize(
    ("spec", "cores"),
    [
        ({"containers": [asks("1"), asks("500m"), {}]}, 1_500),
        ({"containers": [asks("1")], "initContainers": [asks("3")]}, 3_000),
        ({"containers": [asks("1")], "initContainers": [asks("1", restartPolicy="Always"), asks("3")]}, 4_000),
        ({"containers": [asks("1")], "initContainers": [asks("3"), asks("1", restartPolicy="Always")]}, 3_000),
        ({"containers": [asks("1")], "overhead": {"cpu": "250m"}}, 1_250),
        ({"containers": [asks("1")], "resources": {"requests": {"cpu": "2"}}}, 2_000),
    ],
    ids=["together", "one after the other", "beside what stays", "before what stays", "a runtime's own", "of the pod"],
)
def test_a_pod_takes_what_its_scheduler_counts(spec: dict[str, Any], cores: int) -> None:
    assert requested(msgspec.convert(spec, PodSpec)).cpu_millicores == cores


def test_a_machine_has_what_other_pods_left_of_it() -> None:
    theirs = pod(spec={"containers": [asks("1", "3Gi")]})
    elsewhere = pod(spec={"containers": [asks("2")], "nodeName": "small"})
    waits = pod(phase="Pending", spec={"containers": [asks("2")], "nodeName": ""})
    (machine,) = machines_of([node()], [theirs, elsewhere, waits], owners())
    assert machine == Machine("large", Resources(4 * CORE, 8 * GIB), Resources(3 * CORE, 5 * GIB))


def test_what_is_on_every_node_is_not_offered_at_all() -> None:
    """A job of a whole machine's size would never find room."""
    agent = pod(spec={"containers": [asks("500m")]}, metadata={"ownerReferences": [{"kind": "DaemonSet"}]})
    (machine,) = machines_of([node()], [agent], owners())
    assert machine.whole == machine.idle == Resources(3_500, 7 * GIB)


@pytest.mark.parametrize(
    "changes",
    [
        {"ready": "Unknown"},
        {"unschedulable": True},
        {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]},
    ],
    ids=["not ready", "cordoned", "under pressure"],
)
def test_of_a_node_that_takes_no_pods_for_now_nothing_is_idle(changes: dict[str, Any]) -> None:
    (machine,) = machines_of([node(**changes)], [], owners())
    assert machine == Machine("large", Resources(4 * CORE, 8 * GIB), NOTHING, takes_jobs=False)


def test_a_node_that_has_as_many_pods_as_it_may_is_full() -> None:
    (machine,) = machines_of([node(allocatable={"pods": "1"})], [pod()], owners())
    assert (machine.idle, machine.takes_jobs) == (NOTHING, True)


def test_nodes_are_those_that_the_owners_pod_may_be_placed_on() -> None:
    gpu = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    nodes = [
        node("a", taints=[gpu]),
        node("b", labels={"pool": "market"}),
        node("c", taints=[gpu | {"effect": "PreferNoSchedule"}]),
    ]

    def names(**spec: Any) -> list[str]:
        return [machine.name for machine in machines_of(nodes, [], owners(**spec))]

    assert names() == ["b", "c"]
    assert names(nodeSelector={"pool": "market"}) == ["b"]
    assert names(tolerations=[{"key": "gpu", "operator": "Exists"}]) == ["a", "b", "c"]
    assert names(tolerations=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]) == ["a", "b", "c"]
    assert names(tolerations=[{"key": "gpu", "value": "no"}]) == ["b", "c"]
    with pytest.raises(EngineError, match=r"no node that a Pod like that of executors\.kubernetes_pod"):
        names(nodeSelector={"pool": "other"})


def test_a_quota_bounds_what_is_offered_and_how_large_one_job_may_be() -> None:
    size = Resources(4 * CORE, 8 * GIB)
    there = Capacity("kubernetes v1", (Machine("a", size, size), Machine("b", size, Resources(CORE, GIB))))
    within = bounded(
        there, [quota({"requests.cpu": "3", "limits.memory": "10Gi"}, {"requests.cpu": "1", "limits.memory": "2Gi"})]
    )
    assert within.whole == Resources(3 * CORE, 10 * GIB)
    assert within.idle == Resources(2 * CORE, 8 * GIB)
    assert within.sizes == (Resources(3 * CORE, 8 * GIB),)


def test_of_several_quotas_the_tightest_holds_and_those_of_other_pods_do_not() -> None:
    size = Resources(4 * CORE, 8 * GIB)
    there = Capacity("kubernetes v1", (Machine("a", size, size),))
    tight, loose = quota({"cpu": "2"}, {"cpu": "3"}, scopes=["Terminating"]), quota({"requests.cpu": "3"}, {})
    assert bounded(there, [loose, tight]).whole == Resources(2 * CORE, 8 * GIB)
    assert bounded(there, [loose, tight]).idle == Resources(0, 8 * GIB)
    others = [quota({"pods": "0"}, {}, scopes=["BestEffort"]), quota({"cpu": "0"}, {}, scopeSelector={})]
    assert bounded(there, others) == there
    assert bounded(there, [quota({"pods": "5"}, {"pods": "5"})]).idle == NOTHING


def test_what_a_container_does_not_say_it_does_not_ask_for() -> None:
    assert amount_of({"nvidia.com/gpu": "1"}) == NOTHING


# ---------------------------------------------------------------------------------------------------------------- answers


def test_a_refusal_is_in_kubernetes_words() -> None:
    said = {
        "kind": "Status",
        "message": 'pods is forbidden: User "dms" cannot list resource "pods" at the cluster scope',
    }
    assert refusal_of(403, json.dumps(said).encode()).message.endswith("at the cluster scope")
    assert "executors.kubernetes_config" in refusal_of(401, b"{}").message
    assert refusal_of(502, b"<html>\nbad gateway").message == "Kubernetes: bad gateway"
    assert refusal_of(502, b"").message == "Kubernetes answers 502"


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("https://127.0.0.1:1", "Kubernetes does not answer: Cannot connect to host 127.0.0.1:1"),
        (None, "Kubernetes does not answer: "),
    ],
    ids=["nobody listens", "no such file"],
)
async def test_who_does_not_answer_is_named(server: str | None, why: str, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(owners().manifest))
    config = tmp_path / "config"
    if server:
        cluster = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
        config.write_text(yaml.safe_dump(cluster | context))
    engine = Kubernetes(KubernetesSettings(str(tmp_path / "pod.yaml"), str(config)))
    with pytest.raises(EngineError) as error:
        await engine.capacity()
    assert error.value.message.startswith(why)
    await engine.close()
