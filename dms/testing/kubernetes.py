"""A Kubernetes of the tests' own: etcd, its control plane and two nodes, with a network, processes and mounts of their own; below one directory."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import yaml

from dms.executors.settings import KubernetesSettings
from dms.testing import kubernetes_files
from dms.testing.cluster_contract import MACHINES
from dms.testing.daemons import end, free_ports, started, wait_until
from dms.testing.kubernetes_files import TOOLS

BUILT: Final = (
    "kubernetes",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "bridge",
    "host-local",
    "loopback",
)
PROGRAMS: Final = ("ip", "mount", "nsenter", "setpriv", "unshare")
NAMESPACE: Final = "market"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONTROL: Final = "control"
"""The token of the control plane and of the tests."""
OWNER: Final = "dms"
"""The user that a node of dms is, here."""
STRANGER: Final = "stranger"
"""A user that may do nothing."""
_PLACE: Final = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"),
)
_FIRST: Final = f"""
for each in /run /var/lib /var/log; do mount -t tmpfs none $each; done
ip link set lo up
ip link add dms0 type bridge
ip address add {kubernetes_files.ADDRESS}/24 dev dms0
ip link set dms0 up
ip route add default dev dms0
while :; do sleep 3600; done
"""
"""The first process of the place: it stays, and buries whoever has lost its parent."""


class KubernetesThere:
    """Implements `EngineThere`.

    Containers, their mounts and their networks outlive whoever started them. So they are in a place of their own, and end with its first process.

    Attributes:
        root: what it keeps.
        words: by which its processes are known.
    """

    words = ("kube", "containerd", "etcd")

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tokens = {user: secrets.token_hex(16) for user in (CONTROL, OWNER, STRANGER, *MACHINES)}
        (self._port,) = free_ports(1)
        self._place: subprocess.Popen[bytes] | None = None
        self._way: subprocess.Popen[bytes] | None = None
        self._machines: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._entered: list[subprocess.Popen[bytes]] = []

    def settings(self) -> KubernetesSettings:
        """How it is spoken to."""
        return KubernetesSettings(str(self.root / "pod.yaml"), str(self.config_of(OWNER)))

    def ports(self) -> Sequence[int]:
        """Where it answers, here and in its own network."""
        return (self._port,)

    def cancel(self, name: str) -> None:
        """Ends a job by its name."""
        for pod in self.pods(name):
            self.tell("DELETE", f"{PODS}/{pod['metadata']['name']}")

    def stop(self) -> None:
        """Closes the way there."""
        way, self._way = self._way, None
        if way is not None:
            end(way)

    def start(self) -> None:
        """Opens it again."""
        assert self._place is not None
        command = (sys.executable, "-m", "dms.testing.way_into", f"/proc/{self._place.pid}/ns/net", str(self._port))
        self._way = started(self.root, *command, environment={})
        wait_until(self._answers, "the way there is open", self.root)

    # ------------------------------------------------------------------------------------------------- what tests ask of it

    def tell(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> Any:
        """Asks the API server, as who may do everything.

        Raises:
            OSError: it does not answer, or refuses.
        """
        context = ssl.create_default_context(cafile=str(self.root / "certificate.pem"))
        connection = HTTPSConnection("127.0.0.1", self._port, timeout=20, context=context)
        headers = {"Authorization": f"Bearer {self._tokens[CONTROL]}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(given) if given is not None else None, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status >= 400:
                raise ConnectionError(said.decode())
            return json.loads(said)
        except HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def make(self, path: str, thing: Mapping[str, Any]) -> None:
        """Has something be there: what is there already stays as it is."""
        try:
            self.tell("POST", path, thing)
        except ConnectionError as error:
            if "AlreadyExists" not in str(error):
                raise

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Those of a job, by its name."""
        pods = self.tell("GET", PODS)["items"]
        return [pod for pod in pods if pod["metadata"].get("annotations", {}).get("dms-run") == name]

    def kill(self, machine: str) -> None:
        """Has a node die, with all that runs on it."""
        daemons = self._machines.pop(machine)
        shims = [process for process in self._first().children() if self._is_of(process, machine)]
        tops = [*(psutil.Process(daemon.pid) for daemon in reversed(daemons)), *shims]
        for process in [each for top in tops for each in (*top.children(recursive=True), top)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()  # the kubelet first: a machine that dies says nothing of it
        for daemon in daemons:
            daemon.wait()
        (self.root / machine / "containerd.sock").unlink()

    # --------------------------------------------------------------------------------------------------------- how it starts

    def settle(self, shared: Path) -> None:
        """Makes the place, and starts what is in it.

        Args:
            shared: a directory that its nodes see.
        """
        self.root.chmod(0o711)  # the first process of a container with users of its own goes through it
        for component in kubernetes_files.COMPONENTS:
            (self.root / component).symlink_to(TOOLS / "kubernetes")
        kubernetes_files.write(self.root, self._port, self._tokens)
        (self.root / "pod.yaml").write_text(yaml.safe_dump(kubernetes_files.owners_pod(shared, os.geteuid())))
        self._place = started(self.root, *_PLACE, "sh", "-c", _FIRST, environment={})
        wait_until(self._is_settled, "it has a place", self.root)
        for command in kubernetes_files.control_plane(self.root, self._port):
            self._inside(*command)
        self.start()
        self.make("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for manifest in kubernetes_files.of_the_guide("rights"):
            self.make(_path_of(manifest), manifest)
        self.mend()

    def mend(self) -> None:
        """Starts the nodes that are not there."""
        if self._way is None:
            self.start()
        for machine in MACHINES.keys() - self._machines.keys():
            self._start_machine(machine)
        wait_until(lambda: self._ready() == len(MACHINES), "its nodes are ready", self.root)

    def leave(self) -> None:
        """Ends all that is in the place."""
        self.stop()
        if self._place is not None:
            self._place.kill()
            for process in (self._place, *self._entered):
                process.wait()
        kubernetes_files.remove_groups(self.root)

    def _start_machine(self, machine: str) -> None:
        where = self.root / machine
        containerd, kubelet = kubernetes_files.machine(self.root, machine)
        daemons = [self._inside(*containerd)]
        socket = where / "containerd.sock"
        wait_until(socket.is_socket, "containerd listens", self.root)
        ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", "--local")
        for image in self.root.glob("image-*.tar"):
            done = self._inside(*ctr, str(image)).wait(90)
            assert done == 0, (self.root / "log").read_text(errors="replace")[-2_000:]
        daemons.append(self._inside(*kubelet))
        self._machines[machine] = daemons

    def _inside(self, *command: str) -> subprocess.Popen[bytes]:
        enter = ("nsenter", "--target", str(self._first().pid), "--net", "--pid", "--mount", "--")
        environment = {"PATH": f"{self.root}:{TOOLS}:{os.environ['PATH']}", "TMPDIR": str(self.root)}
        self._entered.append(started(self.root, *enter, *command, environment=environment))
        return self._entered[-1]

    def _first(self) -> psutil.Process:
        assert self._place is not None
        return psutil.Process(self._place.pid).children()[0]

    def _is_settled(self) -> bool:
        assert self._place is not None
        with suppress(OSError, IndexError):
            return "dms0" in Path(f"/proc/{self._first().pid}/net/route").read_text()
        return False

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self.tell("GET", "/api/v1/namespaces/default"))
        return False

    def _ready(self) -> int:
        with suppress(OSError):
            nodes = self.tell("GET", "/api/v1/nodes")["items"]
            return sum(_is_ready(node) for node in nodes)
        return 0

    def _is_of(self, process: psutil.Process, machine: str) -> bool:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            return str(self.root / machine / "containerd.sock") in process.cmdline()
        return False

    def config_of(self, user: str) -> Path:
        """The kubeconfig of a user."""
        return self.root / f"{user}.kubeconfig"


@contextmanager
def running_kubernetes(shared: Path) -> Iterator[KubernetesThere]:
    """A Kubernetes for a while, in which a node of dms may do what the guide says. Skips where none can be started.

    Args:
        shared: a directory that its nodes see.
    """
    if lack := lacks():
        pytest.skip(f"Kubernetes cannot be started: {lack}")
    root = Path(tempfile.mkdtemp(prefix="dms-kubernetes-"))
    there = KubernetesThere(root)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(there.leave)
        there.settle(shared)
        yield there


def lacks() -> str:
    """What is missing to start one here; empty: nothing."""
    built = [name for name in BUILT if not (TOOLS / name).exists()]
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if built:
        return f"there is no {', '.join(built)}: make kubernetes builds them"
    if find_spec("kubernetes") is None:
        return "the package kubernetes is not installed"
    if missing or os.geteuid() != 0:
        return f"there is no {', '.join(missing) or 'right to give it a network of its own'}"
    return ""


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def _path_of(manifest: Mapping[str, Any]) -> str:
    group = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
    namespace = manifest["metadata"].get("namespace")
    return f"{group}{f'/namespaces/{namespace}' if namespace else ''}/{manifest['kind'].lower()}s"
