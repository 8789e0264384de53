"""What choosing costs: ranking ten thousand bids, comparing pairs, explaining a request to a thousand nodes.

    python bench/ranking.py [--json] [--bids N]

Each figure is the CPU time of this process, one thread, best of seven repetitions, with the garbage collector on, for bids that all fit and differ
in everything that is weighed; expressions are compiled within the measured time. The floor, in the same run: the same bids as tuples of
numbers, an inlined fitting rule, one weighted sum in floating point and a sort, which explains nothing and cannot be replayed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, Price, Resources
from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparison import compare, fit_test
from dms_proto.market.explain import NodeVerdict, Outcome, explain
from dms_proto.market.preferences import Preferences, balanced
from dms_proto.market.ranking import decide, rank, replay
from dms_proto.messages import BidRequest
from dms_proto.units import CREDIT, GIB, HOUR

REPETITIONS = 7
CEL = Preferences(
    constraints=("price < 0.9 && provider.failures < 3", "!has(offer.labels.retired)"),
    rank="link.rtt_ms < 50.0 && offer.memory_gib >= 8.0 ? 1.0 : offer.cpu / 64.0",
)
EXECUTORS = (ExecutorOffer("sandbox", "0.11", Isolation.NAMESPACES, ("cpu", "memory", "processes", "wall")),)
REQUEST = BidRequest(
    request_id=RequestId("r-" + "a" * 26),
    round=0,
    needs=Capability(Resources(2_000, 2 * GIB, GIB), architecture="x86_64", executors=EXECUTORS, max_wall_ms=HOUR),
    count=1,
    bids_wanted=3,
    reach=2**32,
    max_price=CREDIT,
    wait_ms=250,
)


class Figure(NamedTuple):
    """One measured figure; `bar` 0 where there is none."""

    name: str
    value: float
    unit: str
    bar: float = 0

    @property
    def passes(self) -> bool:
        """Whether it is below its bar."""
        return not self.bar or self.value < self.bar


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures choosing.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bids", type=int, default=10_000)
    options = parser.parse_args()
    figures = measure(options.bids)
    if options.json:
        print(json.dumps([{**figure._asdict(), "passes": figure.passes} for figure in figures], indent=2))
    else:
        for figure in figures:
            bar = f"bar {figure.bar:g}: {'passes' if figure.passes else 'FAILS'}" if figure.bar else ""
            print(f"{figure.name:52}{figure.value:>10.2f} {figure.unit:8}{bar}")
    return 0 if all(figure.passes for figure in figures) else 1


def measure(count: int) -> list[Figure]:
    bids = make_bids(count)
    equal = [Candidate(bid.bid_id, bid.provider, bids[0].offer, bids[0].tariff, bids[0].price) for bid in bids]
    rows, offers = as_rows(bids), [bid.offer for bid in bids]
    decision, fits = decide(REQUEST, bids[:256], balanced()), fit_test(REQUEST.needs)
    verdicts = [verdict(bid) for bid in make_bids(1_000, short=True)]
    scale = count / 10_000
    floor = milliseconds(lambda: rank_rows(rows))
    weighted = milliseconds(lambda: rank(REQUEST, bids, balanced()))
    in_cel = milliseconds(lambda: rank(REQUEST, bids, CEL))
    alike = milliseconds(lambda: rank(REQUEST, equal, balanced()))
    tested = milliseconds(lambda: list(map(fits, offers)))
    compared = milliseconds(lambda: [compare(REQUEST.needs, offer, max_price=CREDIT) for offer in offers[:1_000]])
    return [
        Figure(f"floor: {count:,} rows, fitted, summed and sorted", floor, "ms"),
        Figure(f"rank {count:,} bids by weights", weighted, "ms", 50 * scale),
        Figure("  as a multiple of the floor", weighted / floor, "x"),
        Figure(f"rank {count:,} bids, two constraints and a rank in CEL", in_cel, "ms", 500 * scale),
        Figure(f"rank {count:,} equal bids by weights", alike, "ms"),
        Figure("replay a decision about 256 bids", milliseconds(lambda: replay(decision)), "ms"),
        Figure("does it fit, per machine", 1_000 * tested / count, "us"),
        Figure("compare with reasons, per machine", 1_000 * compared / min(count, 1_000), "us"),
        Figure("explain a request to 1,000 nodes", milliseconds(lambda: explain(REQUEST, verdicts)), "ms", 200),
    ]


def make_bids(count: int, *, short: bool = False) -> list[Candidate]:
    """Bids that fit and differ; `short`: of machines of which many have too little memory."""
    draw = random.Random(7)
    bids = []
    for i in range(count):
        memory = draw.randrange(1 if short else 2, 64) * GIB // (8 if short else 1)
        gpus = (Gpu("0", "nvidia", "A100", 40 * GIB),) if i % 7 == 0 else ()
        offer = Capability(
            Resources(draw.choice((4_000, 8_000, 64_000)), memory, draw.randrange(10, 500) * GIB, gpus),
            architecture="x86_64",
            cpu_score=draw.randrange(500, 2_500),
            executors=EXECUTORS,
        )
        tariff = Price(start=draw.randrange(1_000), cpu_core_hour=draw.randrange(1_000, 400_000))
        price = tariff.cost(REQUEST.needs.resources, HOUR)
        facts = draw.randrange(200_000), draw.random() < 0.1, False, draw.randrange(30), draw.randrange(4)
        bids.append(Candidate(BidId(f"b-{i:026}"), PeerId(f"12D3KooW{i:044}"), offer, tariff, price, 1, *facts))
    return bids


def verdict(bid: Candidate) -> NodeVerdict:
    clauses = compare(REQUEST.needs, bid.offer).clauses
    return NodeVerdict(bid.provider, Outcome.DECLINED if clauses else Outcome.BID, clauses)


Row = tuple[int, int, int, int, int, int, str]


def as_rows(bids: list[Candidate]) -> list[Row]:
    return [
        (
            b.offer.resources.cpu_millicores,
            b.offer.resources.memory_bytes,
            b.offer.resources.disk_bytes,
            b.price,
            b.offer.cpu_score,
            b.rtt_us,
            b.bid_id,
        )
        for b in bids
    ]


def rank_rows(rows: list[Row]) -> list[tuple[float, str]]:
    cpu, memory, disk = 2_000, 2 * GIB, GIB
    scored = [
        (0.6 * price / score - 0.3 * score / (score + 1_000) - 0.1 / (1 + rtt), name)
        for has_cpu, has_memory, has_disk, price, score, rtt, name in rows
        if has_cpu >= cpu and has_memory >= memory and has_disk >= disk and price <= CREDIT
    ]
    scored.sort()
    return scored


def milliseconds(action: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPETITIONS):
        started = time.process_time()
        action()
        best = min(best, time.process_time() - started)
    return best * 1_000


if __name__ == "__main__":
    sys.exit(main())
