"""Random capabilities, requests and bids for the property tests, biased towards values next to each other."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import strategies as st

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Price, Resources
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.ids import BidId, PeerId
from dms_proto.ids import request_id as spelled
from dms_proto.market.candidates import Candidate
from dms_proto.market.preferences import Preferences
from dms_proto.market.terms import TERMS
from dms_proto.messages import BidRequest
from dms_proto.reputation import FULL
from dms_proto.units import CREDIT, GIB, HOUR, MIB, MINUTE

cores = st.sampled_from([0, 1, 500, 999, 1000, 1001, 2000, 4000, 64_000])
sizes = st.sampled_from([0, 1, 65 * MIB, GIB - 1, GIB, GIB + 1, 3 * GIB + 12_345, 4 * GIB, 16 * GIB, 512 * GIB])
shares = st.sampled_from([1, 250, 333, 499, 500, 501, 999, 1000])
vendors = st.sampled_from(["", "nvidia", "amd"])
models = st.sampled_from(["", "A100", "A100 80GB", "MI300"])


def gpu_needs(most: int = 3) -> st.SearchStrategy[tuple[Gpu, ...]]:
    need = st.builds(Gpu, st.just(""), vendors, models, sizes, shares)
    return st.lists(need, max_size=most).map(tuple)


def gpu_devices(most: int = 4) -> st.SearchStrategy[tuple[Gpu, ...]]:
    device = st.builds(Gpu, st.just(""), vendors, models, sizes, shares)
    return st.lists(device, max_size=most).map(
        lambda gpus: tuple(msgspec.structs.replace(gpu, device=str(i)) for i, gpu in enumerate(gpus))
    )


executors = st.builds(
    ExecutorOffer,
    st.sampled_from(["sandbox", "wasm"]),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(Isolation),
    st.lists(st.sampled_from(["cpu", "memory", "wall"]), unique=True).map(tuple),
)
prices = st.builds(Price, *[st.integers(0, CREDIT)] * 5)
tariffs = prices


def unique_executors() -> st.SearchStrategy[tuple[ExecutorOffer, ...]]:
    return st.lists(executors, max_size=2, unique_by=lambda executor: executor.name).map(tuple)


def capabilities(gpus: st.SearchStrategy[tuple[Gpu, ...]]) -> st.SearchStrategy[Capability]:
    return st.builds(
        Capability,
        resources=st.builds(Resources, cores, sizes, sizes, gpus),
        architecture=st.sampled_from(["", "x86_64", "aarch64"]),
        cpu_score=st.sampled_from([0, 999, 1000, 1001, 2000]),
        executors=unique_executors(),
        libraries=st.lists(st.sampled_from(["a", "a==1", "a==2", "b"]), max_size=2, unique_by=lambda x: x[0]).map(
            tuple
        ),
        labels=st.dictionaries(st.sampled_from(["zone", "rack"]), st.sampled_from(["1", "2"])),
        country=st.sampled_from(["", "DE", "FR"]),
        relayed=st.booleans(),
        job_classes=st.sampled_from([(), (JobClass.BATCH,), (JobClass.SERVICE,)]),
        egress=st.sampled_from(
            [NO_EGRESS, Egress(("x.b:1",), 1), Egress(("*.b:1", "c:2"), 2), Egress(("*:1",), 3), Egress(("c:2",), 3)]
        ),
        max_wall_ms=st.sampled_from([0, 1, MINUTE, HOUR, HOUR + 1]),
        price=prices,
    )


needs = capabilities(gpu_needs())
offers = capabilities(gpu_devices())

EASY = Capability(Resources(1000, GIB, GIB), relayed=True, max_wall_ms=HOUR)
"""Needs that the bids below always meet."""


def a_request(
    capability: Capability = EASY, *, max_price: int = 10 * CREDIT, request_id: str = "r-1", count: int = 1
) -> BidRequest:
    return BidRequest(
        request_id=spelled(hashlib.sha256(request_id.encode()).digest()),
        round=0,
        needs=capability,
        count=count,
        bids_wanted=3,
        reach=2**32,
        max_price=max_price,
        wait_ms=250,
    )


def a_bid(
    name: str,
    *,
    price: int = CREDIT // 10,
    score: int = 1000,
    cpu: int = 8000,
    memory: int = 16 * GIB,
    disk: int = 100 * GIB,
    gpus: tuple[Gpu, ...] = (),
    **facts: object,
) -> Candidate:
    offer = Capability(Resources(cpu, memory, disk, gpus), architecture="x86_64", cpu_score=score)
    return Candidate(
        bid_id=BidId(f"b-{name}"),
        provider=PeerId(f"12D3KooW{name}"),
        offer=offer,
        tariff=Price(start=price),
        price=price,
        **facts,  # type: ignore[arg-type]
    )


def bids(most: int = 8, *, least: int = 0) -> st.SearchStrategy[list[Candidate]]:
    """Bids that all meet `EASY`, with different ids and, now and then, equal in everything else."""
    one = st.builds(
        a_bid,
        st.just(""),
        price=st.sampled_from([0, 1, CREDIT // 100, CREDIT // 10, CREDIT // 10 + 1, CREDIT, 9 * CREDIT]),
        score=st.sampled_from([0, 1, 500, 1000, 1001, 2000, 4000]),
        cpu=st.sampled_from([1000, 1001, 4000, 64_000]),
        memory=st.sampled_from([GIB, GIB + 1, 16 * GIB, 512 * GIB]),
        gpus=st.sampled_from([(), (Gpu("0", "nvidia", "A100", 40 * GIB),)]),
        rtt_us=st.sampled_from([0, 1, 5_000, 20_000, 150_000]),
        relayed=st.booleans(),
        own=st.booleans(),
        successes=st.integers(0, 20),
        failures=st.integers(0, 5),
        standing=st.integers(0, FULL),
        at_work=st.integers(0, 3),
        chance=st.integers(0, FULL),
    )
    return st.lists(one, min_size=least, max_size=most).map(
        lambda many: [
            msgspec.structs.replace(bid, bid_id=BidId(f"b-{i}"), provider=PeerId(f"12D3KooW{i}"))
            for i, bid in enumerate(many)
        ]
    )


def weightings(names: tuple[str, ...] = tuple(TERMS)) -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(names), st.sampled_from([0.5, 1.0, 10.0, 40.0, 100.0, 333.3]), max_size=6)


def preferences(names: tuple[str, ...] = tuple(TERMS)) -> st.SearchStrategy[Preferences]:
    rank = st.sampled_from(["", "offer.cpu >= 8.0 ? 1.0 : 0.25", "price < 0.5 ? 1.0 : 0.0", "link.rtt_ms / 10.0"])
    return st.builds(Preferences, weights=weightings(names), rank=rank, spread_percent=st.sampled_from([0, 3, 20]))


@st.composite
def variants(draw: st.DrawFn, capability: Capability, most: int = 3) -> Capability:
    """A machine that is exactly what `capability` asks, but for up to `most` fields: random pairs differ in nearly everything."""
    other = draw(offers)
    gpus = tuple(msgspec.structs.replace(gpu, device=str(i)) for i, gpu in enumerate(capability.resources.gpus))
    resources = msgspec.structs.replace(capability.resources, gpus=gpus)
    amounts = ("cpu_millicores", "memory_bytes", "disk_bytes", "gpus")
    kinds = tuple(field for field in capability.__struct_fields__ if field != "resources")
    changed = draw(st.lists(st.sampled_from(amounts + kinds), max_size=most, unique=True))
    resources = msgspec.structs.replace(
        resources, **{field: getattr(other.resources, field) for field in changed if field in amounts}
    )
    return msgspec.structs.replace(
        capability, resources=resources, **{field: getattr(other, field) for field in changed if field in kinds}
    )


pairs = needs.flatmap(lambda required: st.tuples(st.just(required), st.one_of(variants(required), offers)))
"""A requirement and a machine, most often nearly the same."""


@st.composite
def near_devices(draw: st.DrawFn) -> tuple[tuple[Gpu, ...], tuple[Gpu, ...]]:
    """GPU needs, and devices that serve them but for one that is gone or otherwise than asked."""
    asked = draw(gpu_needs().filter(bool))
    devices = [msgspec.structs.replace(gpu, device=str(i)) for i, gpu in enumerate(asked)]
    at = draw(st.integers(0, len(devices) - 1))
    field = draw(st.sampled_from(["gone", "vendor", "model", "memory_bytes", "milli"]))
    if field == "gone":
        del devices[at]
    else:
        other = draw(st.builds(Gpu, st.just(""), vendors, models, sizes, shares))
        devices[at] = msgspec.structs.replace(devices[at], **{field: getattr(other, field)})
    return asked, tuple(devices)
