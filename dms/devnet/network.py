"""Starts and stops the nodes of a topology as real processes on loopback. Used by `dms devnet`, the demo, the end-to-end tests and the bench.

The nodes are children of this process and end with it: each is told to stop, then killed by pid if it does not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dms.config.paths import Home
from dms.devnet.topology import TOPOLOGY, NodeSpec
from dms.rpc.client import Client
from dms_proto.errors import MachineError
from dms_proto.units import format_count

READY_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 20.0


class DevNode:
    """One node of a devnet: its home, its process, a client of its socket.

    Attributes:
        host: IPv4 address it listens on.
        program: what is run as the node, followed by its options. Tests start it in a network namespace, or with a wrong clock.
    """

    def __init__(self, spec: NodeSpec, root: Path, port: int) -> None:
        self.spec = spec
        self.home = Home(root / spec.name)
        self.host = "127.0.0.1"
        self.port = port
        self.program: Sequence[str] = (sys.executable, "-m", "dms.node", "up")
        self.peer_id = ""
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        """Where the others dial it."""
        return f"/ip4/{self.host}/tcp/{self.port}/p2p/{self.peer_id}"

    def onboard(self, bootstrap: Sequence[str], *, measure: bool) -> None:
        """Makes the home a node, unless it is one.

        Raises:
            MachineError: onboarding failed; the message is what it said.
        """
        if self.home.exists():
            self.peer_id = json.loads(self.home.identity_names.read_text())["peer_id"]
            return
        settings: dict[str, Any] = {
            "node.name": self.spec.name,
            "network.listen": [f"/ip4/{self.host}/tcp/{self.port}"],
            "network.bootstrap": list(bootstrap),
            "network.mdns": False,
            "network.topic": "devnet",
            "provider.monitor_s": 0,  # the nodes share one machine: each would take the others' jobs for foreign load
            "market.spot_check_price": 0,  # and each would slow down what the others measure
            **self.spec.settings,
        }
        wishes = [f"--set={key}={_spelled(value)}" for key, value in settings.items()]
        measuring = ["--quick"] if measure else ["--no-benchmark"]
        done = subprocess.run(
            [sys.executable, "-m", "dms.node", "onboard", "--home", str(self.home.root), "--json", *measuring, *wishes],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MachineError(
                "internal", f"{self.spec.name} could not be onboarded: {done.stdout}{done.stderr}".strip()
            )
        self.peer_id = json.loads(done.stdout.splitlines()[-1])["id"]["peer_id"]

    def launch(self) -> None:
        """Starts the process; `wait_ready` waits for it."""
        self.process = subprocess.Popen(
            [*self.program, "--home", str(self.home.root), "--json", "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Returns when the node answers on its socket.

        Raises:
            MachineError: it ended instead.
        """
        assert self.process is not None
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if '"ready"' in line:
                return
        raise self._refused_start("".join(said).strip())

    def _refused_start(self, said: str) -> MachineError:
        try:
            error = json.loads(said.splitlines()[-1])["error"]
        except (ValueError, LookupError, TypeError):
            return MachineError("internal", f"{self.spec.name} did not start: {said}")
        return MachineError(error["code"], f"{self.spec.name} did not start: {error['message']}", hint=error["hint"])

    def client(self) -> Client:
        """A new connection to its socket."""
        return Client(self.home.socket)

    def kill(self) -> None:
        """Kill -9 of the node process alone. It can be launched again."""
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_TIMEOUT)
        if process.stdout is not None:
            process.stdout.close()

    def stop(self) -> None:
        """Ends it: asked first, killed after STOP_TIMEOUT. Idempotent."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT)
        if process.stdout is not None:
            process.stdout.close()


class DevNet:
    """A running devnet. ``with DevNet(root) as net``: every node is up and knows the others."""

    def __init__(
        self, root: Path, topology: Sequence[NodeSpec] = TOPOLOGY, *, measure: bool = False, report: Any = None
    ) -> None:
        self.root = root
        self.nodes: Mapping[str, DevNode] = {
            spec.name: DevNode(spec, root, port) for spec, port in zip(topology, free_ports(len(topology)), strict=True)
        }
        self._measure = measure
        self._report = report or (lambda _line: None)

    def __getitem__(self, name: str) -> DevNode:
        return self.nodes[name]

    def __enter__(self) -> Self:
        try:
            self.onboard()
            self.start()
            self.wait_joined()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def onboard(self) -> None:
        """Onboards every node: the first alone, since the others need its address, then the rest at once, unless they are measured.

        Nodes measured at once on one machine find it too busy to be measured.
        """
        first, *others = self.nodes.values()
        first.onboard((), measure=self._measure)
        self._report(f"onboarded {first.spec.name}")
        with ThreadPoolExecutor(max_workers=1 if self._measure else None) as pool:
            for node in pool.map(lambda node: self._onboard(node, first.address), others):
                self._report(f"onboarded {node.spec.name}")

    def _onboard(self, node: DevNode, bootstrap: str) -> DevNode:
        node.onboard((bootstrap,), measure=self._measure)
        return node

    def start(self) -> None:
        """Starts every node and waits until each answers."""
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_ready()
            self._report(f"{node.spec.name} is up")

    def wait_joined(self) -> None:
        """Waits until every node is connected to every other.

        Raises:
            MachineError: not within READY_TIMEOUT; says who has met whom.
        """
        wanted, deadline = len(self.nodes) - 1, time.monotonic() + READY_TIMEOUT
        for node in self.nodes.values():
            with node.client() as client:
                while (met := client.call("node.status")["network"]["connected"]) < wanted:
                    if time.monotonic() > deadline:
                        raise MachineError(
                            "peer_unreachable", f"{node.spec.name} has met {met} of {format_count(wanted, 'node')}"
                        )
                    time.sleep(0.02)

    def stop(self) -> None:
        """Stops every node, all at once."""
        with ThreadPoolExecutor(max_workers=1 if self._measure else None) as pool:
            list(pool.map(DevNode.stop, self.nodes.values()))


def free_ports(count: int) -> list[int]:
    """Ports on loopback that were free a moment ago.

    They are below those that the system gives to outgoing connections, so that a node that is down for a while finds its port still free.
    """
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    wanted = range(min(10_000, lowest_given // 2), lowest_given)
    sockets: list[socket.socket] = []
    try:
        for port in random.sample(wanted, len(wanted)):
            if len(sockets) == count:
                break
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", port))
            except OSError:  # taken
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def environment(node: DevNode) -> dict[str, str]:
    """The environment in which the `dms` command speaks to a node."""
    return {**os.environ, "DMS_HOME": str(node.home.root)}
