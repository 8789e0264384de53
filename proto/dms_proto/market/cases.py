"""Comparator cases: job, machine and what must come out, read from data. The rules of the data are in tests/fixtures/comparator/README.md.

`read_cases` is the one function that reads them, and `differences` the one that checks a comparator against them: `compare`, and any plug-in that
claims to judge as dms does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Price, Resources
from dms_proto.market.verdicts import Comparison, Verdict
from dms_proto.units import parse_bytes, parse_credits, parse_millicores, parse_millis

BASE: Final[Mapping[str, Any]] = {
    "cpu": 2,
    "memory": "4GiB",
    "disk": "10GiB",
    "architecture": "x86_64",
    "cpu_score": 1,
    "wall": "1h",
}
"""What job and machine are like where a case says nothing else."""


class Expected(msgspec.Struct, frozen=True):
    """What must come out in one dimension."""

    verdict: Verdict
    wanted: str = ""
    observed: str = ""
    nearest: str = ""
    passing: bool = False


class Case(msgspec.Struct, frozen=True):
    """One machine held against one job.

    Attributes:
        expected: every dimension that is not EQUAL.
    """

    name: str
    required: Capability
    offered: Capability
    total: Resources | None
    max_price: int | None
    over_all: Verdict
    expected: dict[str, Expected]


def read_cases(document: Iterable[Mapping[str, Any]]) -> tuple[Case, ...]:
    """The cases in a decoded file.

    Raises:
        ValueError: an unknown key or a value that cannot be read, with the case's name.
    """
    return tuple(_read_case(entry) for entry in document)


def differences(case: Case, compare: Callable[..., Comparison]) -> list[str]:
    """What `compare` says otherwise than the case, in words; empty if nothing."""
    comparison = compare(case.required, case.offered, total=case.total, max_price=case.max_price)
    found = {
        d.dimension: Expected(d.verdict)
        if d.clause is None
        else Expected(d.verdict, d.clause.wanted, d.clause.observed, d.clause.nearest, d.clause.passing)
        for d in comparison.dimensions
        if d.verdict is not Verdict.EQUAL
    }
    wrong = [
        f"{name}: expected {case.expected.get(name)}, found {found.get(name)}"
        for name in sorted(case.expected.keys() | found.keys())
        if case.expected.get(name) != found.get(name)
    ]
    if comparison.verdict is not case.over_all:
        wrong.append(f"over all: expected {case.over_all}, found {comparison.verdict}")
    return wrong


def _read_case(entry: Mapping[str, Any]) -> Case:
    try:
        job = dict(entry["job"])
        max_price = job.pop("max_price", None)
        expected = {
            name: Expected(Verdict(what)) if isinstance(what, str) else msgspec.convert(what, Expected)
            for name, what in entry.get("expect", {}).items()
        }
        return Case(
            name=entry["name"],
            required=_capability(job),
            offered=_capability(entry["machine"]),
            total=_resources({**BASE, **entry["machine"], **entry["registered"]}) if "registered" in entry else None,
            max_price=None if max_price is None else parse_credits(_plain(max_price)),
            over_all=Verdict(entry["over_all"]),
            expected=expected,
        )
    except (KeyError, ValueError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"case {entry.get('name')!r}: {error!r}") from error


def _resources(values: Mapping[str, Any]) -> Resources:
    return Resources(
        cpu_millicores=parse_millicores(values["cpu"]),
        memory_bytes=parse_bytes(values["memory"]),
        disk_bytes=parse_bytes(values["disk"]),
        gpus=tuple(_gpu(**gpu) for gpu in values.get("gpus", ())),
    )


def _gpu(device: str = "", vendor: str = "", model: str = "", memory: str | int = 0, share: float = 1) -> Gpu:
    return Gpu(device, vendor, model, parse_bytes(memory), parse_millicores(share))


def _capability(changes: Mapping[str, Any]) -> Capability:
    values = {**BASE, **changes}
    unknown = values.keys() - _KEYS
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    price = values.get("price", {})
    return Capability(
        resources=_resources(values),
        architecture=values["architecture"],
        cpu_score=parse_millicores(values["cpu_score"]),
        executors=tuple(_executor(**executor) for executor in values.get("executors", ())),
        libraries=tuple(values.get("libraries", ())),
        labels=dict(values.get("labels", {})),
        country=values.get("country", ""),
        relayed=values.get("relayed", False),
        job_classes=tuple(JobClass(name) for name in values.get("job_class", ())),
        max_wall_ms=parse_millis(values["wall"]),
        price=Price(**{_TARIFF[key]: parse_credits(_plain(amount)) for key, amount in price.items()}),
    )


def _executor(name: str, version: str = "", isolation: str = "none", limits: Iterable[str] = ()) -> ExecutorOffer:
    return ExecutorOffer(name, version, Isolation(isolation), tuple(limits))


def _plain(amount: float) -> str:
    """A number without exponent: 1e-06 is 0.000001."""
    return f"{amount:.6f}"


_KEYS: Final = BASE.keys() | {
    "gpus",
    "executors",
    "libraries",
    "labels",
    "country",
    "relayed",
    "job_class",
    "price",
}
_TARIFF: Final = {
    "start": "start",
    "cpu": "cpu_core_hour",
    "memory": "memory_gib_hour",
    "disk": "disk_gib_hour",
    "gpu": "gpu_hour",
}
