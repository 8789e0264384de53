"""What the node and a runner say to each other: files in a directory that both see, since every cluster has a file system for its users.

::

    SHARED/dms-NODE/tether  where runners reach the node: see `tether`
    SHARED/dms-NODE/runs/NAME/
      spec.json     written by the node before the runner is placed: what to run
      id            of the engine's job
      claim         whoever creates it: the runner, which then runs it; or the node, so that no runner will
      events        JSON lines of the runner: started, usage, connections that were refused, the end
      stdout, stderr
      key           of the runner: to which the node seals the run's secrets
      secrets       sealed; the runner removes them once it has read them
      stop          how long the task has to end by itself, in ms; written anew for a shorter time
      runner.log    what the runner says to nobody; the node adds why it was not started, or did not end by itself
      proof.json    of a run that only asks what its machine can do: the answer

Each file but `runner.log`, to which both append, has one writer. Nothing is locked and nobody is told of a change: on a file system of many machines
both sides look again and again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.cluster.engine import last_line
from dms_actors.ports import EgressRefused, Exited, Started, UsageSample
from dms_proto.capability import ExecutorOffer, Gpu, Resources
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.work import Task

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNK: Final = 256 * 1024
SPEC: Final = "spec.json"
LOG: Final = "runner.log"

RunnerEvent = Started | UsageSample | EgressRefused | Exited
_EVENT: Final = msgspec.json.Decoder(RunnerEvent)


def place_of(shared: Path, state: Path) -> Path:
    """A node's own place in the directory that the machines of its cluster share.

    Args:
        shared: that directory.
        state: of the node's executors: no two nodes have the same, and it stays the same.
    """
    home = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]
    return shared.resolve() / f"dms-{home}"


class Spec(msgspec.Struct, frozen=True):
    """What a runner is told.

    Attributes:
        name: of the run.
        unreserved: as in `ExecutorSettings`.
        task: to run; None: only say what this machine can do.
        directory: of the task.
        offer: what the requester was promised: a machine that can do less runs nothing.
        egress: to where jobs may connect, as the node's owner says.
        egress_networks: of addresses that are not public and may be meant all the same.
        simulated_gpus: devices that each machine is to have, as `dms.hardware.gpu_simulated` reads them; empty: its own.
    """

    name: str
    unreserved: Resources
    task: Task | None = None
    directory: str = ""
    offer: ExecutorOffer | None = None
    egress: Egress = NO_EGRESS
    egress_networks: tuple[str, ...] = ()
    simulated_gpus: str = ""


class Proof(msgspec.Struct, frozen=True):
    """What a machine of the cluster proved: as `Executor.probe` says it, for each kind of task, or why not.

    Attributes:
        machine: its name.
        architecture: of it.
        offers: of the executors that work there.
        faults: executor, what is wrong, and the way out.
        gpus: that the engine gave to the runner, and that can be used.
        apart: why it does not reach the node; empty: it does.
    """

    machine: str
    architecture: str
    offers: tuple[ExecutorOffer, ...] = ()
    faults: tuple[tuple[str, str, str], ...] = ()
    gpus: tuple[Gpu, ...] = ()
    apart: str = "it has not tried"


def end_is_noted(directory: Path, why: str) -> bool:
    """Notes with a run why its runner was not started or ended, where neither has said so. False: it is no run of this user's nodes on this machine.

    Args:
        directory: of the run, as the engine knows it.
        why: as the engine says it; empty: there is nothing to note.
    """
    with suppress(OSError, ValueError):
        files = RunDirectory(directory)
        if files.path.parent.is_dir():
            if why and files.exists() and not files.complaint():
                files.complain(why)
            return True
    return False


def is_taken(directory: Path) -> bool:
    """Whether a run is there, and somebody has claimed it.

    Args:
        directory: of the run, as the engine knows it.
    """
    with suppress(OSError, ValueError):
        files = RunDirectory(directory)
        return files.exists() and not files.is_wanted()
    return False


class RunDirectory:
    """The files of one run, for both sides."""

    def __init__(self, path: Path) -> None:
        """Names them; nothing is touched.

        Raises:
            ValueError: the last part of `path` is not the name of a run.
        """
        if not _NAME.fullmatch(path.name):
            raise ValueError(f"not the name of a run: {path.name!r}")
        self.path = path
        self._read_to = 0

    # ------------------------------------------------------------------------------------------------------------ the node's

    def create(self, spec: Spec) -> None:
        """Makes it anew; what an earlier run of that name left is gone.

        Raises:
            OSError: no room or no permission.
        """
        self.remove()
        self.path.mkdir(mode=0o700, parents=True)
        self._write(SPEC, msgspec.json.encode(spec))

    def exists(self) -> bool:
        """Whether the run is known here."""
        return (self.path / SPEC).exists()

    def keep_id(self, job_id: str) -> None:
        """Notes the engine's id."""
        self._write("id", job_id.encode())

    def id(self) -> str:
        """The engine's id; empty while unknown."""
        return self._read("id").decode()

    def ask_to_stop(self, grace_ms: int) -> None:
        """Tells the runner to end the task. Where it is over and gone nobody is told."""
        with suppress(FileNotFoundError):
            self._write("stop", str(grace_ms).encode())

    def key(self) -> bytes:
        """To which the run's secrets are sealed; empty: nobody waits for them yet."""
        return self._read("key")

    def give_secrets(self, sealed: bytes) -> None:
        """Hands them over."""
        self._write("secrets", sealed)

    def new_events(self) -> list[RunnerEvent]:
        """What the runner has said since the last call."""
        data = self._read("events", self._read_to)
        complete = data.rfind(b"\n") + 1
        self._read_to += complete
        return [_EVENT.decode(line) for line in data[:complete].splitlines()]

    def output(self, stream: str, offset: int) -> bytes:
        """Bytes of one of the task's streams, not all at once."""
        return self._read(stream, offset, _CHUNK)

    def complaint(self) -> str:
        """The last line that the runner said to nobody; empty if none."""
        return last_line(self._read(LOG).decode(errors="replace"))

    def complain(self, what: str) -> None:
        """Notes why a runner was not started, or did not end by itself. Nowhere, where the run is over and gone."""
        with suppress(FileNotFoundError):
            self.append(LOG, what.encode() + b"\n")

    def remove(self) -> None:
        """Deletes them. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)

    # --------------------------------------------------------------------------------------------------------------- of both

    def claim(self, by: str) -> bool:
        """Makes the run one's own, once and for all. False: it was claimed before, or is over and gone."""
        try:
            claim = os.open(self.path / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (FileExistsError, FileNotFoundError):
            return False
        with os.fdopen(claim, "w") as file:
            file.write(by)
        return True

    def is_wanted(self) -> bool:
        """Whether a runner that was started now would run it."""
        return self.exists() and not (self.path / "claim").exists()

    def spec(self) -> Spec | None:
        """What is to be run; None: nothing is known of it."""
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(self._read(SPEC), type=Spec)
        return None

    def proof(self) -> Proof | None:
        """What the runner found out, where that was all it was placed for."""
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(self._read("proof.json"), type=Proof)
        return None

    # ---------------------------------------------------------------------------------------------------------- the runner's

    def keep_proof(self, proof: Proof) -> None:
        """Tells what this machine can do."""
        self._write("proof.json", msgspec.json.encode(proof))

    def show_key(self, public: bytes) -> None:
        """Asks for the run's secrets, sealed to this key."""
        self._write("key", public)

    def take_secrets(self) -> bytes:
        """What the node gave, once; empty: nothing yet."""
        sealed = self._read("secrets")
        if sealed:
            (self.path / "secrets").unlink()
        return sealed

    def tell(self, event: RunnerEvent) -> None:
        """Adds to the events."""
        self.append("events", msgspec.json.encode(event) + b"\n")

    def append(self, name: str, data: bytes) -> None:
        """Adds to a file."""
        with (self.path / name).open("ab", buffering=0) as file:
            file.write(data)

    def grace_ms(self) -> int | None:
        """How long the task may take to end; None while it may run."""
        asked = self._read("stop")
        return int(asked) if asked else None

    # ----------------------------------------------------------------------------------------------------------------------

    def _read(self, name: str, offset: int = 0, most: int = -1) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                file.seek(offset)
                return file.read(most)
        except FileNotFoundError:
            return b""

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all."""
        fresh = self.path / f".{name}"
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        fresh.replace(self.path / name)
