"""Ways out of a job between whole nodes on an in-memory network: who bids for it, and what of it is in the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dms.node.api import LocalApi
from dms.rpc.api.jobs import JobParams
from dms.testing.market import CAPABILITY, Market, submit, until_over
from dms_actors.events import from_row
from dms_proto.allocation.events import EgressBarred
from dms_proto.egress import NO_EGRESS, Barred, Egress
from dms_proto.market.auction_terms import Terms
from dms_proto.units import MIB
from dms_proto.work import EndReason

from .test_tunnels import only_asks

ALLOWED = Egress(("pypi.org:443", "*.pythonhosted.org:443"), MIB)


def allowing(egress: Egress) -> Any:
    """Options: the first node takes no work, the second lets jobs out so far."""
    capability = msgspec.structs.replace(CAPABILITY, egress=egress)
    return lambda index: only_asks(index) or {"capability": capability}


def terms(market: Market, *command: str, egress: Egress) -> Terms:
    plain = market.terms(*command)
    task, needs = (msgspec.structs.replace(each, egress=egress) for each in (plain.task, plain.needs))
    return msgspec.structs.replace(plain, task=task, needs=needs)


async def declined(tmp_path: Path, allowed: Egress, asked: Egress) -> tuple[dict[str, str], str]:
    """Why the provider did not bid, by dimension, and what would help."""
    async with Market(tmp_path, 2, build=allowing(allowed)) as market:
        api = await LocalApi.start(market.nodes[0].services)
        wanted = terms(market, "exit", "0", egress=asked)
        await submit(market.nodes[0].services, wanted)
        ended = await until_over(market.nodes[0].services, wanted.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.IMPOSSIBLE
        explained = await api.job_explain(JobParams(wanted.request_id))
        verdict = next(each for each in explained.verdicts if "egress" in str(each.clauses))
        suggestion = str(explained.suggestions[0]) if explained.suggestions else ""
        return {clause.dimension: clause.observed for clause in verdict.clauses}, suggestion


async def test_who_does_not_allow_a_destination_does_not_bid_and_says_which(tmp_path: Path) -> None:
    found, suggestion = await declined(tmp_path, ALLOWED, Egress(("pypi.org:443", "example.org:443"), MIB))
    assert found == {"egress:example.org:443": "its owner does not allow it"}
    assert "egress example.org:443" in suggestion


async def test_who_lets_nobody_out_says_so(tmp_path: Path) -> None:
    found, _ = await declined(tmp_path, NO_EGRESS, Egress(("pypi.org:443",), MIB))
    assert found == {"egress:pypi.org:443": "its owner lets no job connect anywhere"}


async def test_who_lets_less_flow_says_how_much(tmp_path: Path) -> None:
    found, suggestion = await declined(tmp_path, ALLOWED, Egress(("pypi.org:443",), 2 * MIB))
    assert found == {"egress_bytes": "at most 1 MiB"}
    assert "egress bytes" in suggestion


async def test_who_allows_it_runs_it_and_has_in_its_record_what_was_refused(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=allowing(ALLOWED)) as market:
        wanted = terms(
            market, "connect", "a.example:1", "connect", "a.example:1", egress=Egress(("x.pythonhosted.org:443",), MIB)
        )
        await submit(market.nodes[0].services, wanted)
        ended = await until_over(market.nodes[0].services, wanted.request_id)
        assert ended.ending is not None
        assert ended.ending.reason is EndReason.COMPLETED
        rows = await market.nodes[1].services.store.read_stream(ended.slots[0].allocation_id)
        told = [event.barred for event in map(from_row, rows) if isinstance(event, EgressBarred)]
        assert told == [Barred("a.example:1", "a script has no way out")]
