"""What each kind of message gives to whom: a stranger without a grant sends all of them to a node that asks for one, about work that is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config import Config
from dms.node.api import LocalApi
from dms.rpc.api.allocations import AllocationReadParams
from dms.rpc.api.grants import CreateGrantParams, GrantParams
from dms.rpc.api.jobs import JobParams
from dms.rpc.api.peers import PingParams
from dms.testing.market import CONFIG, TARIFF, Market, peer_of, until
from dms.testing.samples import FULL
from dms_actors.letters import ListenFor, Told
from dms_actors.node import NodeState
from dms_proto.errors import PeerError, UserError
from dms_proto.grants.access import Access
from dms_proto.grants.rights import MARKET, Rights
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.market.offer_state import PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import KINDS, AllocationMessage, AnyMessage, BidRequest, Decline

from .conftest import Local, spec

GUARDED = ProviderPolicy(tariff=TARIFF, access=Access.AUTHORISED)
ASKS_ONLY: Config = msgspec.structs.replace(CONFIG, provider=msgspec.structs.replace(CONFIG.provider, enabled=False))
NAMES = ("requester", "provider", "stranger")
UNKNOWN = AllocationId("a-" + "a" * 26)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Local]:
    """A requester with a grant, a provider that asks for one, and a stranger without. The job of the requester runs."""

    def build(index: int) -> dict[str, Any]:
        return {"policy": GUARDED} if index == 1 else {"config": ASKS_ONLY}

    async with Market(tmp_path, len(NAMES), build=build) as market:
        local = Local(market)
        try:
            for node in market.nodes:
                local.apis.append(await LocalApi.start(node.services))
            made = await local.apis[1].grants_create(CreateGrantParams(Rights()))
            await local.api.grants_keep(GrantParams(made.text))
            yield local
        finally:
            for api in local.apis:
                await api.close()


async def running(local: Local, *script: str) -> tuple[RequestId, AllocationId]:
    """A job of the requester that runs at the provider."""
    job = await local.submit(spec(*script, "sleep_ms", "50000"))
    view = await until(lambda: local.show(job), lambda view: view.summary.running == 1)
    return job, view.slots[0].attempts[-1].allocation_id


async def ended(local: Local, job: RequestId) -> None:
    """It is stopped by whom it belongs to."""
    await local.api.job_cancel(JobParams(job))
    await until(lambda: local.show(job), lambda view: bool(view.summary.ended_at))


def named(message: AnyMessage, job: RequestId, allocation: AllocationId, state: NodeState) -> AnyMessage:
    """The message about the requester's work, with every id right: ids are no secrets."""
    (bid,) = {r.bid_id for r in state.book.ledger.reservations.values()}
    ids = {
        "request_id": job,
        "allocation_id": allocation,
        "bid_id": bid,
        "channel": "want:stdout",
        "offset": 0,
        "data": b"",
    }
    has = {name: value for name, value in ids.items() if name in message.__struct_fields__}
    return msgspec.structs.replace(message, **has)


@pytest.mark.parametrize("message", FULL, ids=[type(message).__name__ for message in FULL])
async def test_a_stranger_changes_nothing_about_another_s_work_by_any_kind_of_message(
    guarded: Local, message: AnyMessage
) -> None:
    assert {type(each).__name__ for each in FULL} == set(KINDS)
    provider, stranger = guarded.market.nodes[1:]
    job, allocation = await running(guarded)
    before = await provider.state()

    stranger.services.post.send(peer_of(provider), named(message, job, allocation, before), "test")
    with suppress(PeerError):  # a hello that is not the stranger's own: whoever says that is let go
        await guarded.apis[2].peers_ping(
            PingParams(peer_of(provider), 1)
        )  # what was sent before it was heard before it

    after = await provider.state()
    assert (after.book.ledger, after.allocations) == (before.book.ledger, before.allocations)
    assert after.accounts == before.accounts
    assert (await guarded.show(job)).summary.running == 1
    await ended(guarded, job)
    await guarded.market.drained()


async def test_a_stranger_is_answered_by_a_decline_and_never_by_a_bid(guarded: Local) -> None:
    provider, stranger = guarded.market.nodes[1:]
    request = next(m for m in FULL if isinstance(m, BidRequest))
    heard: asyncio.Queue[AnyMessage] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    stranger.services.node.tell(
        ListenFor(request.request_id, lambda _peer, message: loop.call_soon_threadsafe(heard.put_nowait, message))
    )
    stranger.services.post.send(peer_of(provider), request, "test")

    answer = await asyncio.wait_for(heard.get(), 10)

    assert isinstance(answer, Decline)
    assert answer.clauses[0].nearest == f"a grant from {peer_of(provider)}"


# ---------------------------------------------------------------------------------------------------------------------- logs


async def read(local: Local, allocation: AllocationId, *, at: int = 1, by: int = 2) -> bytes:
    """What one node lets another read."""
    params = AllocationReadParams(peer_of(local.market.nodes[at]), allocation)
    return (await local.apis[by].alloc_read(params)).data


def allow(local: Local, access: Access, *, own: tuple[PeerId, ...] = (), at: int = 1) -> None:
    """Sets who may read logs."""
    policy = msgspec.structs.replace(GUARDED, log_access=access, own_peers=own)
    local.market.nodes[at].services.node.tell(Told(PolicyWished(policy), "test"))


async def until_written(local: Local, allocation: AllocationId) -> None:
    logs = local.market.nodes[1].services.workbench.logs
    await until(lambda: _length(logs.length(allocation, "stdout")), bool)
    mirror = local.market.nodes[0].services.collector.logs
    await until(lambda: _length(mirror.length(allocation, "stdout")), bool)


async def _length(length: int) -> int:
    return length


async def test_another_s_log_is_read_by_nobody_unless_the_owner_says_so(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "secret")
    await until_written(guarded, allocation)

    with pytest.raises(PeerError) as caught:
        await read(guarded, allocation)

    provider = peer_of(guarded.market.nodes[1])
    assert caught.value.code == "not_granted"
    assert "wanted the right to read logs, there no grant was shown" in caught.value.message
    assert f"would take a grant for own machines from {provider}" in caught.value.message
    await ended(guarded, job)


async def test_who_may_not_read_is_not_told_what_there_is(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "secret")
    refused = []
    for asked in (allocation, UNKNOWN):
        with pytest.raises(PeerError) as caught:
            await read(guarded, asked)
        refused.append(caught.value.message)
    assert refused[0] == refused[1]
    await ended(guarded, job)


async def test_a_log_that_is_public_is_read_at_both_ends_of_the_agreement(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "hello")
    await until_written(guarded, allocation)
    allow(guarded, Access.PUBLIC)
    allow(guarded, Access.PUBLIC, at=0)

    assert await read(guarded, allocation) == await read(guarded, allocation, at=0) == b"hello"

    with pytest.raises(PeerError) as caught:
        await read(guarded, UNKNOWN)
    assert caught.value.code == "not_found"
    await ended(guarded, job)


async def test_two_readers_of_one_log_at_once_are_both_answered(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "hello")
    await until_written(guarded, allocation)
    allow(guarded, Access.PUBLIC)

    both = await asyncio.gather(read(guarded, allocation), read(guarded, allocation))

    assert both == [b"hello", b"hello"]
    await ended(guarded, job)


async def test_what_a_job_prints_is_kept_while_another_call_listens_for_it(guarded: Local) -> None:
    """A reader of the requester's own job does not keep its bytes from the collector."""
    job, allocation = await running(guarded, "print", "first")
    await until_written(guarded, allocation)
    services = guarded.market.nodes[0].services
    heard: asyncio.Queue[AnyMessage] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    services.node.tell(
        ListenFor(f"log:{allocation}", lambda _peer, message: loop.call_soon_threadsafe(heard.put_nowait, message))
    )
    provider = guarded.market.nodes[1].services
    more = AllocationMessage(job, allocation, "stdout", len(b"first"), b" second")
    provider.post.send(peer_of(guarded.market.nodes[0]), more, "test")

    assert await asyncio.wait_for(heard.get(), 10) == more
    mirror = services.collector.logs
    await until(lambda: _length(mirror.length(allocation, "stdout")), lambda length: length > len(b"first"))
    await ended(guarded, job)


async def test_a_log_is_read_with_a_grant_for_it_and_not_with_one_for_the_market(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "hello")
    await until_written(guarded, allocation)
    allow(guarded, Access.AUTHORISED)
    provider = guarded.apis[1]
    for kinds in (MARKET, ("logs",)):
        made = await provider.grants_create(CreateGrantParams(Rights(one_of={"kind": tuple(sorted(kinds))})))
        await guarded.apis[2].grants_keep(GrantParams(made.text))
        if kinds == MARKET:
            told = (
                "wanted rights logs, there granted: rights commit, invoke, request; would take a grant with rights logs"
            )
            with pytest.raises(PeerError, match=told):
                await read(guarded, allocation)

    assert await read(guarded, allocation) == b"hello"
    await ended(guarded, job)


async def test_a_log_elsewhere_is_named_in_whole_and_its_node_by_any_name_it_is_known_by(guarded: Local) -> None:
    job, allocation = await running(guarded, "print", "hello")
    await until_written(guarded, allocation)
    allow(guarded, Access.PUBLIC)
    provider = peer_of(guarded.market.nodes[1])

    part = await guarded.apis[2].alloc_read(AllocationReadParams(provider[-6:], allocation))
    with pytest.raises(UserError, match="whole id"):
        await guarded.apis[2].alloc_read(AllocationReadParams(provider, allocation[:6]))

    assert part.data == b"hello"
    await ended(guarded, job)


@pytest.mark.parametrize("by_grant", [True, False])
async def test_a_machine_of_the_same_owner_reads_logs(guarded: Local, *, by_grant: bool) -> None:
    job, allocation = await running(guarded, "print", "hello")
    await until_written(guarded, allocation)
    if by_grant:
        made = await guarded.apis[1].grants_create(CreateGrantParams(Rights(own=True)))
        await guarded.apis[2].grants_keep(GrantParams(made.text))
    else:
        allow(guarded, Access.OWN, own=(peer_of(guarded.market.nodes[2]),))

    assert await read(guarded, allocation) == b"hello"
    await ended(guarded, job)


def test_every_stream_is_asked_for_by_a_question() -> None:
    message = AllocationMessage(RequestId("r-" + "a" * 26), UNKNOWN, "want:stderr", 0)
    assert (message.is_question, message.stream) == (True, "stderr")
