"""What GPU detection finds: devices with what is known of each, and the probes that were made with their outcome."""

from __future__ import annotations

import msgspec

from dms_proto.capability import Gpu
from dms_proto.units import GPU


class FoundGpu(msgspec.Struct, frozen=True):
    """One device, or one hardware partition of it.

    Attributes:
        vendor: "nvidia", "amd", "intel".
        model: the driver's name for it, or "device 0x…" when no driver says.
        pci: its address, "0000:3b:00.0"; empty for an invented one.
        driver: kernel driver or its version; empty without one.
        offer: what can be offered; None when it cannot be used, and then `problem` says why and `hint` what to do.
        simulated: invented for tests: there is no device.
        uuid: by which the vendor's libraries know it for good, "GPU-…" or "MIG-…"; empty where there is none.
        nodes: (device node on this machine, where a job finds it): what a program opens to use it, and nothing of any other device.
    """

    vendor: str
    model: str
    pci: str = ""
    driver: str = ""
    offer: Gpu | None = None
    problem: str = ""
    hint: str = ""
    simulated: bool = False
    uuid: str = ""
    nodes: tuple[tuple[str, str], ...] = ()


def part_of(*shares: tuple[int, int]) -> int:
    """Thousandths of a card that an instance is, by what it takes most of.

    Args:
        shares: of each resource how much the instance has, and how much the card; where the card has none, nothing is known of it.
    """
    largest = max((-(-own * GPU // whole) for own, whole in shares if whole > 0), default=GPU)
    return min(max(1, largest), GPU)


class Probe(msgspec.Struct, frozen=True):
    """One attempt to learn something, for `dms doctor`. `ok` False is no fault by itself: most machines have no such device."""

    name: str
    ok: bool
    detail: str


class Detection(msgspec.Struct, frozen=True):
    """Everything found, in a stable order."""

    gpus: tuple[FoundGpu, ...] = ()
    probes: tuple[Probe, ...] = ()

    @property
    def offers(self) -> tuple[Gpu, ...]:
        """The devices that were opened and can be offered."""
        return tuple(gpu.offer for gpu in self.gpus if gpu.offer is not None)
