"""How much less can be offered because other programs use the machine. Pure: samples in, amounts out.

The owner leaves others an *allowance*: what the machine has beyond what is registered. As long as other programs stay within it, nothing changes.
What they use beyond it is **pressure**: the ledger offers that much less, and a declined request says so.

    others   = machine's use - our own allocations' use
    pressure = max(0, others - allowance), at most what is registered

Pressure follows quickly upwards and slowly downwards (hysteresis), in coarse steps, so a compiler run next door does not make the node blink:

* CPU is averaged over about `CPU_HALF_LIFE_S`; memory and disk are taken as they are, since what is gone is gone.
* Upwards: the step above is taken at once. Downwards: only after `CALM_SAMPLES` samples in a row that would allow it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.capability import Resources
from dms_proto.units import MIB, format_bytes, format_cores

CPU_HALF_LIFE_S: Final = 10.0
"""After this long a change of CPU use counts half. A burst of a second moves the figure by 7 %."""
CALM_SAMPLES: Final = 3
"""Samples in a row that must allow less pressure before it is lowered: 15 s at the default interval."""
CPU_STEP: Final = 100
MEMORY_STEP: Final = 64 * MIB
DISK_STEP: Final = 256 * MIB
"""Pressure is a multiple of these, rounded up: the ledger is told of changes worth telling."""


class Amounts(msgspec.Struct, frozen=True):
    """CPU, memory and disk; what they are amounts of is in the name of the variable. All at least 0."""

    cpu_millicores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


class Pressure(msgspec.Struct, frozen=True):
    """What the ledger must offer less than it thinks it has, because other programs use it."""

    cpu_millicores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0

    def explain(self) -> str:
        """For a decline or the status: "other programs use 1.5 cores and 2 GiB of memory more than they were left"; empty without pressure."""
        parts = []
        if self.cpu_millicores:
            parts.append(format_cores(self.cpu_millicores))
        if self.memory_bytes:
            parts.append(f"{format_bytes(self.memory_bytes)} of memory")
        if self.disk_bytes:
            parts.append(f"{format_bytes(self.disk_bytes)} of disk")
        return f"other programs use {' and '.join(parts)} more than they were left" if parts else ""


class Sample(msgspec.Struct, frozen=True):
    """One look at the machine.

    Attributes:
        at: seconds of a monotonic clock.
        capacity: what this process may use of the machine: cores, memory, and for disk the size of the file system.
        used: of that, by everyone, over the time since the sample before; CPU the hypervisor kept counts as used.
        own: of `used`, by this node and its allocations.
    """

    at: float
    capacity: Amounts
    used: Amounts
    own: Amounts

    @property
    def others(self) -> Amounts:
        """What programs use that are not ours."""
        return Amounts(
            max(0, self.used.cpu_millicores - self.own.cpu_millicores),
            max(0, self.used.memory_bytes - self.own.memory_bytes),
            max(0, self.used.disk_bytes - self.own.disk_bytes),
        )


class State(msgspec.Struct, frozen=True):
    """What `follow` remembers between samples: the averaged CPU use of others, the pressure in force, and how long a lower one would do."""

    at: float = 0.0
    others_cpu: float = 0.0
    pressure: Pressure = Pressure()
    calm: tuple[int, int, int] = (0, 0, 0)


def allowance(capacity: Amounts, registered: Resources) -> Amounts:
    """What other programs may use before it is felt: the machine less what is registered."""
    return Amounts(
        max(0, capacity.cpu_millicores - registered.cpu_millicores),
        max(0, capacity.memory_bytes - registered.memory_bytes),
        max(0, capacity.disk_bytes - registered.disk_bytes),
    )


def follow(state: State, sample: Sample, registered: Resources) -> State:
    """The state after `sample`. The first sample sets the CPU average; later ones move it by their share of the half-life."""
    others = sample.others
    weight = 1.0 if state.at == 0.0 else 1 - 0.5 ** (max(0.0, sample.at - state.at) / CPU_HALF_LIFE_S)
    cpu = state.others_cpu + weight * (others.cpu_millicores - state.others_cpu)
    spare = allowance(sample.capacity, registered)
    now, calm = state.pressure, state.calm
    cpu_pressure, cpu_calm = _step(
        now.cpu_millicores, round(cpu) - spare.cpu_millicores, registered.cpu_millicores, CPU_STEP, calm[0]
    )
    memory, memory_calm = _step(
        now.memory_bytes, others.memory_bytes - spare.memory_bytes, registered.memory_bytes, MEMORY_STEP, calm[1]
    )
    disk, disk_calm = _step(
        now.disk_bytes, others.disk_bytes - spare.disk_bytes, registered.disk_bytes, DISK_STEP, calm[2]
    )
    return State(sample.at, cpu, Pressure(cpu_pressure, memory, disk), (cpu_calm, memory_calm, disk_calm))


def free(registered: Resources, pressure: Pressure, held: Amounts) -> Amounts:
    """What can still be promised in each dimension: registered, less pressure, less what is locked or allocated; never negative."""
    return Amounts(
        max(0, registered.cpu_millicores - pressure.cpu_millicores - held.cpu_millicores),
        max(0, registered.memory_bytes - pressure.memory_bytes - held.memory_bytes),
        max(0, registered.disk_bytes - pressure.disk_bytes - held.disk_bytes),
    )


def _step(current: int, excess: int, most: int, step: int, calm: int) -> tuple[int, int]:
    """(the pressure in one dimension, calm samples in a row): up at once, down after `CALM_SAMPLES`."""
    wanted = min(most, -(-max(0, excess) // step) * step)
    if wanted >= current:
        return wanted, 0
    return (wanted, 0) if calm + 1 >= CALM_SAMPLES else (current, calm + 1)
