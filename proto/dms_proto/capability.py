"""Capability: what a machine offers or a job needs. One type serves both sides.

On the offering side a field says what there is; on the requiring side, the least that will do (or, for prices, the most that will be paid).
An empty field asks for nothing. Quantities are integers (see `units`); a price is micro-credits per unit and hour.

`Resources` is the countable part: what the capacity ledger adds and subtracts. `Capability` adds everything that is matched but not used up.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.rules import Amount, GpuPart, GpuShare, Word
from dms_proto.units import CORE, GIB, HOUR


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True, order=True):
    """One GPU, or a share of one.

    Attributes:
        device: on the offering side the machine's own name for it ("0", "MIG-…"); empty in a requirement.
        vendor: "nvidia", "amd", "intel", or empty for any.
        model: as the driver names it; in a requirement a case-insensitive part of the name, or empty for any.
        memory_bytes: memory of the share.
        milli: thousandths of the device; 1000 is the whole device, exclusively.
        part: on the offering side, of a hardware instance (MIG): thousandths of the card that it is, at least 1; it costs as many of a card's price.
    """

    device: Word = ""
    vendor: Word = ""
    model: Word = ""
    memory_bytes: Amount = 0
    milli: GpuShare = 1000
    part: GpuPart = 1000


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Countable amounts: the dimensions of the capacity law. All at least 0.

    Attributes:
        cpu_millicores: thousandths of a core.
        memory_bytes: main memory.
        disk_bytes: scratch space.
        gpus: GPUs and shares. On the ledger's side every entry names its device, at most one entry per device.
    """

    cpu_millicores: Amount = 0
    memory_bytes: Amount = 0
    disk_bytes: Amount = 0
    gpus: Annotated[tuple[Gpu, ...], msgspec.Meta(max_length=256)] = ()

    def times(self, factor: int) -> Resources:
        """`factor` independent copies; GPUs are repeated as separate needs."""
        return Resources(
            self.cpu_millicores * factor, self.memory_bytes * factor, self.disk_bytes * factor, self.gpus * factor
        )


NOTHING: Final = Resources()


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tariff in micro-credits: what each resource costs per hour, and a fee for starting.

    Attributes:
        start: for each start.
        cpu_core_hour: for a whole core.
        memory_gib_hour: for a GiB of memory.
        disk_gib_hour: for a GiB of disk.
        gpu_hour: for a whole GPU. In a bid, for each that it offers: a hardware instance costs its part of a card.
    """

    start: Amount = 0
    cpu_core_hour: Amount = 0
    memory_gib_hour: Amount = 0
    disk_gib_hour: Amount = 0
    gpu_hour: Amount = 0

    def scaled(self, milli: int) -> Price:
        """So many thousandths of it, each part rounded up: what costs something never becomes free."""
        return Price(
            *(-(-part * milli // 1000) for part in msgspec.structs.astuple(self)),
        )

    def down_to(self, most: int, resources: Resources, millis: int, percent: int) -> Price:
        """The tariff that comes down to meet what is paid at most, if it need not come down by more than `percent`; else itself.

        The start fee stays: it is the least that is worth it. The hourly parts sink in proportion, rounded down, so the cost is at most `most`.
        """
        hourly, room = self.cost(resources, millis) - self.start, most - self.start
        if hourly <= room or 100 * room < (100 - percent) * hourly:
            return self
        start, *parts = msgspec.structs.astuple(self)
        return Price(start, *(part * room // hourly for part in parts))

    def cost(self, resources: Resources, millis: int) -> int:
        """Micro-credits for holding `resources` for `millis`, rounded up once at the end."""
        gpu_milli = sum(gpu.milli for gpu in resources.gpus)
        per_hour = (  # in micro-credits x GiB x 1000, so that only one division rounds
            self.cpu_core_hour * resources.cpu_millicores * GIB
            + (self.memory_gib_hour * resources.memory_bytes + self.disk_gib_hour * resources.disk_bytes) * CORE
            + self.gpu_hour * gpu_milli * GIB
        )
        return self.start + -(-per_hour * millis // (CORE * GIB * HOUR))


class Isolation(StrEnum):
    """How far a job is kept from the machine, weakest first."""

    NONE = "none"
    LANDLOCK = "landlock"
    CONTAINER = "container"
    NAMESPACES = "namespaces"
    WASM = "wasm"
    MICROVM = "microvm"


class Meter(StrEnum):
    """How used CPU time is known, most exact first."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"
    WALL = "wall"


class ExecutorOffer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An executor as it was proven to work on this machine at start.

    Attributes:
        name: "sandbox", "wasm", …
        version: of the tool behind it.
        isolation: what the probe proved.
        limits: which of "cpu", "memory", "processes", "disk", "wall", "output" are hard-enforced; the others are soft.
        meter: what a bill may rest on.
    """

    name: Word
    version: Word = ""
    isolation: Isolation = Isolation.NONE
    limits: Annotated[tuple[Word, ...], msgspec.Meta(max_length=16)] = ()
    meter: Meter = Meter.WALL


class JobClass(StrEnum):
    """The kind of demand a job makes; a provider may accept only some."""

    BATCH = "batch"
    INTERACTIVE = "interactive"
    SERVICE = "service"


class Capability(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a machine offers, or the least a job needs.

    Attributes:
        resources: countable amounts.
        architecture: "x86_64", "aarch64", …; empty in a requirement for any.
        cpu_score: measured speed of one core, thousandths of the reference core; 0 in a requirement for any.
        executors: offered executors; in a requirement those of which every one must be there, each at least as isolated and as limited.
        libraries: "name" or "name==version".
        labels: free key to value; a requirement's labels must all be equal.
        country: ISO 3166-1 alpha-2 code, or empty.
        relayed: offered: reached only through a relay; required: a relay is acceptable.
        job_classes: offered classes (empty: all); required: the one class of the job.
        max_wall_ms: longest run offered (0: unlimited); required: the run's wall time limit.
        egress: offered: to where its owner lets jobs connect; required: to where the job has to.
        price: offered tariff; required: zero, since a job's maximum price is one total (`BidRequest.max_price`).
    """

    resources: Resources = NOTHING
    architecture: Word = ""
    cpu_score: Amount = 0
    executors: Annotated[tuple[ExecutorOffer, ...], msgspec.Meta(max_length=32)] = ()
    libraries: Annotated[tuple[Word, ...], msgspec.Meta(max_length=1024)] = ()
    labels: Annotated[dict[Word, Word], msgspec.Meta(max_length=64)] = {}
    country: Annotated[str, msgspec.Meta(max_length=2)] = ""
    relayed: bool = False
    job_classes: Annotated[tuple[JobClass, ...], msgspec.Meta(max_length=16)] = ()
    max_wall_ms: Amount = 0
    price: Price = Price()
    egress: Egress = NO_EGRESS
