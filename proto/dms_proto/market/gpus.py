"""Which GPU of a machine serves which need.

`assign_gpus` is the one place where needs ("two whole A100", "half of any GPU with 8 GiB") meet devices. The provider's ledger reserves
exactly what it gives; comparing uses it to say whether the needs fit at all. It is a function of its arguments alone: the same needs and the
same free devices always give the same assignment, on both sides and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from dms_proto.capability import Gpu, Price
from dms_proto.units import GPU

MAX_STEPS: Final = 2_000
"""Placements tried before giving up. Packing shares is NP-hard; without a bound a stranger's request could keep a provider busy. Real machines
(16 devices, needs alike) take a few dozen; a refusal at the bound is a decline, never a broken promise."""


def assign_gpus(needs: tuple[Gpu, ...], free: tuple[Gpu, ...]) -> tuple[Gpu, ...] | None:
    """Gives each need a concrete share of a device, in the order of `needs`, or None when they do not fit together.

    A whole GPU (1000 thousandths) is only given from a device that is entirely free, with all its memory. A share takes what it asks for, from the
    device that has least left beyond it, so that large needs still find room later.

    Args:
        needs: as a request writes them; a share of 0 counts as the smallest, 1.
        free: what is free of each device, at most one entry per device.
    """
    if not needs:
        return ()
    if not free or sum(_milli(need) for need in needs) > sum(device.milli for device in free):
        return None
    return _Search(needs, free).run()


def tariff_for(tariff: Price, given: tuple[Gpu, ...]) -> Price:
    """A tariff for cards, as one for what is given: of a hardware instance only the part of its card that it is costs anything. Rounded up."""
    milli, of_cards = sum(gpu.milli for gpu in given), sum(gpu.milli * gpu.part for gpu in given)
    if of_cards == milli * GPU:
        return tariff
    return msgspec.structs.replace(tariff, gpu_hour=-(-tariff.gpu_hour * of_cards // (milli * GPU)))


def serves(need: Gpu, device: Gpu) -> bool:
    """Whether the device is of the kind asked for, whatever is free of it."""
    if need.vendor and need.vendor.casefold() != device.vendor.casefold():
        return False
    return not need.model or need.model.casefold() in device.model.casefold()


def _milli(need: Gpu) -> int:
    return max(1, need.milli)


class _Search:
    """Depth-first with best fit first, never trying two devices in the same state, nor a state that failed before."""

    def __init__(self, needs: tuple[Gpu, ...], free: tuple[Gpu, ...]) -> None:
        self.needs = needs
        self.free = free
        self.milli = [device.milli for device in free]
        self.memory = [device.memory_bytes for device in free]
        self.kinds = [(device.vendor, device.model) for device in free]
        # Hardest first: whole devices, then large shares, then those that name a kind.
        self.order = sorted(
            range(len(needs)),
            key=lambda i: (-_milli(needs[i]), -needs[i].memory_bytes, not needs[i].model, not needs[i].vendor, i),
        )
        self.given: list[Gpu | None] = [None] * len(needs)
        self.failed: set[tuple[int, tuple[tuple[str, str, int, int], ...]]] = set()
        self.steps = 0

    def run(self) -> tuple[Gpu, ...] | None:
        if not self._place(0):
            return None
        return tuple(share for share in self.given if share is not None)

    def _place(self, position: int) -> bool:
        if position == len(self.order):
            return True
        index = self.order[position]
        need = self.needs[index]
        state = (position, self._state())
        if state in self.failed:
            return False
        for at in self._candidates(need):
            self.steps += 1
            if self.steps > MAX_STEPS:
                return False
            milli, memory = self._share(need, at)
            self.milli[at] -= milli
            self.memory[at] -= memory
            device = self.free[at]
            self.given[index] = msgspec.structs.replace(device, memory_bytes=memory, milli=milli)
            if self._place(position + 1):
                return True
            self.milli[at] += milli
            self.memory[at] += memory
        self.failed.add(state)
        return False

    def _candidates(self, need: Gpu) -> Iterator[int]:
        """Devices with room for the need, tightest first, one of each state."""
        milli = _milli(need)
        fitting = sorted(
            (self.milli[at], self.memory[at], at)
            for at, device in enumerate(self.free)
            if self.milli[at] >= milli and self.memory[at] >= need.memory_bytes and serves(need, device)
        )
        seen: set[tuple[tuple[str, str], int, int]] = set()
        for left, memory, at in fitting:
            state = (self.kinds[at], left, memory)
            if state not in seen:
                seen.add(state)
                yield at

    def _share(self, need: Gpu, at: int) -> tuple[int, int]:
        milli = _milli(need)
        return (milli, self.memory[at]) if milli == GPU else (milli, need.memory_bytes)

    def _state(self) -> tuple[tuple[str, str, int, int], ...]:
        return tuple(
            sorted(
                (*kind, milli, memory) for kind, milli, memory in zip(self.kinds, self.milli, self.memory, strict=True)
            )
        )
