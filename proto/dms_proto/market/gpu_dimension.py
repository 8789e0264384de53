"""The GPU dimension: needs against free devices, and, when they do not fit, which aspect stands in the way.

One verdict ``gpu`` when they fit. Otherwise one per aspect that fails by itself:

===========  ==============================================================  =====================
dimension    fails when                                                      nearest change
===========  ==============================================================  =====================
gpu_count    the machine's devices, were they all free, are too few          gpus 1
gpu_share    some need is for more of one device than is free of any         gpu share 0.5
gpu_vendor   some need names a vendor of which there is no device            gpu vendor any
gpu_model    some need names a model of which there is no device             gpu model any
gpu_memory   some need is for more memory than is free on any device         gpu memory 16 GiB
gpu          none of these alone: only together they do not fit              the first that helps
===========  ==============================================================  =====================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from dms_proto.capability import Gpu
from dms_proto.market.changes import Change, floor_bytes, show_thousandths
from dms_proto.market.gpus import assign_gpus, serves
from dms_proto.market.verdicts import DimensionVerdict, Verdict, bad, good
from dms_proto.units import GPU, format_bytes, format_count

Gpus = tuple[Gpu, ...]


def meets_gpus(needs: Gpus, free: Gpus) -> bool:
    """Whether each need can be given a share."""
    return assign_gpus(needs, free) is not None


def judge_gpus(needs: Gpus, free: Gpus, total: Gpus | None) -> Iterator[DimensionVerdict]:
    """The verdicts on `needs` against what is `free` of each device; `total`: the devices as registered, if known."""
    if meets_gpus(needs, free):
        yield good("gpu", equal=meets_gpus(free, needs))
        return
    devices = total if total is not None else free
    passing = total is not None and meets_gpus(needs, total)
    failing = tuple(aspect for aspect in _ASPECTS if aspect in _FAILS and _FAILS[aspect](needs, free, devices))
    for aspect in failing or ("gpu",):
        nearest = _nearest(aspect, failing, needs, free)
        verdict = Verdict.WORSE if aspect in _GRADED else Verdict.INCOMPARABLE
        wanted, observed = _WORDS[aspect](needs, free, devices)
        yield bad(aspect, wanted, observed, "" if nearest is None else str(nearest), passing=passing, verdict=verdict)


# ------------------------------------------------------------------------------------------------------ which aspect fails


def _count_fails(needs: Gpus, _free: Gpus, devices: Gpus) -> bool:
    bare = tuple(Gpu(milli=need.milli) for need in needs)
    return not meets_gpus(bare, tuple(Gpu(device=str(i)) for i in range(len(devices))))


def _share_fails(needs: Gpus, free: Gpus, devices: Gpus) -> bool:
    most = max((device.milli for device in free), default=0)
    return bool(devices) and any(need.milli > most for need in needs)


def _vendor_fails(needs: Gpus, _free: Gpus, devices: Gpus) -> bool:
    return bool(devices) and not all(any(serves(Gpu(vendor=n.vendor), d) for d in devices) for n in needs)


def _model_fails(needs: Gpus, _free: Gpus, devices: Gpus) -> bool:
    return bool(devices) and not all(any(serves(Gpu(model=n.model), d) for d in devices) for n in needs)


def _memory_fails(needs: Gpus, free: Gpus, devices: Gpus) -> bool:
    most = max((device.memory_bytes for device in free), default=0)
    return bool(devices) and any(need.memory_bytes > most for need in needs)


_FAILS: Final[dict[str, Callable[[Gpus, Gpus, Gpus], bool]]] = {
    "gpu_count": _count_fails,
    "gpu_share": _share_fails,
    "gpu_vendor": _vendor_fails,
    "gpu_model": _model_fails,
    "gpu_memory": _memory_fails,
}
_ASPECTS: Final = tuple(_FAILS)
_GRADED: Final = frozenset({"gpu_count", "gpu_share", "gpu_memory"})

# --------------------------------------------------------------------------------------------------- what change would help


def _nearest(aspect: str, failing: tuple[str, ...], needs: Gpus, free: Gpus) -> Change | None:
    """The smallest change in `aspect` after which the needs fit, the other failing aspects left aside."""
    for other in failing:
        if other != aspect:
            needs = _RELAXED[other](needs)
    if aspect != "gpu":
        return _HELP[aspect](needs, free)
    changes = (_HELP[name](needs, free) for name in ("gpu_share", "gpu_memory", "gpu_count", "gpu_model", "gpu_vendor"))
    return next((change for change in changes if change is not None), None)


def _each(field: str, value: object) -> Callable[[Gpus], Gpus]:
    return lambda needs: tuple(msgspec.structs.replace(need, **{field: value}) for need in needs)


_RELAXED: Final[dict[str, Callable[[Gpus], Gpus]]] = {
    "gpu_count": lambda needs: needs[:1],
    "gpu_share": _each("milli", 1),
    "gpu_vendor": _each("vendor", ""),
    "gpu_model": _each("model", ""),
    "gpu_memory": _each("memory_bytes", 0),
}


def _help_count(needs: Gpus, free: Gpus) -> Change | None:
    count = _largest(len(needs), lambda n: meets_gpus(needs[:n], free))
    return Change("gpu_count", count) if 0 < count < len(needs) else None


def _help_share(needs: Gpus, free: Gpus) -> Change | None:
    share = _largest(GPU, lambda milli: meets_gpus(_lowered(needs, "milli", milli), free))
    return Change("gpu_share", share) if share else None


def _help_memory(needs: Gpus, free: Gpus) -> Change | None:
    most = max(need.memory_bytes for need in needs)
    memory = _largest(most, lambda size: meets_gpus(_lowered(needs, "memory_bytes", size), free))
    return Change("gpu_memory", floor_bytes(memory)) if 0 < memory < most else None


def _help_any(aspect: str) -> Callable[[Gpus, Gpus], Change | None]:
    def help_it(needs: Gpus, free: Gpus) -> Change | None:
        return Change(aspect, 0, "any") if meets_gpus(_RELAXED[aspect](needs), free) else None

    return help_it


_HELP: Final[dict[str, Callable[[Gpus, Gpus], Change | None]]] = {
    "gpu_count": _help_count,
    "gpu_share": _help_share,
    "gpu_vendor": _help_any("gpu_vendor"),
    "gpu_model": _help_any("gpu_model"),
    "gpu_memory": _help_memory,
}


def _lowered(needs: Gpus, field: str, value: int) -> Gpus:
    return tuple(msgspec.structs.replace(need, **{field: min(getattr(need, field), value)}) for need in needs)


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n of 1..limit that fits, by bisection: what fits at n fits below n. 0 when none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


# ------------------------------------------------------------------------------------------------------------------ words


def _names(words: tuple[str, ...]) -> str:
    counted = Counter(word for word in words if word)
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in sorted(counted.items())) or "none"


def _describe(gpus: Gpus) -> str:
    return _names(
        tuple(" ".join(filter(None, (_share(gpu.milli), gpu.vendor, gpu.model))) + _memory(gpu) for gpu in gpus)
    )


def _count(gpus: Gpus) -> str:
    return format_count(len(gpus), "GPU")


def _memory(gpu: Gpu) -> str:
    return f" with {format_bytes(gpu.memory_bytes)}" if gpu.memory_bytes else ""


def _share(milli: int) -> str:
    return "whole GPU" if milli >= GPU else f"{show_thousandths(milli)} GPU"


_WORDS: Final[dict[str, Callable[[Gpus, Gpus, Gpus], tuple[str, str]]]] = {
    "gpu_count": lambda needs, _free, devices: (_count(needs), _count(devices)),
    "gpu_share": lambda needs, free, _devices: (
        _share(max(need.milli for need in needs)),
        f"{show_thousandths(max((device.milli for device in free), default=0))} of a GPU free",
    ),
    "gpu_vendor": lambda needs, _free, devices: (
        _names(tuple(need.vendor for need in needs)),
        _names(tuple(device.vendor for device in devices)),
    ),
    "gpu_model": lambda needs, _free, devices: (
        _names(tuple(need.model for need in needs)),
        _names(tuple(device.model for device in devices)),
    ),
    "gpu_memory": lambda needs, free, _devices: (
        f"{format_bytes(max(need.memory_bytes for need in needs))} on one GPU",
        f"{format_bytes(max((device.memory_bytes for device in free), default=0))} free on one GPU",
    ),
    "gpu": lambda needs, free, _devices: (_describe(needs), _describe(free) + " free"),
}
