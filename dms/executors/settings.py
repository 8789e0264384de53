"""Settings of the executors: where they keep their files and what they assume about the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Resources
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.units import CORE, GIB, MIB

DEFAULT_UNRESERVED: Final = Resources(cpu_millicores=CORE, memory_bytes=256 * MIB, disk_bytes=256 * MIB)


class OciSettings(msgspec.Struct, frozen=True):
    """How this machine runs containers; the defaults an owner has are those of `dms.config.settings.Executors`.

    Attributes:
        socket: of the engine; empty to look for one.
        runtime: the engine's name for the way containers are run; empty for its default.
        registries: from which images are pulled.
        image_bytes: most that one image may have.
        images_bytes: most that the images brought here may have together.
        cdi: directories of the files that describe GPUs to engines.
    """

    socket: str = ""
    runtime: str = ""
    registries: tuple[str, ...] = ()
    image_bytes: int = 8 * GIB
    images_bytes: int = 32 * GIB
    cdi: tuple[Path, ...] = (Path("/etc/cdi"), Path("/var/run/cdi"))


class SlurmSettings(msgspec.Struct, frozen=True):
    """Which Slurm, and on whose account.

    Attributes:
        conf: path of its slurm.conf; empty: where Slurm looks for it.
        partition: for jobs, and whose machines count; empty: the default one, and all.
        account: on which jobs are booked; empty: the user's.
    """

    conf: str = ""
    partition: str = ""
    account: str = ""


class DaskSettings(msgspec.Struct, frozen=True):
    """Which Dask.

    Attributes:
        address: of its scheduler, such as tls://10.0.0.1:8786.
    """

    address: str


class RaySettings(msgspec.Struct, frozen=True):
    """Which Ray.

    Attributes:
        address: of the HTTP of its head, such as https://10.0.0.1:8265.
        token_file: path of a file with the token that it asks for; empty: it asks for none.
    """

    address: str
    token_file: str = ""


class HtcondorSettings(msgspec.Struct, frozen=True):
    """Which HTCondor, and on whose account.

    Attributes:
        conf: path of its configuration; empty: where HTCondor looks for it.
        requirements: of jobs on machines, and of machines to be counted, as a ClassAd expression; empty: none but HTCondor's own.
        accounting_group: on which jobs are booked; empty: the user's.
    """

    conf: str = ""
    requirements: str = ""
    accounting_group: str = ""


class KubernetesSettings(msgspec.Struct, frozen=True):
    """Which Kubernetes, and what runners are placed in.

    Attributes:
        pod: path of a file with a Pod, in YAML: its namespace, image and volumes, and the nodes that it may be placed on.
        config: path of a kubeconfig; empty: where kubectl looks for one, or else what the Pod was given that the node itself runs in.
    """

    pod: str
    config: str = ""


EngineSettings = SlurmSettings | DaskSettings | RaySettings | HtcondorSettings | KubernetesSettings


class ClusterSettings(msgspec.Struct, frozen=True):
    """A cluster whose machines run the jobs of this node.

    Attributes:
        engine: how its engine is spoken to.
        kinds: of tasks that the owner offers, by the names of their executors.
        shared: directory that every machine sees under the same path; for what the node and its runners say to each other.
        python: path, on those machines, of a Python that has dms.
        address: of this machine, host and port, at which those of the cluster reach it; port 0: any that is free; None: they do not.
        has_gpus: whether its GPUs are offered.
        simulated_gpus: that each of its machines is to have, for tests; empty: its own.
        start_s: how long the machine that is to prove what it can do may take to be given to us.
    """

    engine: EngineSettings
    kinds: tuple[str, ...]
    shared: Path
    python: str
    start_s: float = 60.0
    address: tuple[str, int] | None = None
    has_gpus: bool = True
    simulated_gpus: str = ""


class ExecutorSettings(msgspec.Struct, frozen=True):
    """How this machine runs work.

    Attributes:
        state_directory: the executors' own directory, outside every job's reach: log files, run records, the seccomp filter. One node process at a
            time uses it; the next one finds surviving runs here.
        bwrap: path of the bubblewrap binary; empty to look for it.
        unreserved: what a job that reserved nothing of a resource may use of it. Zero would have to mean "no limit", which a stranger must not get.
        first_uid: first of the user ids that jobs run as when the node is root; 0 to choose a range that nothing else uses.
        uid_count: size of that range.
        limiters: names of the limiters to try, in order; empty for all.
        cgroup_root: where cgroup file systems are mounted.
        oci: how containers are run; None: they are not.
        python: path of the Python whose packages programs in Python find; empty: the node's own, without what is installed in it.
        gpus: the devices of this machine, for jobs that were given one.
        egress: to where jobs may connect.
        egress_networks: of addresses that are not public and may be meant all the same.
        outlives_node: whether runs go on when the process that started them dies. False where nobody would adopt them.
        cluster: whose machines run the jobs, in place of this one; None: this one does.
    """

    state_directory: Path
    bwrap: str = ""
    unreserved: Resources = DEFAULT_UNRESERVED
    first_uid: int = 0
    uid_count: int = 0
    limiters: tuple[str, ...] = ()
    cgroup_root: Path = Path("/sys/fs/cgroup")
    oci: OciSettings | None = None
    python: str = ""
    gpus: tuple[FoundGpu, ...] = ()
    egress: Egress = NO_EGRESS
    egress_networks: tuple[str, ...] = ()
    outlives_node: bool = True
    cluster: ClusterSettings | None = None
