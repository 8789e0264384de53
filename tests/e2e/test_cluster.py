"""Nodes that offer a cluster: whole nodes, a Slurm, a Dask, a Ray, an HTCondor and a Kubernetes that this test run has started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.dask import DaskThere, running_dask
from dms.testing.htcondor import HtcondorThere, running_htcondor
from dms.testing.kubernetes import running_kubernetes
from dms.testing.ray import RayThere, running_ray
from dms.testing.slurm import SlurmThere, running_slurm
from dms.testing.whole_market import WholeMarket, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
AN_ENGINE_COMES_AND_GOES = pytest.mark.timeout(240)
"""A whole node finds an engine, loses it and finds it again: half a minute, and several where the machine has much else to do."""
EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs"


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmThere]:
    with running_slurm(gpus=2) as there:
        yield there


@pytest.fixture(scope="module")
def dask() -> Iterator[DaskThere]:
    with running_dask() as there:
        yield there


@pytest.fixture
def ray() -> Iterator[RayThere]:
    with running_ray() as there:
        yield there


@pytest.fixture
def htcondor() -> Iterator[HtcondorThere]:
    with running_htcondor() as there:
        yield there


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def market(slurm: SlurmThere, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    cluster = offered(shared) | {
        "executors.enabled": ["sandbox", "slurm"],
        "executors.slurm_conf": str(slurm.conf),
        "executors.cluster_address": "127.0.0.1",
        "provider.simulate_gpus": "2xA100-40G",
    }
    requester = NodeSpec("requester", "requester", {"provider.enabled": False})
    with whole_market(
        tmp_path_factory.mktemp("market"), requester, NodeSpec("provider", "provider", cluster)
    ) as market:
        yield market


def offered(shared: Path) -> dict[str, object]:
    return {
        "executors.cluster_directory": str(shared),
        "provider.cpu": "3",
        "provider.memory": "1GiB",
        "provider.disk": "2GiB",
        "provider.monitor_s": 1,
    }


def test_a_command_runs_on_a_machine_of_the_cluster_as_if_it_ran_here(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one two three")
    done = market.dms(
        *("run", "--cpu", "1", "--memory", "64MiB", "-i", f"{tmp_path / 'in.txt'}=in.txt"),
        *(
            "-o",
            "out.txt",
            "--into",
            str(tmp_path / "into"),
            "--",
            "/bin/sh",
            "-c",
            "wc -w < in.txt; echo 5 > out.txt; exit 7",
        ),
    )
    assert (done.returncode, done.stdout) == (7, "3\n"), done.stderr
    assert (tmp_path / "into" / "out.txt").read_text() == "5\n"


def test_the_capacity_is_the_clusters_and_one_job_gets_at_most_a_machine(market: WholeMarket) -> None:
    status = market.json("node", "capability", node="provider")
    assert status["registered"]["cpu_millicores"] == 3000
    done = market.dms("ask", "--cpu", "3", "--", "true")
    assert "2 cores on the largest machine of the cluster" in done.stdout + done.stderr


def test_allocations_on_the_cluster_find_each_other_by_name(market: WholeMarket) -> None:
    done = market.dms("job", "submit", str(EXAMPLES / "names.yaml"), "--follow")
    assert done.returncode == 0, done.stderr
    said = sorted(line.partition("number")[2] for line in done.stdout.splitlines())
    assert said == [" 0 hears number 1", " 1 hears number 2", " 2 hears number 0"], done.stdout


def test_a_command_runs_beside_a_job_on_the_cluster_also_once_its_node_was_killed(
    market: WholeMarket, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text("command: 'echo up; exec sleep 600'\nexec: requester\n")
    job = market.dms("job", "submit", str(tmp_path / "job.yaml"), node="provider").stdout.strip()
    wait_until(lambda: market.dms("job", "logs", job, node="provider").stdout == "up\n", "it runs")
    looks = ("job", "exec", job, "--", "/bin/sh", "-c", "pwd; exit 7")
    done = market.dms(*looks, node="provider")
    assert (done.returncode, done.stdout) == (7, "/job\n"), done.stderr
    provider = market.net["provider"]
    provider.kill()
    provider.launch()
    provider.wait_ready()
    wait_until(lambda: market.dms(*looks, node="provider").stdout == "/job\n", "it is reached again")
    market.dms("job", "cancel", job, node="provider")
    market.dms("job", "wait", job, node="provider")


def test_a_job_on_the_cluster_has_the_gpus_that_its_engine_gave_to_it(market: WholeMarket) -> None:
    offered = market.json("node", "capability", node="provider")["registered"]["gpus"]
    assert [gpu["device"] for gpu in offered] == ["large/a100/0", "large/a100/1"]
    asked = ("run", "--memory", "64MiB", "--gpus", "2", "--gpu-model", "A100")
    done = market.dms(*asked, "--", "/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert (done.returncode, done.stdout) == (0, "GPU-sim-0,GPU-sim-1\n"), done.stderr


def test_a_command_runs_beside_a_job_on_the_cluster_of_another_node(market: WholeMarket, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: 'echo up; exec sleep 600'\nexec: requester\n")
    job = market.dms("job", "submit", str(tmp_path / "job.yaml")).stdout.strip()
    wait_until(lambda: market.dms("job", "logs", job).stdout == "up\n", "it runs")
    done = market.dms("job", "exec", job, "--", "/bin/sh", "-c", "pwd; exit 7")
    assert (done.returncode, done.stdout) == (7, "/job\n"), done.stderr
    market.dms("job", "cancel", job)
    market.dms("job", "wait", job)


def test_a_job_on_the_cluster_has_its_secrets(market: WholeMarket, tmp_path: Path, shared: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    done = market.dms("run", "--secret", f"KEY=file:{tmp_path / 'key'}", "--", "/bin/sh", "-c", "rev /run/secrets/KEY")
    assert (done.returncode, done.stdout.strip()) == (0, "2retnuh"), done.stderr
    assert not [path for path in shared.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_job_on_the_cluster_survives_the_death_of_its_node(market: WholeMarket, shared: Path, tmp_path: Path) -> None:
    script = "echo before; while [ ! -e /job/go ]; do sleep 0.05; done; echo after; exit 3"
    (tmp_path / "job.yaml").write_text(f"command: '{script}'\nretry: {{node_faults: 0}}\n")
    job = market.dms("job", "submit", str(tmp_path / "job.yaml"), node="provider").stdout.strip()
    wait_until(lambda: market.dms("job", "logs", job, node="provider").stdout == "before\n", "it has begun")
    provider = market.net["provider"]
    provider.kill()
    provider.launch()
    provider.wait_ready()
    (directory,) = shared.glob("dms-*/jobs/*")
    (directory / "go").touch()
    assert market.dms("job", "wait", job, node="provider").returncode == 3
    assert market.dms("job", "logs", job, node="provider").stdout == "before\nafter\n"


def test_while_slurm_is_away_nothing_is_offered_and_the_doctor_says_so(market: WholeMarket, slurm: SlurmThere) -> None:
    slurm.stop()
    try:
        wait_until(lambda: _free(market) == 0, "nothing is offered")
        done = market.dms("doctor", "--only", "executors", "--json", node="provider")
        (check,) = json.loads(done.stdout)["checks"][-1:]
        assert done.returncode == 1
        assert (check["name"], check["finding"]) == ("sandbox", "fail")
        assert "nothing is offered now" in check["evidence"]
    finally:
        slurm.start()
    wait_until(lambda: _free(market) == 3000, "all is offered again")


@AN_ENGINE_COMES_AND_GOES
def test_a_node_with_dask_offers_it_until_it_is_gone(
    dask: DaskThere, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster = {"executors.enabled": ["sandbox", "dask"], "executors.dask_address": dask.settings().address}
    node = NodeSpec("provider", "provider", offered(tmp_path) | cluster)
    with whole_market(tmp_path_factory.mktemp("market"), node) as market:
        done = market.dms("run", "--cpu", "2", "--memory", "64MiB", "--", "echo", "hello", node="provider")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        dask.stop()
        wait_until(lambda: _free(market) == 0, "nothing is offered")
        said = market.dms("doctor", "--only", "executors", node="provider")
        assert said.returncode == 1
        assert "nothing is offered now" in said.stdout
        dask.start()
        wait_until(lambda: _free(market) == 3000, "all is offered again")


def test_a_node_with_kubernetes_offers_it_until_it_is_gone(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_kubernetes(tmp_path) as there:
        cluster = {
            "executors.enabled": ["sandbox", "kubernetes"],
            "executors.kubernetes_pod": there.settings().pod,
            "executors.kubernetes_config": there.settings().config,
        }
        node = NodeSpec("provider", "provider", offered(tmp_path) | cluster)
        with whole_market(tmp_path_factory.mktemp("market"), node) as market:
            done = market.dms("run", "--cpu", "2", "--memory", "64MiB", "--", "echo", "hello", node="provider")
            assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
            there.stop()
            wait_until(lambda: _free(market) == 0, "nothing is offered")
            said = market.dms("doctor", "--only", "executors", node="provider")
            assert said.returncode == 1
            assert "nothing is offered now" in said.stdout
            there.start()
            wait_until(lambda: _free(market) == 3000, "all is offered again")


def test_what_ran_on_a_ray_whose_head_died_runs_elsewhere(ray: RayThere, tmp_path: Path) -> None:
    """Its machines end with it. A head that is started anew knows nothing of what ran there, and says so."""
    settings = ray.settings()
    cluster = {
        "executors.enabled": ["sandbox", "ray"],
        "executors.ray_address": settings.address,
        "executors.cluster_address": "127.0.0.1",
    }
    (tmp_path / "shared").mkdir()
    topology = (
        NodeSpec("requester", "requester", {"provider.enabled": False}),
        NodeSpec(
            "provider",
            "provider",
            offered(tmp_path / "shared") | cluster | {"executors.ray_token_file": settings.token_file},
        ),
        NodeSpec("spare", "provider", {"provider.cpu": "2", "provider.memory": "512MiB", "provider.disk": "2GiB"}),
    )
    with whole_market(tmp_path / "market", *topology) as market:
        market["spare"].kill()
        assert_nothing_beside(market, tmp_path)
        done = market.dms("run", "--cpu", "2", "--memory", "64MiB", "--", "echo", "hello")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        size = ("--cpu", "2", "--memory", "64MiB")
        with market.started("run", *size, "--", "/bin/sh", "-c", "echo up; exec sleep 600") as running:
            wait_until(lambda: market.dms("job", "logs", _last(market)).stdout == "up\n", "it runs on Ray")
            market["spare"].launch()
            market["spare"].wait_ready()
            ray.kill_head()
            wait_until(lambda: _free(market) == 0, "nothing is offered")
            ray.mend()
            wait_until(lambda: market.status("spare")["work"]["running"] == 1, "it runs elsewhere")
            assert "ray knows job" in market.dms("trace", _last(market)).stdout
            market.dms("job", "cancel", _last(market))
            running.wait(60)


@AN_ENGINE_COMES_AND_GOES
def test_a_node_with_htcondor_offers_it_until_it_is_gone_and_what_runs_goes_on(
    htcondor: HtcondorThere, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster = {"executors.enabled": ["sandbox", "htcondor"], "executors.htcondor_conf": htcondor.settings().conf}
    node = NodeSpec("provider", "provider", offered(shared) | cluster)
    script = "echo up; while [ ! -e /job/go ]; do sleep 0.05; done"
    with whole_market(tmp_path / "market", node) as market:
        (tmp_path / "job.yaml").write_text(f"command: '{script}'\n")
        job = market.dms("job", "submit", str(tmp_path / "job.yaml"), node="provider").stdout.strip()
        wait_until(lambda: market.dms("job", "logs", job, node="provider").stdout == "up\n", "it runs")
        htcondor.stop()
        wait_until(lambda: _free(market) == 0, "nothing is offered")
        said = market.dms("doctor", "--only", "executors", node="provider")
        assert said.returncode == 1
        assert "nothing is offered now" in said.stdout
        (directory,) = shared.glob("dms-*/jobs/*")
        (directory / "go").touch()
        assert market.dms("job", "wait", job, node="provider").returncode == 0
        htcondor.start()
        wait_until(lambda: _free(market) == 3000, "all is offered again")


def assert_nothing_beside(market: WholeMarket, tmp_path: Path) -> None:
    """The Ray of the tests is in a network of its own, from which no node is reached."""
    (tmp_path / "job.yaml").write_text("command: [sleep, '1']\nports: [8080]\n")
    job = market.dms("job", "submit", str(tmp_path / "job.yaml")).stdout.strip()
    waited = market.json("job", "show", job) if market.dms("job", "wait", job).returncode else {}
    assert "did not take the commit: needs_changed" in market.dms("trace", job).stdout
    assert waited["summary"]["reason"] == "impossible", waited
    assert "what runs there is not reached: 127.0.0.1" in waited["summary"]["detail"]
    checks = json.loads(market.dms("doctor", "--only", "executors", "--json", node="provider").stdout)["checks"]
    assert (checks[-1]["name"], checks[-1]["finding"]) == ("sandbox", "warn")
    assert "jobs can have nothing beside them" in checks[-1]["evidence"]


def _last(market: WholeMarket) -> str:
    job: str = market.last_job()["job_id"]
    return job


def _free(market: WholeMarket) -> int:
    free: int = market.json("node", "capability", node="provider")["free"].get("cpu_millicores", 0)
    return free
