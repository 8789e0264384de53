"""Invented GPUs, for tests and demonstrations, where a machine has none.

::

    2xA100-40G,1xL4-24G               two devices and one
    1xA100-40G/3x1g.5gb+1x3g.20gb     one that is divided into four instances (MIG), which are offered in its place

They are marked as simulated in their model, so that no bid can pass one off as real. A job that is given one is told its name, and finds no device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from dms.hardware.gpu_types import Detection, FoundGpu, Probe, part_of
from dms_proto.capability import Gpu
from dms_proto.errors import UserError
from dms_proto.units import GIB, format_bytes, format_count

SIMULATED: Final = " (simulated)"
"""Ends the model of every invented device."""
MAX_SIMULATED: Final = 64
MAX_SLICES: Final = 7
"""Compute slices of a device that can be divided (NVIDIA Multi-Instance GPU User Guide)."""
_SETTING: Final = "provider.simulate_gpus"
_CARDS: Final = re.compile(
    r"\s*(\d{1,2})\s*x\s*([A-Za-z0-9][A-Za-z0-9 ._-]{0,40}?)-(\d{1,4})\s*G(?:i?B)?\s*(?:/(.*))?",
    re.IGNORECASE | re.ASCII,
)
_INSTANCES: Final = re.compile(r"\s*(\d)\s*x\s*(([1-7])g\.(\d{1,4})gb)\s*", re.IGNORECASE | re.ASCII)


class _Instance(NamedTuple):
    """One part of a divided device."""

    profile: str
    slices: int
    memory_bytes: int


class _Card(NamedTuple):
    """One device; with instances it is divided into them."""

    model: str
    memory_bytes: int
    instances: tuple[_Instance, ...]


def simulate(text: str) -> Detection:
    """Invented NVIDIA or AMD devices from ``COUNTxMODEL-MEMORYG``, comma-separated; an empty text invents none.

    Raises:
        UserError: `bad_config`: not of that form, or more than there can be.
    """
    cards = [card for part in text.split(",") for card in _read(part)] if text.strip() else []
    found = tuple(gpu for index, card in enumerate(cards) for gpu in _invented(index, card))
    if len(found) > MAX_SIMULATED:
        raise UserError("bad_config", f"{_SETTING}: {format_count(len(found), 'device')}, more than {MAX_SIMULATED}")
    probe = Probe("simulated", ok=True, detail=format_count(len(found), "invented device"))
    return Detection(found, (probe,) if found else ())


def _read(part: str) -> list[_Card]:
    match = _CARDS.fullmatch(part)
    if match is None or int(match[1]) == 0 or int(match[3]) == 0:
        raise UserError(
            "bad_config",
            f"{_SETTING}: {part.strip()!r} is not COUNTxMODEL-MEMORYG",
            hint="for example 2xA100-40G,1xL4-24G",
        )
    instances = () if match[4] is None else tuple(_instances(match[4]))
    card = _Card(match[2], int(match[3]) * GIB, instances)
    _refuse_too_much(part, card)
    return [card] * int(match[1])


def _instances(text: str) -> Iterator[_Instance]:
    for part in text.split("+"):
        match = _INSTANCES.fullmatch(part)
        if match is None or int(match[1]) == 0 or int(match[4]) == 0:
            raise UserError(
                "bad_config",
                f"{_SETTING}: {part.strip()!r} is not COUNTxSLICESg.MEMORYgb",
                hint="for example 1xA100-40G/3x1g.5gb+1x3g.20gb",
            )
        yield from [_Instance(match[2].lower(), int(match[3]), int(match[4]) * GIB)] * int(match[1])


def _refuse_too_much(part: str, card: _Card) -> None:
    slices, memory = sum(i.slices for i in card.instances), sum(i.memory_bytes for i in card.instances)
    if slices > MAX_SLICES:
        problem = f"has {slices} slices, more than {MAX_SLICES}"
    elif memory > card.memory_bytes:
        problem = f"has {format_bytes(memory)} in its instances, more than {format_bytes(card.memory_bytes)}"
    elif card.instances and _vendor(card.model) != "nvidia":
        problem = "cannot be divided: only NVIDIA devices can"
    else:
        return
    raise UserError("bad_config", f"{_SETTING}: {part.strip()!r} {problem}")


def _vendor(model: str) -> str:
    return "amd" if re.match(r"(mi\d|radeon|rx)", model, re.IGNORECASE) else "nvidia"


def _invented(index: int, card: _Card) -> Iterator[FoundGpu]:
    vendor = _vendor(card.model)
    if not card.instances:
        name = card.model + SIMULATED
        uuid = f"GPU-sim-{index}"
        yield FoundGpu(
            vendor, name, offer=Gpu(f"sim-{index}", vendor, name, card.memory_bytes), simulated=True, uuid=uuid
        )
    for number, instance in enumerate(card.instances):
        name = f"{card.model} MIG {instance.profile}{SIMULATED}"
        uuid = f"MIG-sim-{index}-{number}"
        part = part_of((instance.slices, MAX_SLICES), (instance.memory_bytes, card.memory_bytes))
        offer = Gpu(uuid, vendor, name, instance.memory_bytes, part=part)
        yield FoundGpu(vendor, name, offer=offer, simulated=True, uuid=uuid)
