"""Calls that are paid, among whole nodes: agreed on with the first, billed, signed, booked on both sides, and there again after a crash of either."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dms.audit.verify import verify
from dms.config.settings import Pool as PoolSettings
from dms.config.settings import Provider
from dms.jobs.spec import JobSpec
from dms.rpc.api.accounts import LimitParams, StatementParams
from dms.rpc.api.audit import AuditExportParams
from dms.rpc.api.grants import CreateGrantParams, GrantParams
from dms.rpc.api.services import CallParams, InstallParams, RouteParams, ServiceParams
from dms.rpc.api.tabs import TabView
from dms.testing.market import CONFIG, DEADLINE, Market, peer_of, until
from dms_proto.capability import Capability, Resources
from dms_proto.errors import DmsError
from dms_proto.grants.rights import Rights
from dms_proto.units import CORE, CREDIT, MIB, SECOND
from dms_proto.work import Limits, Task
from tests.component.node.test_services import Owners

ECHO = ServiceParams("command", "echo")
SIZE = Resources(CORE, 64 * MIB, 16 * MIB)
POOL = PoolSettings(cpu=2 * CORE, memory=512 * MIB, disk=256 * MIB, longest_call_ms=10 * SECOND)
AN_HOUR = 3_600 * CREDIT
A_CREDIT_A_SECOND = Provider(price_cpu_core=AN_HOUR, price_memory_gib=0, price_disk_gib=0)
LONGEST = 10 * CREDIT
"""What one call may cost."""


class Payers(Owners):
    """The first node calls what the second one offers, for a credit a second."""

    async def crash(self, index: int) -> None:
        """As of any owner; then it is as before."""
        await super().crash(index)
        await self.is_told()

    async def is_told(self) -> None:
        """The first node has heard what the second one offers."""
        there = peer_of(self.market.nodes[1])

        def is_told(state: object) -> bool:
            peer = state.membership.peers.get(there)  # type: ignore[attr-defined]
            return (
                peer is not None and peer.hello is not None and "service:command/echo" in peer.hello.summary.libraries
            )

        await until(self.market.nodes[0].state, is_told)

    @asynccontextmanager
    async def calling(
        self, max_price: int = 10 * LONGEST
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A call, for as long as the block."""
        async with asyncio.timeout(DEADLINE):
            handover = await self.apis[0].service_call(CallParams("command", "echo", "", max_price, AN_HOUR))
        given, kept = socket.socketpair()
        handover.take(given)
        reader, writer = await asyncio.open_unix_connection(sock=kept)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def call(self, max_price: int = 10 * LONGEST) -> None:
        """A whole call, which takes longer than a clock's tick on both sides."""
        before = sum(tab.calls for tab in await self.tabs(1))
        async with self.calling(max_price) as (reader, writer), asyncio.timeout(DEADLINE):
            writer.write(b"hello")
            await reader.readexactly(5)
            await until(
                self.apis[1].pool_list,
                lambda view: view.calls[0].delivered_at < self.market.nodes[1].services.clock() - 5,
            )
            writer.write_eof()
            await reader.read()
        await until(lambda: self.tabs(1), lambda tabs: sum(tab.calls for tab in tabs) == before + 1)

    async def tabs(self, index: int) -> tuple[TabView, ...]:
        return (await self.apis[index].account_tabs()).tabs

    async def settled(self) -> tuple[int, int]:
        """The service is stopped, so the tab is over; what the first owes, and what the second is owed, once it is signed."""
        await self.apis[1].service_stop(ECHO)
        await until(lambda: self.tabs(1), lambda tabs: not tabs)
        views = [(await api.account_show()).accounts[0] for api in self.apis]
        assert [view.claimed + view.disputed + view.refused for view in views] == [0, 0]
        for api in self.apis:
            report = await api.account_verify()
            assert report.is_right, report
        return -views[0].owed, views[1].owed


@pytest.fixture
async def payers(tmp_path: Path) -> AsyncIterator[Payers]:
    config = msgspec.structs.replace(CONFIG, pool=POOL, provider=A_CREDIT_A_SECOND)
    async with Market(tmp_path, 2, build=lambda _index: {"config": config}) as market:
        payers = Payers(market)
        try:
            for index in range(2):
                payers.apis.append(await payers.begin(index))
            task = Task("scripted", ("wait",), resources=SIZE, ports=(8080,), limits=Limits())
            await payers.apis[1].service_install(InstallParams("command", "echo", JobSpec(task, Capability())))
            await payers.apis[1].service_start(ECHO)
            me = peer_of(market.nodes[0])
            made = await payers.apis[1].grants_create(
                CreateGrantParams(Rights(one_of={"peer": (me,), "kind": ("call",)}))
            )
            await payers.apis[0].grants_keep(GrantParams(made.text))
            await payers.is_told()
            yield payers
        finally:
            for api in payers.apis:
                await api.close()


async def test_calls_are_agreed_on_once_and_what_they_come_to_is_in_both_books(payers: Payers) -> None:
    for _ in range(2):
        await payers.call()
    (ours,), (theirs,) = await payers.tabs(0), await payers.tabs(1)
    assert (ours.tab_id, ours.ours, theirs.ours) == (theirs.tab_id, True, False)
    assert theirs.calls == 2
    explained = await payers.apis[0].service_explain(RouteParams())
    assert explained.tab is not None
    assert (explained.tab.tab_id, explained.tab.max_price) == (ours.tab_id, 10 * LONGEST)
    owed, due = await payers.settled()
    assert owed == due == theirs.ran_ms * CREDIT // SECOND > 0
    (ours,) = await payers.tabs(0)
    assert (ours.signed, bool(ours.why_over)) == (owed, True)
    entries = (await payers.apis[0].account_statement(StatementParams())).entries
    assert [entry.about for entry in entries] == [f"{ours.tab_id}.1"]


async def test_no_call_goes_past_the_most_that_was_agreed(payers: Payers) -> None:
    with pytest.raises(DmsError, match="one call may cost 10 credits and 9 credits is the most offered") as refused:
        await payers.call(9 * CREDIT)
    assert "--max-price" in refused.value.hint
    async with payers.calling(LONGEST):
        with pytest.raises(DmsError, match="its tab has come to 0 credits of at most 10 credits"):
            await payers.call(LONGEST)
    await payers.call(4 * LONGEST)
    (before, after) = await payers.tabs(0)
    assert (bool(before.why_over), after.why_over) == (True, "")
    assert before.signed + after.max_price <= 4 * LONGEST
    owed, due = await payers.settled()
    assert owed == due


async def test_what_calls_cost_is_known_before_and_nothing_dearer_is_agreed(payers: Payers) -> None:
    there = peer_of(payers.market.nodes[1])
    for asked in (CallParams("command", "echo", "", LONGEST), CallParams("command", "echo", "", LONGEST, AN_HOUR)):
        (price,) = (await payers.apis[0].service_price(asked)).prices
        assert (price.peer, price.rate, price.longest) == (there, AN_HOUR, LONGEST)
        assert ("1 credit is the most that is accepted" in price.why_not) is (asked.max_rate is None)
        assert not await payers.tabs(0)
    (too_little,) = (await payers.apis[0].service_price(CallParams("command", "echo", "", 1))).prices
    assert (too_little.terms, "one call may cost 10 credits" in too_little.why_not) == (None, True)
    with pytest.raises(DmsError, match="an hour at work costs 3600 credits there") as refused:
        await payers.apis[0].service_call(CallParams("command", "echo", "", LONGEST))
    assert "--max-rate" in refused.value.hint
    assert not await payers.tabs(1)
    (listed,) = (await payers.apis[1].service_list()).services
    assert listed.rate == AN_HOUR
    (own,) = (await payers.apis[1].service_price(CallParams("command", "echo"))).prices
    assert own.why_not == "calls of its own node cost nothing"


async def test_no_call_is_made_on_an_open_tab_that_is_dearer_than_it_may_be(payers: Payers) -> None:
    await payers.call()
    with pytest.raises(DmsError, match="an hour at work costs 3600 credits there") as refused:
        await payers.apis[0].service_call(CallParams("command", "echo", "", 10 * LONGEST))
    assert refused.value.code == "call_refused"
    (ours,) = await payers.tabs(0)
    assert (ours.under_way, ours.why_over) == (0, "")
    await payers.call()


async def test_neither_side_goes_past_what_its_owner_lets_be_owed(payers: Payers) -> None:
    me, there = (peer_of(node) for node in payers.market.nodes)
    await payers.apis[0].account_limit(LimitParams(there, 5 * CREDIT, ours=True))
    with pytest.raises(DmsError, match="5 credits is all that this node may still come to owe there"):
        await payers.call()
    await payers.apis[0].account_limit(LimitParams(there, None, ours=True))
    await payers.apis[1].account_limit(LimitParams(me, LONGEST - 1))
    with pytest.raises(DmsError, match="10 credits may come to be owed, and 9"):
        await payers.call(LONGEST)
    await payers.apis[1].account_limit(LimitParams(me, LONGEST))
    await payers.call(LONGEST)
    await until(
        payers.market.nodes[1].state, lambda state: state.book.credit_left(me) == 0
    )  # no bid goes past it either
    owed, _ = await payers.settled()
    await until(payers.market.nodes[1].state, lambda state: state.book.credit_left(me) == LONGEST - owed)


async def test_a_killed_node_has_its_tabs_again_and_nothing_is_paid_twice(payers: Payers) -> None:
    await payers.call()
    (before,) = await payers.tabs(1)
    for index in (1, 0):
        await payers.crash(index)
        (after,) = await payers.tabs(1)
        assert after == before
        await payers.call()
        (before,) = await payers.tabs(1)
    assert before.calls == 3
    owed, due = await payers.settled()
    assert owed == due == before.ran_ms * CREDIT // SECOND


async def test_either_side_proves_what_was_agreed_and_signed_for_calls(payers: Payers) -> None:
    for _ in range(2):
        await payers.call()
    owed, _ = await payers.settled()
    (tab,) = await payers.tabs(0)
    reports = []
    for api in payers.apis:
        file = await api.audit_export(AuditExportParams(tab.tab_id[:12]))
        reports.append(verify(file.text.encode()))
    mine, theirs = reports
    assert (mine.faults, theirs.faults) == ((), ())
    assert [report.job for report in reports] == [tab.tab_id] * 2
    assert [report.tabs[0].sums for report in reports] == [mine.tabs[0].sums] * 2
    (agreed,) = mine.tabs
    assert (agreed.caller, agreed.provider, agreed.service) == (mine.exporter, theirs.exporter, "command/echo")
    assert (agreed.confirmed, agreed.sums[-1].calls, agreed.max_price) == (owed, 2, 10 * LONGEST)
    with pytest.raises(DmsError, match="no tab"):
        await payers.apis[0].audit_export(AuditExportParams("t-nothing"))
