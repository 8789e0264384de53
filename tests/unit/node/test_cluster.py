"""A cluster as what a node offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dms.config import Config, Home
from dms.config.settings import Executors, OwnerFirst, Pool, Provider
from dms.executors.cluster.cluster import Cluster, Known
from dms.executors.cluster.engine import Capacity, Machine
from dms.executors.cluster.files import Proof
from dms.executors.settings import (
    DaskSettings,
    ExecutorSettings,
    HtcondorSettings,
    KubernetesSettings,
    RaySettings,
    SlurmSettings,
)
from dms.node.cluster import cluster_settings, gpus_on, in_words, jobs_directory, pressure_of
from dms.testing.cluster_engine import ProcessEngine
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.errors import UserError
from dms_proto.units import CORE, GIB, MIB


def amount(cores: int, gib: int) -> Resources:
    return Resources(cpu_millicores=cores * CORE, memory_bytes=gib * GIB)


def config(**changes: object) -> Config:
    settings = {"enabled": ("sandbox", "slurm"), "cluster_directory": "/shared/dms"}
    return Config(executors=Executors(**(settings | changes)))  # type: ignore[arg-type]


def test_a_node_without_a_clusters_engine_is_its_machine(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert cluster_settings(Config()) is None
    assert jobs_directory(home, Config()) == home.jobs


def test_the_files_of_jobs_are_where_the_machines_of_a_cluster_see_them(tmp_path: Path) -> None:
    one, other = (jobs_directory(Home(tmp_path / name), config()) for name in ("one", "other"))
    assert one.parent.parent == other.parent.parent == Path("/shared/dms")
    assert one != other


def test_each_engine_is_spoken_to_by_its_own_settings() -> None:
    slurm = cluster_settings(config(slurm_partition="batch"))
    dask = cluster_settings(config(enabled=("wasm", "dask"), dask_address="tls://10.0.0.1:8786"))
    ray = cluster_settings(
        config(enabled=("ray",), ray_address="https://10.0.0.1:8265", ray_token_file="/srv/dms/token")
    )
    htcondor = cluster_settings(config(enabled=("htcondor",), htcondor_accounting_group="market"))
    kubernetes = cluster_settings(
        config(enabled=("kubernetes",), kubernetes_pod="/srv/dms/pod.yaml", kubernetes_config="/srv/dms/config")
    )
    assert kubernetes is not None
    assert slurm is not None
    assert htcondor is not None
    assert dask is not None
    assert ray is not None
    assert slurm.engine == SlurmSettings(partition="batch")
    assert htcondor.engine == HtcondorSettings(accounting_group="market")
    assert dask.engine == DaskSettings("tls://10.0.0.1:8786")
    assert ray.engine == RaySettings("https://10.0.0.1:8265", "/srv/dms/token")
    assert kubernetes.engine == KubernetesSettings("/srv/dms/pod.yaml", "/srv/dms/config")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enabled": ("dask",)}, r"has dask, and executors\.dask_address names no scheduler"),
        ({"enabled": ("ray",)}, r"has ray, and executors\.ray_address names no head"),
        ({"enabled": ("kubernetes",)}, r"has kubernetes, and executors\.kubernetes_pod names no Pod"),
        ({"enabled": ("dask", "slurm"), "dask_address": "tcp://10.0.0.1:8786"}, "has slurm and dask"),
    ],
    ids=["no scheduler", "no head", "no Pod", "two engines"],
)
def test_a_cluster_that_is_not_named_or_not_alone_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        cluster_settings(config(**changes))


@pytest.mark.parametrize("directory", ["", "shared/dms"])
def test_a_cluster_without_a_directory_to_share_is_refused(directory: str) -> None:
    with pytest.raises(UserError, match=r"executors\.cluster_directory"):
        cluster_settings(config(cluster_directory=directory))


def test_a_pool_does_not_go_with_a_cluster() -> None:
    both = Config(executors=config().executors, pool=Pool(cpu=CORE, memory=128 * MIB))
    with pytest.raises(UserError, match=r"pool\.cpu"):
        cluster_settings(both)


def test_jobs_on_a_cluster_connect_to_elsewhere_only_where_its_machines_reach_the_node() -> None:
    anywhere = Provider(egress=("*:443",))
    with pytest.raises(UserError, match=r"provider\.egress"):
        cluster_settings(Config(executors=config().executors, provider=anywhere))
    reached = Config(executors=config(cluster_address="10.0.0.5:7400").executors, provider=anywhere)
    assert cluster_settings(reached) is not None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", None),
        ("10.0.0.5", ("10.0.0.5", 0)),
        ("10.0.0.5:7400", ("10.0.0.5", 7_400)),
        ("[fd00::5]:7400", ("fd00::5", 7_400)),
        ("[fd00::5]", ("fd00::5", 0)),
    ],
)
def test_where_the_node_is_reached_is_an_address_and_a_port(written: str, meant: tuple[str, int] | None) -> None:
    settings = cluster_settings(config(cluster_address=written))
    assert settings is not None
    assert settings.address == meant


@pytest.mark.parametrize(
    "written", ["login.example.org", "10.0.0.5:99999", "10.0.0.5:", "10.0.0", "fd00::5:7400", ":7400"]
)
def test_where_the_node_is_reached_is_nothing_else(written: str) -> None:
    with pytest.raises(UserError, match=r"executors\.cluster_address") as error:
        cluster_settings(config(cluster_address=written))
    assert "10.0.0.5:7400" in error.value.hint


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("owner_first.enabled", {"owner_first": OwnerFirst(enabled=True)}),
        ("provider.offline_gives_way", {"provider": Provider(offline_gives_way=True)}),
    ],
)
def test_jobs_on_a_cluster_are_not_frozen(setting: str, changed: dict[str, Any]) -> None:
    """The login node's owner would come first by what it does there, and each of the jobs elsewhere be evicted at once."""
    with pytest.raises(UserError, match=setting):
        cluster_settings(Config(executors=config().executors, **changed))


@pytest.mark.parametrize(
    ("idle", "ours", "pressure"),
    [
        (amount(8, 16), NOTHING, NOTHING),
        (amount(6, 12), amount(2, 4), NOTHING),
        (amount(5, 16), amount(2, 4), Resources(cpu_millicores=CORE)),
        (NOTHING, NOTHING, amount(8, 16)),
    ],
    ids=["idle", "ours alone", "others have a core", "down or full"],
)
def test_what_others_use_is_not_offered_and_what_our_own_jobs_use_is_no_pressure(
    idle: Resources, ours: Resources, pressure: Resources
) -> None:
    capacity = Capacity("slurm 22", (Machine("a", amount(8, 16), idle),))
    assert pressure_of(amount(8, 16), capacity, ours) == pressure


def test_of_gpus_as_many_are_offered_as_others_leave_whichever_those_are() -> None:
    a100 = [Gpu(f"m/a100/{number}", "nvidia", "A100", 40 * GIB) for number in range(3)]
    l4 = [Gpu("n/l4/0", "nvidia", "L4", 24 * GIB)]
    registered, promised = Resources(gpus=(*a100, *l4)), Resources(gpus=(a100[0],))

    def others(*idle: Gpu) -> tuple[Gpu, ...]:
        return pressure_of(
            registered, Capacity("slurm 22", (Machine("m", registered, Resources(gpus=idle)),)), promised
        ).gpus

    assert others(*a100[1:], *l4) == ()
    assert others(a100[0], *l4) == (a100[1],)  # which device ours has is the engine's to know
    assert others() == (*a100[1:], *l4)


async def test_gpus_of_a_cluster_are_those_that_were_proven(tmp_path: Path) -> None:
    there = cluster_settings(config())
    assert there is not None
    cluster = Cluster(ExecutorSettings(tmp_path, cluster=there), ProcessEngine())
    assert gpus_on(cluster).offers == ()
    counted = Capacity(
        "slurm 22", (Machine("m", Resources(gpus=(Gpu("m/a100/0", model="a100"), Gpu("m/x/0", model="x"))), NOTHING),)
    )
    kinds = {"a100": Gpu("0", "nvidia", "NVIDIA A100", 40 * GIB)}
    cluster.known = Known(counted.proven(kinds), Proof("m", "x86_64"), kinds, {"x": "nobody has one"})
    found = gpus_on(cluster)
    assert found.offers == (Gpu("m/a100/0", "nvidia", "NVIDIA A100", 40 * GIB),)
    assert [(gpu.model, gpu.problem) for gpu in found.gpus if gpu.offer is None] == [("x", "nobody has one")]


def test_machines_that_are_away_are_said() -> None:
    capacity = Capacity(
        "slurm 22", (Machine("a", amount(8, 16), NOTHING), Machine("b", amount(8, 16), NOTHING, takes_jobs=False))
    )
    assert in_words(capacity) == "slurm 22: 2 machines, 1 of them down or drained, 16 cores, 32 GiB"
