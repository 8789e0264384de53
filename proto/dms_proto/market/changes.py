"""Changes to a request, in words that can be read back: "memory 8 GiB", "architecture any", "max price 0.03".

A clause's `nearest` is such a text, written by the machine that declines; `explain` reads it, counts what it would gain, and can apply it. Every
change makes the request ask for less (or pay more), so a machine that bid before still would; only a job class is exchanged for another.
The words are exact: applying what was read gives an amount the machine accepts, never one rounded past it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.messages import BidRequest
from dms_proto.units import (
    CORE,
    CREDIT,
    GIB,
    HOUR,
    KIB,
    MIB,
    MINUTE,
    SECOND,
    parse_bytes,
    parse_credits,
    parse_millicores,
    parse_millis,
)

ISOLATIONS: Final = tuple(Isolation)
"""Weakest first."""


class Change(NamedTuple):
    """One change to a request.

    Attributes:
        dimension: as in a clause: "memory", "label:zone".
        amount: of a countable dimension, in its unit.
        text: of any other: "any", "batch", ….
    """

    dimension: str
    amount: int = 0
    text: str = ""

    def __str__(self) -> str:
        quantity = QUANTITIES.get(self.dimension)
        if quantity is not None:
            return f"{quantity.words} {quantity.show(self.amount)}"
        name, _, key = self.dimension.partition(":")
        return f"{_WORDS.get(name, name)} {key} {self.text}" if key else f"{_WORDS.get(name, name)} {self.text}"

    def covers(self, other: Change) -> bool:
        """Whether this change does all that `other` does."""
        if self.dimension != other.dimension:
            return False
        quantity = QUANTITIES.get(self.dimension)
        if quantity is not None:
            return self.amount >= other.amount if quantity.upwards else self.amount <= other.amount
        if self.dimension.startswith("executor:"):
            return _covers_executor(self.text, other.text)
        return self.text in (other.text, "none")


class Quantity(NamedTuple):
    """A dimension counted in integers, and how it is written, read, found in a request and changed there."""

    words: str
    show: Callable[[int], str]
    read: Callable[[str], int]
    get: Callable[[BidRequest], int]
    put: Callable[[BidRequest, int], BidRequest]
    upwards: bool = False


def parse_change(text: str) -> Change | None:
    """Reads a clause's `nearest`. None for anything that is not one: it was written by a stranger."""
    for dimension, quantity in QUANTITIES.items():
        if text.startswith(quantity.words + " "):
            try:
                return Change(dimension, quantity.read(text[len(quantity.words) + 1 :]))
            except ValueError:
                continue  # "gpus" begins like "gpu share": another dimension may still read it
    for dimension, pattern in _PATTERNS.items():
        match = pattern.fullmatch(text)
        if match is not None:
            return Change(f"{dimension}:{match[1]}" if pattern.groups > 1 else dimension, 0, match[pattern.groups])
    return None


def apply_change(request: BidRequest, change: Change) -> BidRequest:
    """The request after the change."""
    quantity = QUANTITIES.get(change.dimension)
    if quantity is not None:
        now = quantity.get(request)
        better = max(now, change.amount) if quantity.upwards else min(now, change.amount)
        return quantity.put(request, better)
    return _with_needs(request, _weaken(request.needs, change))


def current(request: BidRequest, dimension: str) -> str:
    """What the request asks for now in a dimension, in words; empty when it has no amount."""
    quantity = QUANTITIES.get(dimension)
    return quantity.show(quantity.get(request)) if quantity is not None else ""


def floor_bytes(value: int) -> int:
    """The largest amount of at most `value` that people would write: whole MiB from 64 MiB on, whole KiB from 64 KiB on."""
    for unit in (MIB, KIB):
        if value >= 64 * unit:
            return value - value % unit
    return value


def any_executor(name: str, isolation: Isolation, limits: tuple[str, ...], *, any_version: bool = False) -> Change:
    """The change that asks no more of an executor than this."""
    text = f"isolation {isolation} limits {','.join(sorted(limits)) or 'none'}"
    return Change(f"executor:{name}", 0, text + (" any version" if any_version else ""))


# ------------------------------------------------------------------------------------------------------------- quantities


def show_thousandths(value: int) -> str:
    """``1500`` -> ``1.5``."""
    return _plain(Decimal(value) / CORE)


def show_bytes(value: int) -> str:
    """The exact size in its largest whole unit: ``8 GiB``, ``8499 MiB``, ``17 B``."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} B"


def show_millis(value: int) -> str:
    """The exact span in its largest whole unit: ``2h``, ``90m``, ``1500ms``."""
    for unit, size in (("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}ms"


def show_credits(value: int) -> str:
    """The exact amount: ``0.03``."""
    return _plain(Decimal(value) / CREDIT)


def _read_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise ValueError(f"{text!r} is not a count")
    return int(text)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _with_needs(request: BidRequest, needs: Capability) -> BidRequest:
    return msgspec.structs.replace(request, needs=needs)


def _resource(words: str, field: str, show: Callable[[int], str], read: Callable[[str], int]) -> Quantity:
    def put(request: BidRequest, value: int) -> BidRequest:
        resources = msgspec.structs.replace(request.needs.resources, **{field: value})
        return _with_needs(request, msgspec.structs.replace(request.needs, resources=resources))

    def get(request: BidRequest) -> int:
        value: int = getattr(request.needs.resources, field)
        return value

    return Quantity(words, show, read, get, put)


def _need(words: str, field: str, show: Callable[[int], str], read: Callable[[str], int]) -> Quantity:
    def put(request: BidRequest, value: int) -> BidRequest:
        return _with_needs(request, msgspec.structs.replace(request.needs, **{field: value}))

    def get(request: BidRequest) -> int:
        value: int = getattr(request.needs, field)
        return value

    return Quantity(words, show, read, get, put)


def _with_gpus(request: BidRequest, gpus: tuple[Gpu, ...]) -> BidRequest:
    resources = msgspec.structs.replace(request.needs.resources, gpus=gpus)
    return _with_needs(request, msgspec.structs.replace(request.needs, resources=resources))


def _with_egress(request: BidRequest, **changes: object) -> BidRequest:
    egress = msgspec.structs.replace(request.needs.egress, **changes)
    return _with_needs(request, msgspec.structs.replace(request.needs, egress=egress))


def _gpu(words: str, field: str, show: Callable[[int], str], read: Callable[[str], int]) -> Quantity:
    def put(request: BidRequest, value: int) -> BidRequest:
        gpus = request.needs.resources.gpus
        lowered = (msgspec.structs.replace(gpu, **{field: min(getattr(gpu, field), value)}) for gpu in gpus)
        return _with_gpus(request, tuple(lowered))

    def get(request: BidRequest) -> int:
        return max((getattr(gpu, field) for gpu in request.needs.resources.gpus), default=0)

    return Quantity(words, show, read, get, put)


QUANTITIES: Final[dict[str, Quantity]] = {
    "cpu_score": _need("cpu score", "cpu_score", show_thousandths, parse_millicores),
    "cpu": _resource("cpu", "cpu_millicores", show_thousandths, parse_millicores),
    "memory": _resource("memory", "memory_bytes", show_bytes, parse_bytes),
    "disk": _resource("disk", "disk_bytes", show_bytes, parse_bytes),
    "gpu_memory": _gpu("gpu memory", "memory_bytes", show_bytes, parse_bytes),
    "gpu_share": _gpu("gpu share", "milli", show_thousandths, parse_millicores),
    "gpu_count": Quantity(
        "gpus",
        str,
        _read_count,
        lambda request: len(request.needs.resources.gpus),
        lambda request, count: _with_gpus(request, request.needs.resources.gpus[:count]),
    ),
    "egress_bytes": Quantity(
        "egress bytes",
        show_bytes,
        parse_bytes,
        lambda request: request.needs.egress.most_bytes,
        lambda request, most: _with_egress(request, most_bytes=most),
    ),
    "wall_time": _need("wall time", "max_wall_ms", show_millis, parse_millis),
    "price": Quantity(
        "max price",
        show_credits,
        parse_credits,
        lambda request: request.max_price,
        lambda request, value: msgspec.structs.replace(request, max_price=value),
        upwards=True,
    ),
    "budget": Quantity(
        "budget",
        show_credits,
        parse_credits,
        lambda request: request.max_price,
        lambda request, value: msgspec.structs.replace(request, max_price=value),
        upwards=True,
    ),
}
"""The budget shows in a request as its price, where it is what keeps that down."""

# ------------------------------------------------------------------------------------------------------------------- kinds

_WORDS: Final = {"gpu_vendor": "gpu vendor", "gpu_model": "gpu model", "relayed": "relay", "job_class": "class"}
_EXECUTOR: Final = re.compile(rf"isolation ({'|'.join(Isolation)}) limits ([\w,]+)( any version)?", re.ASCII)
_PATTERNS: Final[dict[str, re.Pattern[str]]] = {
    "architecture": re.compile(r"architecture (any)"),
    "country": re.compile(r"country (any)"),
    "gpu_vendor": re.compile(r"gpu vendor (any)"),
    "gpu_model": re.compile(r"gpu model (any)"),
    "relayed": re.compile(r"relay (accepted)"),
    "job_class": re.compile(f"class ({'|'.join(JobClass)})"),
    "label": re.compile(r"label (.+) (any)"),
    "library": re.compile(r"library (.+?) (any version|none)"),
    "egress": re.compile(r"egress (\S+) (none)"),
    "executor": re.compile(
        rf"executor (.+?) (isolation (?:{'|'.join(Isolation)}) limits [\w,]+(?: any version)?)", re.ASCII
    ),
}


def _weaken(needs: Capability, change: Change) -> Capability:
    name, _, key = change.dimension.partition(":")
    weakened = _WEAKENED[name](needs, key, change.text)
    return msgspec.structs.replace(needs, **weakened)


def _gpus_of_any(field: str) -> Callable[[Capability, str, str], dict[str, object]]:
    def weaken(needs: Capability, _key: str, _text: str) -> dict[str, object]:
        gpus = tuple(msgspec.structs.replace(gpu, **{field: ""}) for gpu in needs.resources.gpus)
        return {"resources": msgspec.structs.replace(needs.resources, gpus=gpus)}

    return weaken


def _weaken_library(libraries: tuple[str, ...], name: str, text: str) -> tuple[str, ...]:
    kept = (library if library.partition("==")[0] != name else name for library in libraries)
    return tuple(library for library in kept if library != name or text != "none")


def _without_way(egress: Egress, destination: str) -> Egress:
    kept = tuple(one for one in egress.destinations if one != destination)
    return msgspec.structs.replace(egress, destinations=kept) if kept else NO_EGRESS


def _weaken_executor(required: ExecutorOffer, text: str) -> ExecutorOffer:
    isolation, limits, any_version = _read_executor(text)
    return msgspec.structs.replace(
        required,
        version="" if any_version else required.version,
        isolation=min(required.isolation, isolation, key=ISOLATIONS.index),
        limits=tuple(limit for limit in required.limits if limit in limits),
    )


def _read_executor(text: str) -> tuple[Isolation, frozenset[str], bool]:
    match = _EXECUTOR.fullmatch(text)
    assert match is not None, f"only `any_executor` and `parse_change` make such texts, not {text!r}"
    return Isolation(match[1]), frozenset(match[2].split(",")) - {"none"}, match[3] is not None


def _covers_executor(text: str, other: str) -> bool:
    isolation, limits, any_version = _read_executor(text)
    their_isolation, their_limits, their_any = _read_executor(other)
    weaker = ISOLATIONS.index(isolation) <= ISOLATIONS.index(their_isolation)
    return weaker and limits <= their_limits and any_version >= their_any


_WEAKENED: Final[dict[str, Callable[[Capability, str, str], dict[str, object]]]] = {
    "architecture": lambda _needs, _key, _text: {"architecture": ""},
    "country": lambda _needs, _key, _text: {"country": ""},
    "gpu_vendor": _gpus_of_any("vendor"),
    "gpu_model": _gpus_of_any("model"),
    "relayed": lambda _needs, _key, _text: {"relayed": True},
    "job_class": lambda _needs, _key, text: {"job_classes": (JobClass(text),)},
    "label": lambda needs, key, _text: {"labels": {k: v for k, v in needs.labels.items() if k != key}},
    "library": lambda needs, key, text: {"libraries": _weaken_library(needs.libraries, key, text)},
    "egress": lambda needs, key, _text: {"egress": _without_way(needs.egress, key)},
    "executor": lambda needs, key, text: {
        "executors": tuple(_weaken_executor(e, text) if e.name == key else e for e in needs.executors)
    },
}
"""The fields of the needs that a change of kind sets, from (needs, key after the colon, text)."""
