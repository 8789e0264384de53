"""Whole nodes on an in-memory network: a request finds a node, runs there, and comes back."""

from __future__ import annotations

from pathlib import Path

from dms.testing.market import Market, submit, until, until_over
from dms_proto.work import EndReason


async def test_a_request_is_bid_on_committed_run_and_ended(tmp_path: Path) -> None:
    async with Market(tmp_path, 3) as market:
        requester = market.nodes[0].services
        terms = market.terms("print", "hello", "exit", "0")
        await submit(requester, terms)
        ended = await until_over(requester, terms.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED, ended.ending
        allocation = ended.slots[0].allocation_id
        assert requester.collector.logs.read(allocation, "stdout", 0, 100) == b"hello"
        for node in market.nodes:
            await until(node.state, lambda state: not state.book.ledger.locks and not state.book.ledger.reservations)
