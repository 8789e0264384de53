"""A second price between real nodes: paid, booked, explained, and proven to a third machine."""

from __future__ import annotations

import pytest

from dms.audit.verify import verify
from dms.cli.text import plain
from dms.cli.views.explain import decision as decision_words
from dms.cli.views.explain import explanation as explanation_words
from dms.node.api import LocalApi
from dms.rpc.api.audit import AuditExportParams
from dms.rpc.api.events import TraceParams
from dms.rpc.api.jobs import DecisionParams, JobParams
from dms.rpc.api.market import AskParams
from dms.testing.market import until
from dms_proto.capability import Price
from dms_proto.errors import UserError
from dms_proto.ids import short
from dms_proto.market.offer_state import PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Pricing

from .conftest import Local, spec

SECOND = {"pricing": Pricing.SECOND_PRICE, "bids_wanted": 2}
LOW, HIGH = 1_000, 3_000


async def priced(local: Local) -> tuple[LocalApi, LocalApi]:
    """Has the second and third node work, for fees that differ; gives the cheap one and the dear one."""
    await local.api.node_pause()
    for api, fee in zip(local.apis[1:], (LOW, HIGH), strict=True):
        await api._wish(PolicyWished(ProviderPolicy(tariff=Price(start=fee))), "test")
    return local.apis[1], local.apis[2]


async def test_a_second_price_is_paid_booked_explained_and_proven(local: Local) -> None:
    cheap, dear = await priced(local)
    view = await local.run(spec("print", "hello\n", **SECOND))
    job, asked = view.summary.job_id, local.api

    (attempt,) = view.slots[0].attempts
    assert attempt.provider == cheap._me
    assert attempt.price in (HIGH - 1, HIGH)  # equal prices are decided by hash
    chosen = await asked.job_decision(DecisionParams(job))
    assert chosen.award is not None
    assert chosen.award.rival is not None
    assert (chosen.award.price, chosen.award.rival.provider) == (attempt.price, dear._me)

    earned = await until(cheap.account_show, lambda book: any(a.earned for a in book.accounts))
    assert [(a.peer, a.earned) for a in earned.accounts if a.earned] == [(asked._me, attempt.price)]

    files = [await api.audit_export(AuditExportParams(job)) for api in (asked, cheap)]
    mine, theirs = (verify(file.text.encode()) for file in files)
    assert (mine.faults, theirs.faults) == ((), ())
    assert mine.agreements == theirs.agreements
    (agreed,) = mine.agreements
    assert agreed.price == agreed.runs[0].claimed == agreed.runs[0].confirmed == attempt.price
    why = f"at more it would have lost to {short(dear._me)}"
    assert why in agreed.because

    assert why in "\n".join(plain(decision_words(chosen, {})))
    assert why in "\n".join(plain(explanation_words("why", await asked.job_explain(JobParams(job)), {})))
    assert any(why in step.text for step in (await asked.events_trace(TraceParams(job))).steps)
    assert "BidOpened" in [step.kind for step in (await cheap.events_trace(TraceParams(job))).steps]


async def test_who_stays_out_of_second_prices_says_so(local: Local) -> None:
    await local.apis[1]._wish(PolicyWished(ProviderPolicy(second_price=False)), "test")
    found = await local.api.market_ask(AskParams(spec("print", "x", **SECOND)))

    verdict = next(verdict for verdict in found.verdicts if verdict.peer == local.apis[1]._me)
    assert [(clause.dimension, clause.nearest) for clause in verdict.clauses] == [("pricing", "first-price")]


async def test_a_dry_run_says_what_would_be_paid(local: Local) -> None:
    await priced(local)
    found = await local.api.market_ask(AskParams(spec("print", "x", **SECOND)))

    assert sum("would be paid" in verdict.detail for verdict in found.verdicts) == 1


async def test_what_does_not_go_with_a_second_price_is_refused_with_the_way_out(local: Local) -> None:
    with pytest.raises(UserError, match="for one allocation, and count is 2"):
        await local.submit(spec("print", "x", count=2, **SECOND))
    with pytest.raises(UserError, match="looks at the price"):
        await local.submit(spec("print", "x", constraints=("price < 1.0",), **SECOND))
