"""Work: what an allocation runs, what running it reports, and how it can end. Shared by messages, machines and executors."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from dms_proto.abilities import Ability, has
from dms_proto.capability import Meter, Resources
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.ids import NO_DIGESTS, Digest
from dms_proto.images import PinnedImage, Pull
from dms_proto.rules import (
    Amount,
    Argument,
    DigestOrNone,
    ExitCode,
    GoodDigest,
    Line,
    PathOrNone,
    Port,
    RelativePath,
    VariableName,
    Word,
    cut_lines,
)
from dms_proto.secrets import MAX_SECRETS, Secret
from dms_proto.siblings import NO_NAMES, Names
from dms_proto.units import MIB, MINUTE

SANDBOX: Final = "sandbox"
"""The executor for programs of the machine."""
PYTHON: Final = "python"
"""The executor for programs and functions in Python."""
MAX_PORTS: Final = 16
"""Most ports that a task may declare."""


MAX_DATASETS: Final = 16
"""Most datasets of one task."""
MAX_MANIFEST: Final = 4 * MIB
"""Bytes of a dataset's manifest: it is fetched as a whole, before any file of it. Room for some 20,000 files."""


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file the job reads: sent by content, verified before the job starts.

    Attributes:
        path: where it appears below the job's directory; relative, no "..".
        digest: of the whole content.
        size: bytes.
        executable: whether it may be run.
        chunks: digest of the list of its chunks' digests, by which each is verified as it arrives; empty for a small content, and where the
            requester made none: then it is verified as a whole.
    """

    path: RelativePath
    digest: GoodDigest
    size: Amount
    executable: bool = False
    chunks: DigestOrNone = Digest("")


class DatasetInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset the job reads: a tree of files, laid out before the job starts.

    Attributes:
        path: the directory below the job's where its files appear; relative, no "..".
        digest: of its manifest, which names the dataset: see `data.manifest`.
        size: bytes of the manifest.
        total: bytes of all its files.
    """

    path: RelativePath
    digest: GoodDigest
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_MANIFEST)]
    total: Amount


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file the job left behind, collected after it ended: regular files only.

    Attributes:
        path: below the job's directory.
        digest: of the whole content.
        size: bytes.
        chunks: digest of the list of its chunks' digests, as of an `Input`.
    """

    path: RelativePath
    digest: GoodDigest
    size: Amount
    chunks: DigestOrNone = Digest("")

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What its provider holds of it: the content, and the list of its chunks."""
        return (self.digest, self.chunks) if self.chunks else (self.digest,)


class Logs(msgspec.Struct, frozen=True):
    """What a run has written to its standard output and its standard error.

    Attributes:
        lengths: bytes of each.
        digests: of each; empty where nothing was written.
    """

    lengths: tuple[int, int] = (0, 0)
    digests: tuple[Digest, Digest] = NO_DIGESTS


NO_LOGS: Final = Logs()


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hard limits of one run beyond its `Resources`.

    Attributes:
        wall_ms: from start to kill.
        grace_ms: between asking the job to stop (SIGTERM) and killing it.
        log_bytes: stdout and stderr together; past it the job ends with OUTPUT_LIMIT.
        processes: processes and threads at once.
        fuel: wasm instructions; 0 for no limit but the wall.
        idle_ms: for what takes calls: how long without a call until it ends; 0 for no limit but the wall.
    """

    wall_ms: Amount = 10 * MINUTE
    grace_ms: Amount = 2_000
    log_bytes: Amount = 16 * MIB
    processes: Amount = 256
    fuel: Amount = 0
    idle_ms: Amount = 0


class ExecBy(StrEnum):
    """Who may have commands run beside a job, inside its sandbox: with all that it has, its secrets included."""

    NOBODY = "nobody"
    REQUESTER = "requester"
    GRANTED = "granted"
    """The requester, and who has shown the provider a grant with the right `exec`."""


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """One program to run once, in a sandbox. What an invocation carries.

    Attributes:
        executor: "sandbox", "wasm", "python", "oci", ….
        command: argument vector; for wasm the arguments after the module; for python those of the interpreter, and calls are taken where it is
            empty; for oci in place of the image's own, which runs where it is empty.
        module: for wasm: path of the input that is the module.
        environment: variables the job sees; nothing else of the node's environment is there.
        inputs: files placed below the job's directory before the start.
        outputs: glob patterns of files to bring back, relative to the job's directory.
        resources: amounts reserved and enforced.
        limits: hard limits of the run.
        secrets: values that only the job sees.
        ports: TCP ports on its own loopback that the requester may reach through tunnels.
        datasets: placed below the job's directory before the start, beside `inputs`.
        image: for oci: the container image, by digest.
        pull: for oci: when the provider fetches it.
        exec: who may have commands run beside it.
        checkpoint: file or directory of its own from which it can go on elsewhere; empty: it cannot. See `checkpoints`.
        egress: to where it may connect, through a proxy of the provider's; nothing else leads out.
        names: by which the job's other allocations reach its ports, and it theirs.
    """

    executor: Word
    command: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=4096)] = ()
    module: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    environment: Annotated[dict[VariableName, Argument], msgspec.Meta(max_length=512)] = {}
    inputs: Annotated[tuple[Input, ...], msgspec.Meta(max_length=4096)] = ()
    outputs: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=1024)], ...], msgspec.Meta(max_length=256)] = ()
    resources: Resources = Resources()
    limits: Limits = Limits()
    secrets: Annotated[tuple[Secret, ...], msgspec.Meta(max_length=MAX_SECRETS)] = ()
    ports: Annotated[tuple[Port, ...], msgspec.Meta(max_length=MAX_PORTS)] = ()
    image: PinnedImage = ""
    pull: Pull = Pull.IF_NOT_PRESENT
    datasets: Annotated[tuple[DatasetInput, ...], msgspec.Meta(max_length=MAX_DATASETS)] = ()
    exec: ExecBy = ExecBy.NOBODY
    checkpoint: PathOrNone = ""
    egress: Egress = NO_EGRESS
    names: Names = NO_NAMES


PORT_AGENT_BYTES: Final = 48 * MIB
"""Memory of the agent that leads to a job's ports, with all its connections busy."""
EXEC_AGENT_BYTES: Final = 32 * MIB
"""Memory of the agent that has commands run beside a job, with all its sessions."""

EGRESS_PROXY_BYTES: Final = 64 * MIB
"""Memory of the proxy through which a job connects to elsewhere, with all its connections busy."""
NAMES_KEEPER_BYTES: Final = 16 * MIB
"""Memory of what takes a job's connections to its siblings."""


def agent_bytes(
    executor: str, ports: Collection[int], exec_by: ExecBy, egress: Egress = NO_EGRESS, names: Names = NO_NAMES
) -> int:
    """Memory of what serves a job beside it, in its sandbox or outside: reserved beside what the job asks for itself."""
    leads_in = bool(ports) and has(executor, Ability.PORTS)
    runs_beside = exec_by is not ExecBy.NOBODY and has(executor, Ability.EXEC)
    leads_out = bool(egress.destinations) and has(executor, Ability.EGRESS)
    calls_siblings = bool(names.count) and has(executor, Ability.NAMES)
    inside = PORT_AGENT_BYTES * leads_in + EXEC_AGENT_BYTES * runs_beside
    return inside + EGRESS_PROXY_BYTES * leads_out + NAMES_KEEPER_BYTES * calls_siblings


def agents_of(task: Task) -> int:
    """Memory of what serves a task beside it: `agent_bytes`."""
    return agent_bytes(task.executor, task.ports, task.exec, task.egress, task.names)


def taken_by(task: Task) -> Resources:
    """What a task takes with what serves it beside it."""
    own = task.resources
    return msgspec.structs.replace(own, memory_bytes=own.memory_bytes + agents_of(task))


def within(task: Task, reserved: Resources) -> Task:
    """The task as it is run: its memory and that of its agents are no more than was reserved, its devices those that were."""
    own = task.resources.memory_bytes
    agents = agents_of(task)
    if own and agents:
        own = max(1, min(own, reserved.memory_bytes - agents))
    resources = msgspec.structs.replace(task.resources, gpus=reserved.gpus, memory_bytes=own)
    return msgspec.structs.replace(task, resources=resources)


def wants_company(task: Task) -> bool:
    """Whether anything beside its program is to lead into it or out of it."""
    return bool(task.ports or task.egress.destinations or task.names.count) or task.exec is not ExecBy.NOBODY


def takes_calls(task: Task) -> bool:
    """Whether it runs what calls of Python functions are sent to."""
    return task.executor == PYTHON and not task.command


def blobs_of(task: Task) -> frozenset[Digest]:
    """The blobs that a task names: its inputs, the lists of their chunks, and the manifests of its datasets, which name more."""
    inputs = (digest for wanted in task.inputs for digest in (wanted.digest, wanted.chunks) if digest)
    return frozenset((*inputs, *(dataset.digest for dataset in task.datasets)))


def input_bytes(task: Task) -> int:
    """Bytes of all that is laid out before a task starts."""
    return sum(wanted.size for wanted in task.inputs) + sum(dataset.total for dataset in task.datasets)


def shown(task: Task) -> Task:
    """The task as it is shown to people and programs: its secrets by name only."""
    return msgspec.structs.replace(
        task, secrets=tuple(msgspec.structs.replace(secret, sealed=b"") for secret in task.secrets)
    )


class Owner(StrEnum):
    """Whose doing the end of an allocation or request was."""

    REQUESTER = "requester"
    PROVIDER = "provider"
    NETWORK = "network"
    BUDGET = "budget"
    POLICY = "policy"


class EndReason(StrEnum):
    """Why an allocation or a request ended. Exactly one, always present; `OWNERS` says whose doing it was."""

    COMPLETED = "completed"
    CHECKPOINTED = "checkpointed"
    EXIT_NONZERO = "exit_nonzero"
    KILLED_BY_SIGNAL = "killed_by_signal"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_FUEL = "out_of_fuel"
    WALL_TIME = "wall_time"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    BAD_PROGRAM = "bad_program"
    CANCELLED = "cancelled"
    INPUT_UNAVAILABLE = "input_unavailable"
    NOT_INVOKED = "not_invoked"
    REQUESTER_LOST = "requester_lost"
    IMPOSSIBLE = "impossible"
    DEADLINE = "deadline"
    PRICE_TOO_LOW = "price_too_low"
    BUDGET_SPENT = "budget_spent"
    NO_BIDS = "no_bids"
    NO_PEERS = "no_peers"
    PROVIDER_LOST = "provider_lost"
    PROVIDER_FAULT = "provider_fault"
    PROVIDER_STOPPED = "provider_stopped"
    RETRIES_EXHAUSTED = "retries_exhausted"
    REFUSED_BY_POLICY = "refused_by_policy"
    UNDECIDED = "undecided"
    EVICTED = "evicted"
    REQUESTER_FAULT = "requester_fault"


OWNERS: Final[dict[EndReason, Owner]] = {
    EndReason.COMPLETED: Owner.REQUESTER,
    EndReason.CHECKPOINTED: Owner.REQUESTER,
    EndReason.EXIT_NONZERO: Owner.REQUESTER,
    EndReason.KILLED_BY_SIGNAL: Owner.REQUESTER,
    EndReason.OUT_OF_MEMORY: Owner.REQUESTER,
    EndReason.OUT_OF_FUEL: Owner.REQUESTER,
    EndReason.WALL_TIME: Owner.REQUESTER,
    EndReason.OUTPUT_LIMIT: Owner.REQUESTER,
    EndReason.DISK_LIMIT: Owner.REQUESTER,
    EndReason.BAD_PROGRAM: Owner.REQUESTER,
    EndReason.CANCELLED: Owner.REQUESTER,
    EndReason.INPUT_UNAVAILABLE: Owner.REQUESTER,
    EndReason.NOT_INVOKED: Owner.REQUESTER,
    EndReason.REQUESTER_LOST: Owner.REQUESTER,
    EndReason.IMPOSSIBLE: Owner.REQUESTER,
    EndReason.DEADLINE: Owner.REQUESTER,
    EndReason.PRICE_TOO_LOW: Owner.BUDGET,
    EndReason.BUDGET_SPENT: Owner.BUDGET,
    EndReason.NO_BIDS: Owner.NETWORK,
    EndReason.NO_PEERS: Owner.NETWORK,
    EndReason.PROVIDER_LOST: Owner.NETWORK,
    EndReason.PROVIDER_FAULT: Owner.PROVIDER,
    EndReason.PROVIDER_STOPPED: Owner.PROVIDER,
    EndReason.RETRIES_EXHAUSTED: Owner.REQUESTER,
    EndReason.REFUSED_BY_POLICY: Owner.POLICY,
    EndReason.UNDECIDED: Owner.REQUESTER,
    EndReason.EVICTED: Owner.PROVIDER,
    EndReason.REQUESTER_FAULT: Owner.REQUESTER,
}

DETERMINISTIC: Final = frozenset(
    {
        EndReason.EXIT_NONZERO,
        EndReason.KILLED_BY_SIGNAL,
        EndReason.OUT_OF_MEMORY,
        EndReason.OUT_OF_FUEL,
        EndReason.WALL_TIME,
        EndReason.OUTPUT_LIMIT,
        EndReason.DISK_LIMIT,
        EndReason.BAD_PROGRAM,
    }
)
"""The job's own failures: tried on a second, different node at most, and never counted against a node."""

ANSWERS: Final = DETERMINISTIC | {EndReason.COMPLETED}
"""Ends of a run that say what the work gives: where results are checked, each is one."""

OWED: Final = ANSWERS | {EndReason.CANCELLED, EndReason.CHECKPOINTED}
"""Ends for whose use something is owed: what the work gives, a part of the way to it, or that its requester has stopped it. For any other end nothing
is asked."""

NODE_FAULTS: Final = frozenset({EndReason.PROVIDER_LOST, EndReason.PROVIDER_FAULT, EndReason.PROVIDER_STOPPED})
"""Failures of the node or the way to it: the next node is tried, and it counts against this one."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run used. Cumulative.

    Attributes:
        wall_ms: from start to end.
        cpu_us: CPU microseconds of all its processes.
        memory_peak_bytes: highest total.
        fuel: wasm instructions executed; 0 for other executors.
        meter: how far `cpu_us` can be trusted.
        egress_bytes: that went out of its sandbox and came in, through the proxy.
    """

    wall_ms: Amount = 0
    cpu_us: Amount = 0
    memory_peak_bytes: Amount = 0
    fuel: Amount = 0
    meter: Meter = Meter.WALL
    egress_bytes: Amount = 0


class Ending(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one run ended, as the executor saw it.

    Attributes:
        reason: COMPLETED exactly when the program exited with 0.
        exit_code: the program's own, or 128 + signal as shells do; -1 when it never ran.
        detail: one line for a person: limit and observed value, or what could not be set up.
        usage: final figures.
    """

    reason: EndReason
    exit_code: ExitCode = -1
    detail: Line = ""
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        cut_lines(self, "detail")
