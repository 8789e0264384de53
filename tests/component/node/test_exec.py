"""Commands beside a job between whole nodes on an in-memory network: who may run them, and that it is written down first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.node.api import LocalApi
from dms.rpc.api.allocations import AllocationListParams
from dms.rpc.api.execs import AllocationExecParams, JobExecParams
from dms.rpc.api.grants import CreateGrantParams, GrantParams
from dms.rpc.registry import Handover
from dms.testing.market import Market, auction_of, peer_of, submit, until
from dms_actors.events import from_row
from dms_proto.allocation.tunnels import CommandAdmitted
from dms_proto.errors import DmsError
from dms_proto.grants.rights import Rights
from dms_proto.ids import PeerId, RequestId
from dms_proto.market.auction_state import Auction, Slot
from dms_proto.messages import Phase
from dms_proto.tunnels import Order
from dms_proto.work import ExecBy

from .test_tunnels import only_asks

ORDER = Order(("sh", "-c", "true"))


async def running(market: Market, entry: ExecBy) -> tuple[RequestId, Slot]:
    """A job of the first node, and where it runs."""
    terms = market.terms("wait")
    terms = msgspec.structs.replace(terms, task=msgspec.structs.replace(terms.task, exec=entry))
    services = market.nodes[0].services
    await submit(services, terms)

    def runs(auction: Auction | None) -> bool:
        return auction is not None and auction.slots[0].allocation is Phase.RUNNING

    auction = await until(lambda: auction_of(services, terms.request_id), runs)
    return terms.request_id, auction.slots[0]


async def admitted(market: Market, slot: Slot) -> list[CommandAdmitted]:
    """What the provider has written down."""
    node = next(node for node in market.nodes if peer_of(node) == slot.provider)
    rows = await node.services.store.read_stream(slot.allocation_id)
    return [event for row in rows if isinstance(event := from_row(row), CommandAdmitted)]


async def until_listed(api: LocalApi, slot: Slot) -> None:
    """The read models follow what is written down a moment later."""
    await until(
        lambda: api.alloc_list(AllocationListParams()),
        lambda found: slot.allocation_id in {each.allocation_id for each in found.allocations},
    )


async def refusal(asked: Any) -> DmsError:
    with pytest.raises(DmsError) as caught:
        await asked
    return caught.value


def is_let_in(handover: Handover) -> bool:
    handover.abort()
    return True


@pytest.mark.parametrize("elsewhere", [True, False], ids=["at another node", "at the node itself"])
async def test_the_requester_runs_commands_and_the_provider_has_it_in_its_log(tmp_path: Path, elsewhere: bool) -> None:
    async with Market(tmp_path, 2 if elsewhere else 1, build=only_asks if elsewhere else None) as market:
        api = await LocalApi.start(market.nodes[0].services)
        job, slot = await running(market, ExecBy.REQUESTER)
        await until_listed(api, slot)
        assert is_let_in(await api.job_exec(JobExecParams(job, ORDER)))
        assert is_let_in(await api.alloc_exec(AllocationExecParams(slot.allocation_id[:12], ORDER)))
        assert [(event.by, event.words) for event in await admitted(market, slot)] == [
            (peer_of(market.nodes[0]), ORDER.words)
        ] * 2
        await api.close()


async def test_a_job_that_lets_nobody_says_how_it_would(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        api = await LocalApi.start(market.nodes[0].services)
        job, slot = await running(market, ExecBy.NOBODY)
        await until_listed(api, slot)
        for asked in (
            api.job_exec(JobExecParams(job, ORDER)),
            api.alloc_exec(AllocationExecParams(slot.allocation_id, ORDER)),
        ):
            error = await refusal(asked)
            assert error.code == "bad_argument"
            assert "the job lets no commands be run beside it" in error.message
        assert not await admitted(market, slot)
        await api.close()


async def test_another_node_needs_the_right_and_the_jobs_consent(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        consenting = (await running(market, ExecBy.GRANTED))[1]
        own = (await running(market, ExecBy.REQUESTER))[1]
        provider = next(node for node in market.nodes if peer_of(node) == consenting.provider)
        guest = next(node for node in market.nodes[1:] if node is not provider)
        if own.provider != consenting.provider:  # the guest is where the other runs: all the same, it is refused
            assert own.provider == peer_of(guest)
        theirs, there = await LocalApi.start(guest.services), await LocalApi.start(provider.services)

        async def asks(slot: Slot) -> Any:
            return await theirs.alloc_exec(AllocationExecParams(slot.allocation_id, ORDER, slot.provider))

        async def holds(rights: Rights) -> None:
            given = await there.grants_create(CreateGrantParams(rights))
            await theirs.grants_keep(GrantParams(given.text))

        assert (await refusal(asks(consenting))).code == "not_found"
        await holds(Rights(one_of={"kind": ("commit", "logs"), "peer": (peer_of(guest),)}))
        assert (await refusal(asks(consenting))).code == "not_found"
        await holds(Rights(one_of={"kind": ("exec",), "peer": (peer_of(guest),)}))
        assert is_let_in(await asks(consenting))
        assert (await refusal(asks(own))).code == "not_found"
        assert [event.by for event in await admitted(market, consenting)] == [peer_of(guest)]
        assert not await admitted(market, own)
        for api in (theirs, there):
            await api.close()


async def test_the_provider_itself_runs_none_without_the_jobs_consent(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        api = await LocalApi.start(market.nodes[1].services)
        for entry, lets in ((ExecBy.REQUESTER, False), (ExecBy.GRANTED, True)):
            slot = (await running(market, entry))[1]
            await until_listed(api, slot)
            asked = api.alloc_exec(AllocationExecParams(slot.allocation_id, ORDER))
            assert is_let_in(await asked) if lets else (await refusal(asked)).code == "not_found"
        await api.close()


async def test_what_is_no_whole_id_is_not_asked_for_elsewhere(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        api = await LocalApi.start(market.nodes[0].services)
        other = PeerId(peer_of(market.nodes[1]))
        assert (await refusal(api.alloc_exec(AllocationExecParams("a-abc", ORDER, other)))).code == "bad_argument"
        await api.close()
