"""Proofs that real actors keep, from seeds: what either party of a job could export, checked as a third machine would."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from dms.audit.export import export
from dms.audit.faults import FaultCode
from dms.audit.report import Report
from dms.audit.verify import verify
from dms.store.chain import GENESIS, Content, Link, Row, link
from dms.testing.seeded_market import CALM, EVERYTHING, SeededMarket, SeededNode, Troubles
from dms_proto.allocation.events import AllocationOpened
from dms_proto.ids import RequestId
from dms_proto.market.proofs import FrameKept
from dms_proto.wire import Envelope, read_frame


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def links(node: SeededNode) -> Iterator[Link]:
    """A node's whole log, as a store chains it."""
    previous = GENESIS
    for event in node.machine.log.events:
        content: Content = (event.seq, event.stream, event.version, event.kind, event.at, event.cause_id, 1, event.body)
        row = Row(*content, link(previous, content))
        yield Link(previous, row)
        previous = row.hash


def exported(node: SeededNode, job: RequestId) -> bytes:
    """What the node could say of a job, without the market's stream."""
    chained = tuple(links(node))
    opened = (one.row for one in chained if one.row.kind == AllocationOpened.__name__)
    ours = {
        row.stream
        for row in opened
        if msgspec.msgpack.decode(row.body, type=AllocationOpened).reservation.request_id == job
    }
    return export(job, tuple(one for one in chained if one.row.stream in {job, *ours}), node.signer, 0)


def reports(seed: int, troubles: Troubles) -> Iterator[tuple[SeededNode, Report]]:
    """What every node could export of every job, checked."""
    market = SeededMarket(seed, troubles)
    market.run()
    for job in market.requests:
        for node in market.nodes:
            yield node, verify(exported(node, job))


@pytest.mark.parametrize("seed", range(12))
def test_without_trouble_both_parties_prove_the_same_agreements(seed: int) -> None:
    """The seeds hold jobs of one and more allocations, retried ones, and ones a node runs for itself."""
    found = [(node, report) for node, report in reports(seed, CALM)]

    assert [report.faults for _, report in found if not report.sound] == []
    told = Counter(agreed for _, report in found for agreed in report.agreements if agreed.is_acknowledged)
    assert set(told.values()) <= {2}, "each agreement is in the files of its two parties, alike"


def test_the_seeds_do_hold_agreements() -> None:
    assert any(report.agreements for seed in range(12) for _, report in reports(seed, CALM))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_goes_wrong_a_file_lacks_something_at_most(seed: int) -> None:
    """A node that dies between a bid and its commit has lost their frames; nothing else is ever wrong with what is there."""
    for _, report in reports(seed, EVERYTHING):
        assert {fault.code for fault in report.faults} <= {FaultCode.MISSING}


@pytest.mark.parametrize("seed", range(5))
def test_what_peers_repeat_is_kept_once(seed: int) -> None:
    """Frames come twice, statuses and invocations are repeated: of each agreement and allocation there is one frame of a kind."""
    market = SeededMarket(seed, Troubles(loss=0.2, doubling=0.7))
    market.run()
    for node in market.nodes:
        rows = (row for row in node.machine.log.events if row.kind == FrameKept.__name__)
        opened = (read_frame(msgspec.msgpack.decode(row.body, type=FrameKept).frame) for row in rows)
        envelopes = [one for one in opened if isinstance(one, Envelope)]
        about = Counter(
            (e.kind, getattr(e.message, "bid_id", ""), getattr(e.message, "allocation_id", ""))
            for e in envelopes
            if e.kind != "BidRequest"
        )
        assert set(about.values()) <= {1}
