"""What a Kubernetes of the tests is started with: its commands and their files, a certificate, images, and the Pod of an owner."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dms.executors.oci import probe_image
from dms.testing.cluster_contract import MACHINES
from dms_proto.units import CORE

REPOSITORY: Final = Path(__file__).parents[2]
TOOLS: Final = REPOSITORY / ".tools" / "kubernetes"
"""What `make kubernetes` has built."""
COMPONENTS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
"""Names by which one program is each of them."""
ADDRESS: Final = "10.231.0.1"
"""Of both nodes, in the network that is theirs alone: Kubernetes takes no loopback for a node's."""
_PAUSE: Final = "localhost/dms-pause:1"
_RUNNER: Final = "localhost/dms-runner:1"
_ETCD: Final = "http://127.0.0.1:2379"
_GROUPS: Final = Path("/sys/fs/cgroup")
_DAY: Final = timedelta(days=1)


def write(root: Path, port: int, tokens: Mapping[str, str]) -> None:
    """Writes all of it.

    Args:
        root: an empty directory.
        port: where the API server listens.
        tokens: by user; that of a machine is its kubelet's, and "control" may do everything.
    """
    certificate = _certify(root)
    users = [(user, f"system:node:{user}", "system:nodes") if user in MACHINES else (user, user, "") for user in tokens]
    groups = {"control": "system:masters"}
    (root / "tokens.csv").write_text(
        "".join(f'{tokens[user]},{name},{user},"{groups.get(user, group)}"\n' for user, name, group in users)
    )
    for user, token in tokens.items():
        (root / f"{user}.kubeconfig").write_text(yaml.safe_dump(_kubeconfig(port, certificate, user, token)))
    (root / "image-pause.tar").write_bytes(_image(_PAUSE, probe_image.archive(["/bin/sleep"]), ["/bin/sleep", "inf"]))
    (root / "image-runner.tar").write_bytes(_image(_RUNNER, _links(), []))
    for machine in MACHINES:
        _write_machine(root, machine)


def control_plane(root: Path, port: int) -> Iterator[Sequence[str]]:
    """The commands of what is there once."""
    control = f"--kubeconfig={root}/control.kubeconfig"
    yield (
        "etcd",
        f"--data-dir={root}/etcd-data",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--unsafe-no-fsync",
    )
    yield (
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--advertise-address={ADDRESS}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.232.0.0/24",
        f"--tls-cert-file={root}/certificate.pem",
        f"--tls-private-key-file={root}/key.pem",
        f"--token-auth-file={root}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://127.0.0.1",
        f"--service-account-key-file={root}/key.pem",
        f"--service-account-signing-key-file={root}/key.pem",
    )
    yield (
        *("kube-controller-manager", control, "--bind-address=127.0.0.1", "--leader-elect=false"),
        f"--service-account-private-key-file={root}/key.pem",
        "--node-monitor-grace-period=10s",
        "--node-monitor-period=2s",
    )
    yield "kube-scheduler", control, "--bind-address=127.0.0.1", "--leader-elect=false"


def machine(root: Path, name: str) -> tuple[Sequence[str], Sequence[str]]:
    """The commands of a node: that of its containers, and that of the node itself."""
    where = root / name
    kubelet = (
        "kubelet",
        f"--config={where}/kubelet.yaml",
        f"--kubeconfig={root}/{name}.kubeconfig",
        f"--hostname-override={name}",
        f"--node-ip={ADDRESS}",
        f"--root-dir={where}/kubelet",
        f"--cert-dir={where}/kubelet/pki",
    )
    return ("containerd", "--config", f"{where}/containerd.toml"), kubelet


def of_the_guide(what: str) -> list[dict[str, Any]]:
    """What the guide has an owner write: its "pod", or the "rights" of a node of dms."""
    text = (REPOSITORY / "docs" / "guides" / "clusters.md").read_text()
    blocks = re.findall(rf"```yaml {what}\n(.*?)```", text, re.DOTALL)
    return [manifest for block in blocks for manifest in yaml.safe_load_all(block)]


def owners_pod(shared: Path, user: int) -> dict[str, Any]:
    """The Pod of the guide, here: its image holds nothing, and the programs of this machine, its Python and dms are mounted into it.

    Args:
        shared: a directory that the nodes see.
        user: that the runner is.
    """
    (pod,) = of_the_guide("pod")
    (container,) = pod["spec"]["containers"]
    mine = {"programs": Path("/usr"), "python": Path(sys.base_prefix), "dms": REPOSITORY, "venv": Path(sys.prefix)}
    mounted = [*mine.items(), ("shared", shared)]
    here = {
        "image": _RUNNER,
        "imagePullPolicy": "Never",
        "volumeMounts": [
            {"name": name, "mountPath": str(path), "readOnly": name != "shared"} for name, path in mounted
        ],
    }
    if user == 0:  # as the guide has it
        here["securityContext"] = container["securityContext"] | {"capabilities": {"add": ["SYS_ADMIN"]}}
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeSelector"} | {
        "containers": [container | here],
        "volumes": [{"name": name, "hostPath": {"path": str(path)}} for name, path in mounted],
        "securityContext": {"runAsUser": user, "runAsGroup": user},
    }
    return {**pod, "spec": spec}


def remove_groups(root: Path) -> None:
    """Removes the control groups that containers of a Kubernetes leave, when all of them have ended."""
    for group in sorted(_GROUPS.glob(f"*/{_group_of(root)}/**/"), reverse=True):
        with suppress(OSError):
            group.rmdir()


def _group_of(root: Path) -> str:
    return root.name


def _write_machine(root: Path, name: str) -> None:
    where = root / name
    (where / "cni").mkdir(parents=True)
    (where / "containerd.toml").write_text(_CONTAINERD.format(where=where, tools=TOOLS, pause=_PAUSE))
    (where / "cni" / "net.conflist").write_text(json.dumps(_network(where, list(MACHINES).index(name))))
    (where / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(where, name)))


_CONTAINERD: Final = """
version = 3
root = "{where}/containerd"
state = "{where}/state"
[grpc]
  address = "{where}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "{tools}/runc"
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{tools}"]
  conf_dir = "{where}/cni"
"""


def _network(where: Path, index: int) -> dict[str, Any]:
    range_ = {"type": "host-local", "dataDir": f"{where}/addresses", "ranges": [[{"subnet": f"10.233.{index}.0/24"}]]}
    bridge = {"type": "bridge", "bridge": f"dms-pods{index}", "isGateway": True, "ipam": range_}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet(where: Path, name: str) -> dict[str, Any]:
    size = MACHINES[name]
    cores, memory = psutil.cpu_count() or 1, psutil.virtual_memory().total
    index = list(MACHINES).index(name)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": 10250 + index * 100,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{where}/containerd.sock",
        "podLogsDir": f"{where}/logs",
        "volumePluginDir": f"{where}/plugins",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "cgroupRoot": f"/{where.parent.name}",
        "enforceNodeAllocatable": [],
        "systemReserved": {
            "cpu": f"{cores * CORE - size.cpu_millicores}m",
            "memory": str(memory - size.memory_bytes),
        },
        "evictionHard": dict.fromkeys(
            ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"),
            "0%",
        ),
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
        "resolvConf": "",
    }


def _kubeconfig(port: int, certificate: Path, user: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "tests",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)},
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
        "current-context": "tests",
    }


def _certify(root: Path) -> Path:
    """A key, and a certificate by itself for who has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", ADDRESS)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (root / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (root / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return root / "certificate.pem"


def _links() -> bytes:
    """A root file system whose programs are those of the /usr that is mounted there."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for name in ("dev", "etc", "proc", "run", "sys", "tmp", "usr"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(directory)
        for name in ("bin", "lib", "lib64", "sbin"):
            if (Path("/") / name).is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(link)
    return into.getvalue()


def _image(name: str, layer: bytes, command: Sequence[str]) -> bytes:
    """An image with one layer, as `docker save` writes it."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "layer.tar": layer,
    }
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return into.getvalue()
