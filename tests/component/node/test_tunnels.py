"""Tunnels between whole nodes on an in-memory network: who gets one, to what, and what everybody else hears."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Provider
from dms.node.api import LocalApi
from dms.node.app import NodeApp
from dms.rpc.api.tunnels import TunnelName, TunnelOpened, TunnelParams
from dms.testing.market import CONFIG, Market, auction_of, peer_of, submit, until, until_over
from dms.testing.tunnel_contract import PATIENCE_S
from dms_actors.letters import Told
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import AllocationId, RequestId, allocation_id
from dms_proto.market.auction_state import Auction, Slot
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.messages import Phase
from dms_proto.tunnels import Opening
from dms_proto.verification.policy import Apart, Policy, Verification

PORT = 8080


def only_asks(index: int) -> dict[str, Any]:
    """Options: the first node takes no work."""
    return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))} if index == 0 else {}


async def running(market: Market, **changes: Any) -> tuple[RequestId, Slot]:
    """A job of the first node that declares a port, and where it runs; `changes` are fields of `Terms`."""
    terms = market.terms("wait", **changes)
    terms = msgspec.structs.replace(terms, task=msgspec.structs.replace(terms.task, ports=(PORT,)))
    services = market.nodes[0].services
    await submit(services, terms)

    def runs(auction: Auction | None) -> bool:
        return auction is not None and all(slot.allocation is Phase.RUNNING for slot in auction.slots)

    auction = await until(lambda: auction_of(services, terms.request_id), runs)
    return terms.request_id, auction.slots[0]


async def said_back(api: LocalApi, params: TunnelParams, data: bytes = b"hello") -> tuple[str, bytes]:
    """Sends bytes through a tunnel and ends; gives its name, and what came back until the other side ended."""
    handover = await api.tunnel_open(params)
    given, kept = socket.socketpair()
    handover.take(given)
    reader, writer = await asyncio.open_unix_connection(sock=kept)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            back = await reader.read()
    finally:
        writer.close()
    assert isinstance(handover.answer, msgspec.Struct)
    return handover.answer.tunnel, back  # type: ignore[attr-defined]


async def refusal(api: LocalApi, params: TunnelParams) -> DmsError:
    with pytest.raises(DmsError) as caught:
        await api.tunnel_open(params)
    return caught.value


async def api_of(node: NodeApp) -> LocalApi:
    return await LocalApi.start(node.services)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["at another node", "at the node itself"])
async def test_the_owner_reaches_a_port_of_its_job_wherever_it_runs(tmp_path: Path, elsewhere: bool) -> None:
    async with Market(tmp_path, 2 if elsewhere else 1, build=only_asks if elsewhere else None) as market:
        api = await api_of(market.nodes[0])
        job, slot = await running(market)
        assert (slot.provider == peer_of(market.nodes[0])) is not elsewhere
        data = bytes(range(256)) * 2_000
        name, back = await said_back(api, TunnelParams(job, f"port:{PORT}"), data)
        assert back == data
        async with asyncio.timeout(PATIENCE_S):
            assert not (await api.tunnel_wait(TunnelName(name))).why
        await api.close()


async def test_what_cannot_be_reached_says_why(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        api = await api_of(market.nodes[0])
        job, _ = await running(market)
        undeclared = await refusal(api, TunnelParams(job, "port:22"))
        assert undeclared.code == "bad_argument"
        assert f"declares {PORT}" in undeclared.message
        assert (await refusal(api, TunnelParams(job, "shell"))).code == "bad_argument"
        no_slot = await refusal(api, TunnelParams(job, f"port:{PORT}", slot=1))
        assert no_slot.code == "not_found"
        assert no_slot.message.endswith("has one, slot 0")
        assert (await refusal(api, TunnelParams("r-none", f"port:{PORT}"))).code == "not_found"
        with pytest.raises(UserError) as unknown:
            await api.tunnel_wait(TunnelName("none"))
        assert unknown.value.code == "not_found"
        market.nodes[0].services.orchestrators.tell(job, Told(CancelAsked(), "test"))
        await until_over(market.nodes[0].services, job)
        await until(lambda: market.nodes[0].services.orchestrators.get(job), lambda address: address is None)
        over = await refusal(api, TunnelParams(job, f"port:{PORT}"))
        assert over.code == "not_running"
        assert "is over" in over.message
        await api.close()


async def test_each_copy_of_a_piece_of_work_is_reached_by_its_own_slot(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        api = await api_of(market.nodes[0])
        verify = Verification(Policy.REPLICATE, copies=2, apart=Apart.NODES)
        job, _ = await running(market, verify=verify)
        opened = []
        for slot in (0, 1):
            handover = await api.tunnel_open(TunnelParams(job, f"port:{PORT}", slot))
            handover.abort()
            assert isinstance(handover.answer, TunnelOpened)
            opened.append(handover.answer)
        assert {each.provider for each in opened} == {peer_of(node) for node in market.nodes[1:]}
        assert "the slots 0 to 1" in (await refusal(api, TunnelParams(job, f"port:{PORT}", 2))).message
        await api.close()


async def test_a_job_that_waits_for_a_node_does_not_run_yet(tmp_path: Path) -> None:
    async with Market(tmp_path, 1, build=only_asks) as market:
        api = await api_of(market.nodes[0])
        terms = market.terms("wait", patience_ms=60_000)
        terms = msgspec.structs.replace(terms, task=msgspec.structs.replace(terms.task, ports=(PORT,)))
        await submit(market.nodes[0].services, terms)
        error = await refusal(api, TunnelParams(terms.request_id, f"port:{PORT}"))
        assert error.code == "not_running"
        assert error.retryable
        await api.close()


async def test_a_stranger_hears_the_same_of_what_runs_and_of_what_does_not(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        job, slot = await running(market)
        provider = slot.provider
        stranger = next(n for n in market.nodes[1:] if peer_of(n) != provider)
        heard = []
        for id_ in (slot.allocation_id, allocation_id(slot.bid_id, 77)):
            with pytest.raises(PeerError) as caught:
                await stranger.services.tunnels.open(provider, Opening(AllocationId(id_), f"port:{PORT}"))
            heard.append((caught.value.code, caught.value.message.replace(id_, "…")))
        assert heard[0] == heard[1]
        assert heard[0][0] == "not_found"
        with pytest.raises(PeerError) as garbage:
            await stranger.services.network.open_tunnel(provider, b"\xc1")
        assert garbage.value.code == "bad_argument"
        del job


async def test_the_end_of_the_job_ends_its_tunnels(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=only_asks) as market:
        api = await api_of(market.nodes[0])
        job, _ = await running(market)
        handover = await api.tunnel_open(TunnelParams(job, f"port:{PORT}"))
        given, kept = socket.socketpair()
        handover.take(given)
        reader, writer = await asyncio.open_unix_connection(sock=kept)
        market.nodes[0].services.orchestrators.tell(job, Told(CancelAsked(), "test"))
        async with asyncio.timeout(PATIENCE_S):
            with suppress(OSError):
                assert not await reader.read()
        writer.close()
        await api.close()
