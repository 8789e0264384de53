"""The container of one job, as the engine is told it. Pure: everything that keeps the job in its place stands here.

No privileges, no capabilities, no network, no namespaces of the host; a root file system that cannot be written, the job's directory at /job, and a
/tmp in memory. Nothing of the host is bound but that directory and, where there are secrets, the directory in memory that holds them; and for agents
what they need (`passage`).

The command, the variables and the labels can be read by whoever may speak to the engine. So secrets are files below `SECRETS`; those that become
variables stand in a script there, which the image's own shell reads before the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from dms.executors.limiter import Allowance
from dms.executors.oci.filter import profile
from dms.executors.oci.gpus import Devices
from dms.executors.sandbox import profile as sandbox_profile
from dms_proto.secrets import OpenSecret
from dms_proto.units import KIB, MIB

HOME_LABEL: Final = "dms.home"
NAME_LABEL: Final = "dms.allocation"
OWNER_LABEL: Final = "dms.executor"
STARTED_LABEL: Final = "dms.started"
DEADLINE_LABEL: Final = "dms.deadline"
USER_LABEL: Final = "dms.user"
SECRETS: Final = "/run/secrets"
VARIABLES: Final = "/run/dms/variables"
SCRATCH_BYTES: Final = 64 * MIB
"""Most that /tmp, /dev/shm and each volume of the image may hold, each; it counts as memory of the job."""
PERIOD_US: Final = 100_000
LEAST_QUOTA_US: Final = 1_000
SOFT_FILES: Final = 1024
MAX_FILES: Final = 65_536
MAX_PROCESSES: Final = 32_768
"""Of one user; what podman's service itself may have. How many a job may have is in `PidsLimit`."""
MASKED: Final = (
    *(f"/proc/{name}" for name in (*sandbox_profile.MASKED, "acpi", "asound", "kcore", "latency_stats", "sched_debug")),
    *("/proc/scsi", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap"),
)
"""What engines hide by themselves, and what the sandbox hides: the machine's, not the job's."""
BASE_ENVIRONMENT: Final = {"HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - the container's own
_READS_VARIABLES: Final = ("/bin/sh", "-c", f'. {VARIABLES} && exec "$@"', "sh")


class Image(msgspec.Struct, frozen=True):
    """What is known of an image that is here.

    Attributes:
        id: digest of its configuration.
        entrypoint, command: what it runs when nothing else is said.
        environment: its variables, as NAME=VALUE.
        volumes: places it wants to write to beside its root file system.
        size: bytes on disk.
    """

    id: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    size: int = 0


class User(msgspec.Struct, frozen=True):
    """Who a job is.

    Attributes:
        inside: user and group in the container.
        outside: who owns the job's directory meanwhile; 0: it stays the node's.
        namespace: how the engine maps users; empty for its own way.
    """

    inside: str
    outside: int = 0
    namespace: str = ""


class Dialect(msgspec.Struct, frozen=True):
    """What differs between engines.

    Attributes:
        log_driver: keeps output byte by byte, in order.
        follows: whether its output can be followed while it is written; podman 4 loses lines then.
        log_factor: bytes it may need on disk for a byte of output, when every line is empty.
        has_init: whether it can put a process before the job that passes signals on and buries the dead.
        runtime: its name for the way containers are run; empty for its default.
        masks_by_option: whether paths to be hidden are named in an option of podman's.
        filter_file: where the system call filter lies, for an engine that reads it from a file; empty for one that is sent it.
        knows_cdi: whether devices can be asked for by CDI name.
    """

    log_driver: str = "local"
    log_factor: int = 32
    follows: bool = True
    has_init: bool = True
    runtime: str = ""
    masks_by_option: bool = False
    filter_file: str = ""
    knows_cdi: bool = False


class Machine(msgspec.Struct, frozen=True):
    """What this machine lets a process have at most: open files, and processes of one user."""

    files: int = MAX_FILES
    processes: int = MAX_PROCESSES


class Place(msgspec.Struct, frozen=True):
    """Where a run happens.

    Attributes:
        name: of the run.
        home: of whose node, as in the labels.
        owner: the executor's name, or the probe's.
        directory: the job's.
        memory: directory in memory with the secrets; empty for none.
        user: who the job is.
        allowance: what it may use.
        started_ms: Unix time.
    """

    name: str
    home: str
    owner: str
    directory: str
    memory: str
    user: User
    allowance: Allowance
    started_ms: int


class Inside(msgspec.Struct, frozen=True):
    """What is in it, and runs there.

    Attributes:
        image: in which.
        command: argument vector; empty for the image's own.
        environment: variables.
        has_variables: whether secrets become variables.
        devices: GPUs that it was given.
        binds: what else it is shown, as the engine takes them.
        hosts: lines of its /etc/hosts, likewise.
    """

    image: Image
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    has_variables: bool = False
    devices: Devices = Devices()
    binds: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def container(place: Place, inside: Inside, dialect: Dialect, machine: Machine) -> dict[str, Any]:
    """What the engine is told to make.

    Args:
        place: where.
        inside: what.
        dialect: how this engine wants it said.
        machine: what this machine allows.
    """
    entrypoint = inside.command or (*inside.image.entrypoint, *inside.image.command)
    before = _READS_VARIABLES if inside.has_variables else ()
    config: dict[str, Any] = {
        "Image": inside.image.id,
        "Entrypoint": [*before, *entrypoint],
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in _environment(inside).items()],
        "User": place.user.inside,
        "WorkingDir": "/job",
        "Hostname": "job",
        "Labels": labels(place),
        "AttachStdin": False,
        "OpenStdin": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "HostConfig": _host(place, inside, dialect, machine),
    }
    if not inside.command and not entrypoint:
        config.pop("Entrypoint")
    return config


def size(allowance: Allowance) -> dict[str, int]:
    """How much processor and memory it may use: said when it is made, and again where that changes."""
    return {
        "Memory": allowance.memory_bytes,
        "MemorySwap": allowance.memory_bytes,
        "CpuPeriod": PERIOD_US,
        "CpuQuota": max(LEAST_QUOTA_US, allowance.cpu_millicores * PERIOD_US // 1000),
    }


def labels(place: Place) -> dict[str, str]:
    """By which the container is found again, and ended when its time is over."""
    return {
        HOME_LABEL: place.home,
        NAME_LABEL: place.name,
        OWNER_LABEL: place.owner,
        STARTED_LABEL: str(place.started_ms),
        DEADLINE_LABEL: str(place.started_ms + place.allowance.wall_ms),
        USER_LABEL: str(place.user.outside),
    }


def _environment(inside: Inside) -> dict[str, str]:
    """What the image sets stays, but for a home directory that could not be written."""
    own = {pair.partition("=")[0] for pair in inside.image.environment}
    base = {name: value for name, value in BASE_ENVIRONMENT.items() if name not in own}
    return {**base, **inside.environment}


def _host(place: Place, inside: Inside, dialect: Dialect, machine: Machine) -> dict[str, Any]:
    allowance = place.allowance
    scratch = max(MIB, min(SCRATCH_BYTES, allowance.memory_bytes // 2))
    host: dict[str, Any] = {
        "Binds": [
            f"{place.directory}:/job:rw,Z",
            *_memory_binds(place, inside),
            *_device_binds(inside.devices),
            *inside.binds,
        ],
        "ExtraHosts": list(inside.hosts),
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "UsernsMode": place.user.namespace,
        "Dns": ["127.0.0.1"],  # else the host's name servers and search domains stand in /etc/resolv.conf
        "DnsSearch": ["."],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": _security(dialect),
        "ReadonlyRootfs": True,
        "MaskedPaths": list(MASKED),
        "Tmpfs": dict.fromkeys(_scratch_places(inside.image), f"rw,nosuid,nodev,exec,size={scratch},mode=1777"),
        "ShmSize": scratch,
        **size(allowance),
        "PidsLimit": allowance.processes + int(dialect.has_init),
        "Ulimits": _ulimits(allowance, machine),
        "LogConfig": {"Type": dialect.log_driver, "Config": _log_options(allowance, dialect)},
        "Init": dialect.has_init,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
    }
    if dialect.runtime:
        host["Runtime"] = dialect.runtime
    return host | _devices(inside.devices)


def _security(dialect: Dialect) -> list[str]:
    options = ["no-new-privileges", f"seccomp={dialect.filter_file or profile()}"]
    return [*options, f"mask={':'.join(MASKED)}"] if dialect.masks_by_option else options


def _memory_binds(place: Place, inside: Inside) -> list[str]:
    """Seen read-only: files of secrets, and the script of those that become variables."""
    if not place.memory:
        return []
    binds = [f"{place.memory}/files:{SECRETS}:ro,Z"]
    return [*binds, f"{place.memory}/variables:{VARIABLES}:ro,Z"] if inside.has_variables else binds


def _device_binds(devices: Devices) -> list[str]:
    return [f"{mount.host_path}:{mount.container_path}:ro" for mount in devices.mounts]


def _scratch_places(image: Image) -> tuple[str, ...]:
    """Where a job may write in memory: /tmp, and what the image calls volumes, for which engines give room on their disk without a limit."""
    return ("/tmp", *(path for path in image.volumes if path.rstrip("/") not in ("", "/job", "/tmp", "/dev/shm")))  # noqa: S108 - the container's


def _ulimits(allowance: Allowance, machine: Machine) -> list[dict[str, Any]]:
    """Podman would raise those that are not named beyond what this machine may allow."""
    largest = max(allowance.disk_bytes, allowance.log_bytes, MIB)
    limits = {
        "core": (0, 0),
        "fsize": (largest, largest),
        "nofile": (min(SOFT_FILES, machine.files), machine.files),
        "nproc": (machine.processes, machine.processes),
    }
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.items()]


def _log_options(allowance: Allowance, dialect: Dialect) -> dict[str, str]:
    """One file, so large that the run is ended for its output before the file is full: nothing in it is ever overwritten."""
    size = allowance.log_bytes * dialect.log_factor + MIB
    options = {"max-size": f"{-(-size // KIB)}k"}
    return options | {"max-file": "1", "compress": "false"} if dialect.log_driver == "local" else options


def _devices(devices: Devices) -> dict[str, Any]:
    if devices.names:
        return {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": list(devices.names)}]}
    nodes = [
        {"PathOnHost": node.host_path or node.path, "PathInContainer": node.path, "CgroupPermissions": node.permissions}
        for node in devices.nodes
    ]
    return {"Devices": nodes} if nodes else {}


def script(secrets: Sequence[OpenSecret]) -> bytes:
    """A shell script that makes variables of secrets."""
    lines = (f"export {secret.name}={shlex.quote(secret.value.decode())}\n" for secret in secrets if secret.variable)
    return "".join(lines).encode()
