"""Adding and subtracting `Resources`, dimension by dimension, GPU by GPU.

The capacity law (registered = available + locked + allocated) is an equation between values of this arithmetic, so results have one spelling:
GPUs sorted by device, one entry per device, none where nothing is left. Subtracting more than there is, or adding up to more than the whole of a
device, raises: inside the ledger that is a defect, never an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import GPU


def add(left: Resources, right: Resources) -> Resources:
    """The sum of two concrete amounts.

    Raises:
        ValueError: a GPU names no device, is described differently on both sides, or would be more than one whole device.
    """
    return Resources(
        left.cpu_millicores + right.cpu_millicores,
        left.memory_bytes + right.memory_bytes,
        left.disk_bytes + right.disk_bytes,
        _spell(_by_device((*left.gpus, *right.gpus))) if left.gpus or right.gpus else (),
    )


def subtract(whole: Resources, part: Resources) -> Resources:
    """What is left of `whole` without `part`.

    Raises:
        ValueError: `part` is more than `whole` in some dimension; the message names it.
    """
    for name in ("cpu_millicores", "memory_bytes", "disk_bytes"):
        if getattr(part, name) > getattr(whole, name):
            raise ValueError(f"{name}: {getattr(part, name)} is more than the {getattr(whole, name)} there are")
    return Resources(
        whole.cpu_millicores - part.cpu_millicores,
        whole.memory_bytes - part.memory_bytes,
        whole.disk_bytes - part.disk_bytes,
        _subtract_gpus(whole.gpus, part.gpus) if whole.gpus or part.gpus else (),
    )


def clamp_subtract(whole: Resources, part: Resources) -> Resources:
    """What is left of `whole` without `part`, but never less than nothing, and without a complaint: for amounts that are observed, not promised.

    A device that `whole` lacks is passed over.
    """
    there = _by_device(whole.gpus)
    for device, used in _by_device(part.gpus).items():
        if device in there:
            have = there[device]
            there[device] = msgspec.structs.replace(
                have,
                memory_bytes=max(0, have.memory_bytes - used.memory_bytes),
                milli=max(0, have.milli - used.milli),
            )
    return Resources(
        max(0, whole.cpu_millicores - part.cpu_millicores),
        max(0, whole.memory_bytes - part.memory_bytes),
        max(0, whole.disk_bytes - part.disk_bytes),
        _spell(there),
    )


def fits_within(part: Resources, whole: Resources) -> bool:
    """Whether `subtract(whole, part)` is possible. GPUs of `part` name their devices; needs are first given some by `assign_gpus`."""
    if (
        part.cpu_millicores > whole.cpu_millicores
        or part.memory_bytes > whole.memory_bytes
        or part.disk_bytes > whole.disk_bytes
    ):
        return False
    if not part.gpus:
        return True
    there = _by_device(whole.gpus)
    try:
        taken = _by_device(part.gpus)
    except ValueError:  # more than one whole device, or none named: nothing has that
        return False
    return all(
        device in there and share.milli <= there[device].milli and share.memory_bytes <= there[device].memory_bytes
        for device, share in taken.items()
    )


def total_of(parts: Iterable[Resources]) -> Resources:
    """The sum of concrete amounts; nothing for none.

    Raises:
        ValueError: as `add`.
    """
    total = NOTHING
    for part in parts:
        total = add(total, part)
    return total


def canonical(resources: Resources) -> Resources:
    """The one spelling of a concrete amount: what `add` and `subtract` give.

    Raises:
        ValueError: as `add`.
    """
    return add(resources, NOTHING)


def _subtract_gpus(whole: tuple[Gpu, ...], part: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    there = _by_device(whole)
    for device, share in _by_device(part).items():
        have = there.get(device)
        if have is None or share.milli > have.milli or share.memory_bytes > have.memory_bytes:
            raise ValueError(f"gpu {device!r}: {share} is more than there is, {have}")
        there[device] = msgspec.structs.replace(
            have, memory_bytes=have.memory_bytes - share.memory_bytes, milli=have.milli - share.milli
        )
    return _spell(there)


def _by_device(gpus: Iterable[Gpu]) -> dict[str, Gpu]:
    devices: dict[str, Gpu] = {}
    for gpu in gpus:
        if not gpu.milli and not gpu.memory_bytes:
            continue  # nothing of a device is nothing, whether or not the device is there
        if not gpu.device:
            raise ValueError(f"a GPU that names no device cannot be counted: {gpu}")
        have = devices.get(gpu.device)
        if have is None:
            devices[gpu.device] = gpu
            continue
        if (have.vendor, have.model) != (gpu.vendor, gpu.model):
            raise ValueError(f"gpu {gpu.device!r} is described in two ways: {have} and {gpu}")
        milli = have.milli + gpu.milli
        if milli > GPU:
            raise ValueError(f"gpu {gpu.device!r}: {milli} thousandths are more than the whole")
        devices[gpu.device] = msgspec.structs.replace(
            have, memory_bytes=have.memory_bytes + gpu.memory_bytes, milli=milli
        )
    return devices


def _spell(devices: dict[str, Gpu]) -> tuple[Gpu, ...]:
    return tuple(devices[key] for key in sorted(devices) if devices[key].milli or devices[key].memory_bytes)
