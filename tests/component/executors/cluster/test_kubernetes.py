"""On a Kubernetes that this test run has started, with two nodes, where a node of dms may do what the guide says."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dms.executors.cluster.cluster import PlacedExecutor
from dms.executors.cluster.engine import EngineError, Order
from dms.executors.cluster.files import RunDirectory, Spec
from dms.executors.cluster.kubernetes import Kubernetes
from dms.executors.settings import DEFAULT_UNRESERVED
from dms.testing.cluster_contract import EngineContract, Nodes, shell
from dms.testing.executor_contract import PATIENCE_S, RunWatcher, ending_of
from dms.testing.kubernetes import NAMESPACE, PODS, STRANGER, KubernetesThere, running_kubernetes
from dms.testing.kubernetes_files import owners_pod
from dms.testing.plain_user import NOBODY
from dms_proto.capability import Isolation, Resources
from dms_proto.units import CORE, MIB, MINUTE
from dms_proto.work import EndReason

pytestmark = pytest.mark.slow

ON_THE_LARGE = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)
LOST_S = 150.0
"""Within which a node that died is given up, and what ran there is."""


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesThere]:
    with running_kubernetes(tmp_path_factory.getbasetemp()) as there:
        yield there


@pytest.fixture
def there(kubernetes: KubernetesThere) -> KubernetesThere:
    kubernetes.mend()
    return kubernetes


@pytest.fixture
def plain_run() -> Iterator[RunDirectory]:
    """A run that asks what a machine can do, of a user without rights."""
    with tempfile.TemporaryDirectory(prefix="dms-plain-", dir="/var/tmp") as shared:
        files = RunDirectory(Path(shared) / "a-1")
        files.create(Spec("a-1", DEFAULT_UNRESERVED))
        for path in (Path(shared), files.path, *files.path.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        yield files


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.2)


@contextmanager
def with_quota(there: KubernetesThere, cores: int) -> Iterator[None]:
    quotas = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    there.make(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"requests.cpu": str(cores)}}})
    try:
        yield
    finally:
        there.tell("DELETE", f"{quotas}/few")


@contextmanager
def others_pod(there: KubernetesThere, cores: str, **spec: Any) -> Iterator[None]:
    """A Pod of somebody else, on the large node."""
    container = {
        "name": "theirs",
        "image": "localhost/dms-pause:1",
        "imagePullPolicy": "Never",
        "resources": {"requests": {"cpu": cores}},
    }
    pods = "/api/v1/namespaces/default/pods"
    spec = {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": "large"}} | spec
    there.make(pods, {"metadata": {"name": "theirs"}, "spec": spec | {"terminationGracePeriodSeconds": 0}})
    try:
        yield
    finally:
        there.tell("DELETE", f"{pods}/theirs")


class TestKubernetes(EngineContract):
    async def test_what_others_asked_for_is_not_idle(self, executor: PlacedExecutor, there: KubernetesThere) -> None:
        async def is_taken() -> bool:
            machines = (await executor.cluster.capacity()).machines
            return {each.name: each.idle.cpu_millicores for each in machines} == {"large": 500, "small": CORE}

        with others_pod(there, "1500m"):
            await until(is_taken)

    async def test_a_quota_of_the_namespace_bounds_what_is_offered_and_is_named_when_it_refuses(
        self, executor: PlacedExecutor, directory: Path, there: KubernetesThere
    ) -> None:
        async def is_bounded() -> bool:
            return (await executor.cluster.capacity()).sizes == (
                Resources(CORE, 1500 * MIB),
                Resources(CORE, 700 * MIB),
            )

        with with_quota(there, cores=1):
            await until(is_bounded)
            ending = await ending_of(await executor.run("a-1", shell("true", resources=ON_THE_LARGE), directory))

        assert ending.reason is EndReason.PROVIDER_FAULT
        assert "exceeded quota: few" in ending.detail

    async def test_a_pod_that_is_drained_ends_by_the_providers_doing(
        self, nodes: Nodes, directory: Path, there: KubernetesThere
    ) -> None:
        def drain() -> None:
            (pod,) = there.pods(nodes.last.name_of("a-1"))
            name = pod["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            there.tell("POST", f"{PODS}/{name}/eviction", eviction)

        ending = await nodes.ending_though_away(directory, drain)
        assert ending.reason is EndReason.PROVIDER_STOPPED
        assert ending.detail.startswith("the cluster's engine ended it on ")

    async def test_who_is_more_important_takes_the_place_of_a_job_which_is_told_as_the_providers_doing(
        self, executor: PlacedExecutor, directory: Path, there: KubernetesThere
    ) -> None:
        urgent = {"metadata": {"name": "urgent"}, "value": 1000}
        there.make("/apis/scheduling.k8s.io/v1/priorityclasses", urgent)
        task = shell("echo up; while :; do sleep 1; done", resources=ON_THE_LARGE)
        watcher = RunWatcher(await executor.run("a-1", task, directory))
        await watcher.wait_output(b"up\n")

        with others_pod(there, "1500m", priorityClassName="urgent"):
            ending = await watcher.ending()

        assert ending.reason is EndReason.PROVIDER_STOPPED

    @pytest.mark.timeout(300)
    async def test_what_runs_on_a_node_that_dies_is_lost_and_the_node_is_offered_no_more(
        self, executor: PlacedExecutor, directory: Path, there: KubernetesThere
    ) -> None:
        task = shell("echo up; while :; do sleep 1; done", resources=ON_THE_LARGE)
        watcher = RunWatcher(await executor.run("a-1", task, directory))
        await watcher.wait_output(b"up\n")

        await asyncio.to_thread(there.kill, "large")
        ending = await watcher.ending(LOST_S)

        assert ending.reason is EndReason.PROVIDER_FAULT
        assert ending.detail.endswith("no more, and its runner said nothing of an end")
        capacity = await executor.cluster.capacity()
        assert {machine.name: machine.takes_jobs for machine in capacity.machines} == {"large": False, "small": True}
        assert capacity.idle.cpu_millicores <= CORE

    async def test_a_runner_has_no_token_and_its_pod_goes_when_it_is_over(
        self, executor: PlacedExecutor, directory: Path, there: KubernetesThere
    ) -> None:
        watcher = RunWatcher(await executor.run("a-1", shell("echo up; exec sleep 600"), directory))
        await watcher.wait_output(b"up\n")
        name = executor.cluster.name_of("a-1")
        (pod,) = there.pods(name)
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
        await watcher.run.stop(0)
        await watcher.ending()

        async def is_cleared() -> bool:
            return not await executor.cluster.engine.jobs() and not there.pods(name)

        await until(is_cleared)

    async def test_a_plain_users_pod_as_the_guide_has_it_makes_sandboxes(
        self, there: KubernetesThere, plain_run: RunDirectory, tmp_path: Path
    ) -> None:
        """The others are root's, and have a capability more."""
        (tmp_path / "pod.yaml").write_text(yaml.safe_dump(owners_pod(plain_run.path.parent, NOBODY)))
        engine = Kubernetes(msgspec.structs.replace(there.settings(), pod=str(tmp_path / "pod.yaml")))
        command = (sys.executable, "-m", "dms.executors.cluster.runner", str(plain_run.path))

        await engine.submit("plain", Order(command, plain_run.path, Resources(CORE, 400 * MIB), MINUTE))
        await until(partial(asyncio.to_thread, plain_run.proof))
        await engine.close()

        proof = plain_run.proof()
        assert proof is not None
        assert ("sandbox", Isolation.NAMESPACES) in [(offer.name, offer.isolation) for offer in proof.offers]

    async def test_who_may_not_look_is_told_what_of(self, there: KubernetesThere) -> None:
        settings = msgspec.structs.replace(there.settings(), config=str(there.config_of(STRANGER)))
        engine = Kubernetes(settings)
        with pytest.raises(EngineError, match='User "stranger" cannot list resource "nodes"'):
            await engine.capacity()
        await engine.close()

    async def test_who_is_not_known_is_told_what_to_renew(self, there: KubernetesThere, tmp_path: Path) -> None:
        config = yaml.safe_load(there.config_of(STRANGER).read_text())
        config["users"][0]["user"]["token"] = "another"
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        engine = Kubernetes(msgspec.structs.replace(there.settings(), config=str(tmp_path / "config")))
        with pytest.raises(EngineError, match=r"renew what executors\.kubernetes_config names"):
            await engine.capacity()
        await engine.close()
