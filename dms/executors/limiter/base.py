"""Limiters keep a run within its allowance and meter it, whatever kind of job it is.

A `Limiter` is one mechanism of this machine; a `Group` is that mechanism applied to one run. The order in which mechanisms are tried is in `detect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from dms_proto.capability import Meter
from dms_proto.errors import MachineError
from dms_proto.units import MIB

SETUP_PROCESSES: Final = 2
"""bubblewrap's own two processes live in the job's group and do not count against the job."""


LEAST_MEMORY: Final = 8 * MIB
"""The sandbox's own setup needs some of it."""


class Allowance(msgspec.Struct, frozen=True):
    """What one run may use. All at least 1, memory at least `LEAST_MEMORY`.

    Attributes:
        cpu_millicores: thousandths of a core, over any tenth of a second.
        memory_bytes: of all its processes together.
        processes: processes and threads at once.
        disk_bytes: in its directory.
        log_bytes: stdout and stderr together.
        wall_ms: from start to kill.
    """

    cpu_millicores: int
    memory_bytes: int
    processes: int
    disk_bytes: int
    log_bytes: int
    wall_ms: int


class Reading(msgspec.Struct, frozen=True):
    """What a run has used so far. `oom_kills` counts processes the kernel (or the limiter) killed for memory."""

    cpu_us: int = 0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    oom_kills: int = 0


class Group(Protocol):
    """The processes of one run, limited and metered together.

    Attributes:
        join: files into which the first process writes "0" to become a member, before anything of the job runs; the node opens them for it.
        paths: what `Limiter.reopen` needs to find the group again from another process.
        paused_start: whether the sandbox must wait before the program until `attach` was called.
    """

    join: Sequence[str]
    paths: Sequence[str]
    paused_start: bool

    def limit(self, allowance: Allowance) -> None:
        """Sets what the members may use.

        Raises:
            OSError: the limits could not be set.
        """
        ...

    def rlimits(self) -> list[tuple[int, int]]:
        """Resource limits (number, value) the first process sets for itself and its descendants."""
        ...

    def attach(self, pid: int) -> None:
        """Says which process is the first inside the sandbox.

        Raises:
            OSError: its limits could not be set; it must not go on.
        """
        ...

    def read(self) -> Reading:
        """Current figures; those that cannot be read are 0."""
        ...

    def processes(self) -> list[int]:
        """Process ids of the members, as seen by the node."""
        ...

    def freeze(self) -> None:
        """Freezes every member where it stands. Idempotent.

        Raises:
            OSError: it cannot be done.
        """
        ...

    def thaw(self) -> None:
        """Lets them go on. Idempotent.

        Raises:
            OSError: it cannot be done.
        """
        ...

    def hurry(self) -> None:
        """Gives way no more, since it is to end: else that could take as long as others use every core. Idempotent."""
        ...

    def kill(self) -> None:
        """Sends SIGKILL to every member, also to those that are frozen."""
        ...

    def remove(self) -> bool:
        """Gives the group back. False: it still has members."""
        ...


class Limiter(Protocol):
    """One way to enforce an allowance.

    Attributes:
        name: as in `ExecutorSettings.limiters`.
        meter: how far its CPU figures can be trusted.
        enforces: of "cpu", "memory", "processes": those no job can exceed.
        poll_s: how often a run under it has to be looked at for its limits to hold.
    """

    name: str
    meter: Meter
    enforces: tuple[str, ...]
    poll_s: float

    def prepare(self, name: str, *, gives_way: bool = False) -> Group:
        """An empty group for a run to come, without limits yet.

        Args:
            name: of the group.
            gives_way: its members have the CPU that nobody else wants, where this mechanism can see to that.

        Raises:
            MachineError: `sandbox_failed`: it could not be made.
        """
        ...

    def reopen(self, paths: Sequence[str], allowance: Allowance) -> Group:
        """The group of a run started by an earlier process."""
        ...

    def leftovers(self) -> list[Group]:
        """Groups that exist under this limiter."""
        ...

    def release(self) -> None:
        """Gives back what holds the groups, if none is left. `prepare` makes it anew."""
        ...


def cannot_prepare(name: str, error: OSError) -> MachineError:
    """The error of a group that could not be made."""
    return MachineError("sandbox_failed", f"the group {name} could not be made: {error.strerror} ({error.filename})")
