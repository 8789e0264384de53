"""docker-compose.yml is the market of dms/devnet/topology.py, and works where an engine is there to run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dms.config import Config, Home
from dms.config.loading import parse_config
from dms.config.reference import template
from dms.devnet.network import free_ports
from dms.devnet.topology import TOPOLOGY, NodeSpec
from dms.rpc.client import Client

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DEVNET = {"network.topic": "devnet", "network.mdns": False, "provider.monitor_s": 0, "market.spot_check_price": 0}
"""What every node of a devnet has in common, apart from addresses."""


def by_name(spec: NodeSpec) -> str:
    return spec.name


def of_topology(spec: NodeSpec) -> Config:
    return parse_config(template({"node.name": spec.name, **DEVNET, **spec.settings}), Path("config.toml"), {})


def of_compose(name: str) -> Config:
    return parse_config("", Path("config.toml"), SERVICES[name]["environment"])


def test_the_services_are_the_nodes_of_the_topology() -> None:
    assert list(SERVICES) == [spec.name for spec in TOPOLOGY]


@pytest.mark.parametrize("spec", TOPOLOGY, ids=by_name)
def test_each_service_has_its_node_s_role_and_settings(spec: NodeSpec) -> None:
    assert SERVICES[spec.name]["environment"]["DMS_ROLE"] == spec.role
    assert of_compose(spec.name) == of_topology(spec)


@pytest.mark.parametrize("spec", TOPOLOGY, ids=by_name)
def test_each_service_keeps_its_home_and_waits_for_the_bootstrap_node(spec: NodeSpec) -> None:
    service = SERVICES[spec.name]
    assert f"{spec.name}:/home/dms/node" in service["volumes"]
    assert spec.name in COMPOSE["volumes"]
    waits = service.get("depends_on", {}).get("bootstrap", {}).get("condition")
    assert waits == (None if spec.role == "bootstrap" else "service_healthy")


def test_only_providers_lift_the_engine_s_protections() -> None:
    lifted = {name for name, service in SERVICES.items() if "security_opt" in service}
    assert lifted == {spec.name for spec in TOPOLOGY if spec.role == "provider"}


def test_the_image_copies_only_what_is_there_and_is_let_through() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    allowed = {line[1:] for line in (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    copied = {part for line in dockerfile.splitlines() if line.startswith("COPY ") for part in line.split()[1:-1]}
    assert copied == allowed
    assert all((ROOT / part).exists() for part in copied)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


def test_the_entrypoint_makes_nodes_that_find_each_other(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    ports = dict(zip(("bootstrap", "requester"), free_ports(2), strict=True))
    (tmp_path / "market").mkdir()
    for name, port in ports.items():
        environment = {
            **{key: str(value) for key, value in SERVICES[name]["environment"].items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DMS_HOME": str(tmp_path / name),
            "DMS_NETWORK_LISTEN": f"/ip4/127.0.0.1/tcp/{port}",
            "MARKET": str(tmp_path / "market"),
            "BOOTSTRAP_ADDRESS": f"/dns4/localhost/tcp/{ports['bootstrap']}",
        }
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [shutil.which("sh") or "/bin/sh", str(ROOT / "docker" / "entrypoint.sh")]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    home = Home(tmp_path / "requester")
    wait_until(home.socket.exists, 60, "the requester answers")
    with Client(home.socket) as node:
        wait_until(lambda: node.call("node.status")["network"]["connected"] == 1, 30, "the requester is connected")
        (peer,) = node.call("peers.list")["peers"]
        assert peer["name"] == "bootstrap"


def has_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_market_of_containers_runs_a_job() -> None:
    if not has_engine():
        pytest.skip("no Docker engine answers on this machine")
    compose = [
        "docker",
        "compose",
        "--project-name",
        f"dms-test-{os.getpid()}",
        "--file",
        str(ROOT / "docker-compose.yml"),
    ]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*compose, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)

    try:
        up = run("up", "--detach", "--build", "--wait")
        assert up.returncode == 0, up.stderr
        job = run(
            "exec", "--no-TTY", "requester", "dms", "run", "--cpu", "500m", "--wait", "30s", "--", "echo", "hello"
        )
        assert (job.returncode, job.stdout) == (0, "hello\n"), job.stderr
        peers = json.loads(run("exec", "--no-TTY", "requester", "dms", "peers", "list", "--json").stdout)["peers"]
        assert {peer["name"] for peer in peers} == set(SERVICES) - {"requester"}
    finally:
        run("down", "--volumes", "--timeout", "20")
