"""The value of each term at the points its text names."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.capability import Capability, Gpu, Resources
from dms_proto.market.candidates import Candidate
from dms_proto.market.terms import SCALE, TERMS
from dms_proto.messages import DataMark
from dms_proto.units import CREDIT, GIB, MIB
from tests.unit.proto.market.market_strategies import a_bid, a_request

REQUEST = a_request(Capability(Resources(1000, 4 * GIB, 10 * GIB), relayed=True), max_price=4 * CREDIT)
GPU_JOB = a_request(Capability(Resources(1000, GIB, 0, (Gpu("", "nvidia", "", 10 * GIB),) * 2), relayed=True))
NVIDIA = Gpu("0", "nvidia", "A100", 40 * GIB)


@pytest.mark.parametrize(
    ("name", "bid", "value"),
    [
        ("price", a_bid("a", price=0), 1),
        ("price", a_bid("a", price=CREDIT), 1 / 2),
        ("price", a_bid("a", price=4 * CREDIT), 1 / 5),
        ("price", a_bid("a", price=2 * CREDIT, score=2000), 1 / 2),
        ("price", a_bid("a", price=CREDIT // 2, score=500), 1 / 2),
        ("speed", a_bid("a", score=0), 0),
        ("speed", a_bid("a", score=1000), 1 / 2),
        ("speed", a_bid("a", score=2000), 2 / 3),
        ("memory", a_bid("a", memory=4 * GIB), 1 / 2),
        ("memory", a_bid("a", memory=8 * GIB), 2 / 3),
        ("proximity", a_bid("a", rtt_us=1), 1),
        ("proximity", a_bid("a", rtt_us=10_000), 1),
        ("proximity", a_bid("a", rtt_us=20_000), 1 / 2),
        ("proximity", a_bid("a", rtt_us=20_000, relayed=True), 1 / 4),
        ("proximity", a_bid("a"), 1 / 20),
        ("reliability", a_bid("a"), 1 / 4),
        ("reliability", a_bid("a", standing=840_000), 0.84),
        ("chance", a_bid("a"), 0),
        ("chance", a_bid("a", chance=750_000), 3 / 4),
        ("evenness", a_bid("a"), 1),
        ("evenness", a_bid("a", successes=1), 1 / 2),
        ("evenness", a_bid("a", successes=2, failures=1), 1 / 4),
        ("own_machines", a_bid("a"), 0),
        ("own_machines", a_bid("a", own=True), 1),
        ("spare_gpu", a_bid("a"), 0),
        ("spare_gpu", a_bid("a", gpus=(NVIDIA,)), -1),
        ("fit", a_bid("a", cpu=1000, memory=4 * GIB, disk=10 * GIB), 1),
        ("fit", a_bid("a", cpu=2000, memory=8 * GIB, disk=20 * GIB), 1 / 2),
        ("fit", a_bid("a", cpu=1000, memory=4 * GIB, disk=10 * GIB, at_work=1), 1 / 2),
        ("fit", a_bid("a", cpu=1000, memory=8 * GIB, disk=40 * GIB), (1 + 1 / 2 + 1 / 4) / 3),
    ],
)
def test_a_term_has_the_value_its_text_names(name: str, bid: Candidate, value: float) -> None:
    assert abs(TERMS[name](REQUEST)(bid) - value * SCALE) <= 50


@pytest.mark.parametrize(
    ("held", "value"),
    [(600, 1), (900, 1), (300, 1 / 2), (0, 1 / 3)],
)
def test_data_is_worth_half_where_fetching_the_rest_takes_half_a_minute(held: int, value: float) -> None:
    request = msgspec.structs.replace(REQUEST, data=(DataMark(bytes(16), 400 * MIB), DataMark(bytes(16), 200 * MIB)))
    bid = msgspec.structs.replace(a_bid("a"), held=held * MIB)
    assert abs(TERMS["data"](request)(bid) - value * SCALE) <= 50


@pytest.mark.parametrize(
    ("gpus", "value"),
    [
        ((NVIDIA, NVIDIA), 80 / 100),
        ((NVIDIA, NVIDIA, NVIDIA), 80 / 100),
        ((NVIDIA, Gpu("1", "nvidia", "T4", 10 * GIB), Gpu("2", "nvidia", "V100", 20 * GIB)), 60 / 80),
        ((NVIDIA, Gpu("1", "amd", "MI300", 192 * GIB)), 40 / 60),
    ],
)
def test_a_gpu_job_counts_the_largest_devices_that_would_serve_it(gpus: tuple[Gpu, ...], value: float) -> None:
    assert abs(TERMS["memory"](GPU_JOB)(a_bid("a", gpus=gpus)) - value * SCALE) <= 1


def test_the_share_of_gpus_counts_in_how_a_gpu_job_fits() -> None:
    job = a_request(Capability(Resources(gpus=(Gpu(milli=500),)), relayed=True))
    assert TERMS["fit"](job)(a_bid("a", gpus=(NVIDIA,))) == SCALE // 2
    assert TERMS["spare_gpu"](job)(a_bid("a", gpus=(NVIDIA,))) == 0


def test_a_job_that_asks_for_no_amount_fits_everywhere_alike() -> None:
    assert TERMS["fit"](a_request(Capability(relayed=True)))(a_bid("a")) == 0


def test_when_nothing_is_paid_only_nothing_is_asked() -> None:
    assert TERMS["price"](a_request(max_price=0))(a_bid("a", price=0)) == SCALE
