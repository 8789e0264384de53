"""What an expression can read: variables, their fields, and where each value comes from. Tables, so that a reference can be made from them.

Quantities are doubles in the unit people use; counts are integers. A field without a value (a round trip not yet measured) is not there:
an expression that needs it is unknown, and ``has(link.rtt_ms)`` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from dms_proto.capability import Capability, Gpu
from dms_proto.ids import PeerId
from dms_proto.market.expressions import Schema
from dms_proto.reputation import FULL
from dms_proto.units import CORE, CREDIT, GIB, SECOND


class RequesterFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a provider knows of a requester.

    Attributes:
        peer: proven by its signature.
        own: whether it belongs to the same owner.
        completed: allocations it invoked here that ran to an end.
        failed: allocations it left: committed and never invoked, or lost.
    """

    peer: PeerId
    own: bool = False
    completed: int = 0
    failed: int = 0


class Variable(NamedTuple):
    """A field: what it means, and how its value is found; None for no value."""

    meaning: str
    get: Callable[[Any], object]


Fields = Mapping[str, Variable]


def _resources(of: Callable[[Any], Capability]) -> dict[str, Variable]:
    """The fields that needs and offers share."""
    return {
        "cpu": Variable("cores", lambda x: of(x).resources.cpu_millicores / CORE),
        "memory_gib": Variable("memory in GiB", lambda x: of(x).resources.memory_bytes / GIB),
        "disk_gib": Variable("disk in GiB", lambda x: of(x).resources.disk_bytes / GIB),
        "gpu_count": Variable("number of GPUs", lambda x: len(of(x).resources.gpus)),
        "gpus": Variable("list of {vendor, model, memory_gib, share}", lambda x: _gpus(of(x).resources.gpus)),
        "architecture": Variable("such as x86_64; empty for any", lambda x: of(x).architecture),
        "cpu_score": Variable("speed of a core; 1.0 is the reference core", lambda x: of(x).cpu_score / CORE),
        "executors": Variable("names of executors", lambda x: [executor.name for executor in of(x).executors]),
        "libraries": Variable('"name" or "name==version"', lambda x: list(of(x).libraries)),
        "labels": Variable("map from key to value", lambda x: dict(of(x).labels)),
        "country": Variable("ISO 3166-1 code, or empty", lambda x: of(x).country),
    }


def _gpus(gpus: tuple[Gpu, ...]) -> list[dict[str, object]]:
    return [
        {"vendor": g.vendor, "model": g.model, "memory_gib": g.memory_bytes / GIB, "share": g.milli / CORE}
        for g in gpus
    ]


REQUEST: Final[Fields] = {
    **_resources(lambda request: request.needs),
    "count": Variable("allocations wanted", lambda request: request.count),
    "wall_s": Variable("wall time limit in seconds", lambda request: request.needs.max_wall_ms / SECOND),
    "max_price": Variable("credits per allocation at most", lambda request: request.max_price / CREDIT),
    "job_class": Variable(
        "batch, interactive or service", lambda request: str(next(iter(request.needs.job_classes), ""))
    ),
    "priority": Variable("the requester's own order of its requests", lambda request: request.priority),
}
OFFER: Final[Fields] = {
    **_resources(lambda candidate: candidate.offer),
    "slots": Variable("allocations it has room for", lambda candidate: candidate.slots),
}
PROVIDER: Final[Fields] = {
    "id": Variable("PeerID", lambda candidate: candidate.provider),
    "own": Variable("whether the machine is one's own", lambda candidate: candidate.own),
    "successes": Variable("own allocations that ended well there", lambda candidate: candidate.successes),
    "failures": Variable("own allocations that failed by its doing", lambda candidate: candidate.failures),
    "standing": Variable("from 0 to 1, from own evidence", lambda candidate: candidate.standing / FULL),
}
LINK: Final[Fields] = {
    "rtt_ms": Variable(
        "measured round trip in milliseconds", lambda candidate: candidate.rtt_us / 1000 if candidate.rtt_us else None
    ),
    "relayed": Variable("whether it goes through a relay", lambda candidate: candidate.relayed),
}
PRICE: Final = Variable("credits for one allocation run to its wall limit", lambda candidate: candidate.price / CREDIT)
PRICE_PER_WORK: Final = Variable(
    "the same divided by offer.cpu_score",
    lambda candidate: candidate.price / CREDIT * CORE / max(1, candidate.offer.cpu_score),
)
REQUESTER: Final[Fields] = {
    "id": Variable("PeerID", lambda facts: facts.peer),
    "own": Variable("whether it has the same owner", lambda facts: facts.own),
    "completed": Variable("its allocations here that ran to an end", lambda facts: facts.completed),
    "failed": Variable("its allocations here that it left", lambda facts: facts.failed),
}

BID_VARIABLES: Final[Mapping[str, Fields | Variable]] = {
    "request": REQUEST,
    "offer": OFFER,
    "provider": PROVIDER,
    "link": LINK,
    "price": PRICE,
    "price_per_work": PRICE_PER_WORK,
}
"""For a requester's constraints and rank."""
REQUEST_VARIABLES: Final[Mapping[str, Fields | Variable]] = {"request": REQUEST, "requester": REQUESTER}
"""For a provider's constraints."""


def schema_of(variables: Mapping[str, Fields | Variable]) -> Schema:
    """The names alone, for the compiler."""
    return {
        name: frozenset() if isinstance(fields, Variable) else frozenset(fields) for name, fields in variables.items()
    }


BID_SCHEMA: Final = schema_of(BID_VARIABLES)
REQUEST_SCHEMA: Final = schema_of(REQUEST_VARIABLES)

Reader = Callable[[Any], dict[str, object]]


def reader(variables: Mapping[str, Fields | Variable], uses: Mapping[str, frozenset[str]]) -> Reader:
    """Prepares reading what expressions use from a subject, and nothing else: converting values is most of an evaluation's time.

    Args:
        variables: of which the subject has the values.
        uses: variables and fields, as `Expression.uses`; those not in `variables` are left out.
    """
    plain: list[tuple[str, Callable[[Any], object]]] = []
    nested: list[tuple[str, tuple[tuple[str, Callable[[Any], object]], ...]]] = []
    for name in sorted(uses.keys() & variables.keys()):
        fields = variables[name]
        if isinstance(fields, Variable):
            plain.append((name, fields.get))
        else:
            nested.append((name, tuple((field, fields[field].get) for field in sorted(uses[name]))))

    def read(subject: Any) -> dict[str, object]:
        values = {name: get(subject) for name, get in plain}
        for name, getters in nested:
            read_fields = ((field, get(subject)) for field, get in getters)
            values[name] = {field: value for field, value in read_fields if value is not None}
        return values

    return read


def merged_uses(*uses: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """What several expressions use together."""
    merged: dict[str, frozenset[str]] = {}
    for one in uses:
        for name, fields in one.items():
            merged[name] = merged.get(name, frozenset()) | fields
    return merged
