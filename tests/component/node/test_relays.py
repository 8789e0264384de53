"""Siblings whose providers do not reach each other: led on by their requester, on its own word alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from dms.node import pace, relays, tunnels
from dms.testing.market import Market, peer_of, until
from dms.testing.tunnel_contract import PATIENCE_S
from dms_proto.ids import RequestId
from dms_proto.market.auction_state import Slot
from dms_proto.tunnels import Opening, asking_to_relay
from dms_proto.wire.buckets import Limit

from .test_siblings import ONE_A_NODE, PORT, refused, running, said_back, see_broken_off, why_not
from .test_tunnels import only_asks


@pytest_asyncio.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    """One that asks, and three with room for one of its allocations each."""
    async with Market(tmp_path, 4, build=only_asks) as market:
        yield market


async def apart(market: Market) -> tuple[RequestId, Slot, Slot]:
    """Two siblings whose providers reach the requester, and not each other."""
    job, (first, second) = await running(market)
    market.fabric.cut(first.provider, second.provider)
    return job, first, second


def onward(job: RequestId, first: Slot, second: Slot, target: str = f"port:{PORT}") -> Opening:
    """What the provider of the first asks the requester for."""
    return asking_to_relay(job, Opening(second.allocation_id, target, caller=first.allocation_id))


def at_requester(market: Market, slot: Slot) -> Slot:
    """As if it was the requester that runs it: whom to ask."""
    return msgspec.structs.replace(slot, provider=peer_of(market.nodes[0]))


async def test_they_reach_each_other_through_the_requester(market: Market) -> None:
    _, first, second = await apart(market)
    assert await said_back(market, first, 1) == b"hello"
    assert await said_back(market, second, 0) == b"hello"


async def test_while_they_reach_each_other_nothing_passes_it(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (first, _) = await running(market)
    led: list[object] = []
    monkeypatch.setattr(tunnels, "relay_asked", led.append)
    assert await said_back(market, first, 1) == b"hello"
    assert led
    assert not any(isinstance(opening, Opening) and opening.target.startswith("relay:") for opening in led)


async def test_it_leads_nobody_else_and_to_nothing_else(market: Market) -> None:
    job, first, second = await apart(market)
    other_job, (other, _) = await running(market, resources=msgspec.structs.replace(ONE_A_NODE, cpu_millicores=100))
    sibling = market.node_of(first.provider)
    stranger = next(node for node in market.nodes[1:] if peer_of(node) not in {first.provider, second.provider})
    here = at_requester(market, second)
    assert (await refused(stranger, here, onward(job, first, second)))[0] == "not_found"
    assert (await refused(sibling, here, onward(job, second, first)))[0] == "not_found"
    assert (await refused(sibling, here, onward(other_job, first, second)))[0] == "not_found"
    assert (await refused(sibling, here, onward(job, first, other)))[0] == "not_running"
    for target in ("exec", "call", "port:22", f"siblings:{job}", f"relay:{job}:port:{PORT}"):
        assert (await refused(sibling, here, onward(job, first, second, target)))[0] == "bad_argument", target


async def test_one_provider_does_not_get_all_that_another_takes_of_the_requester(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "OF_ONE", 1)
    job, first, second = await apart(market)
    asking, here = market.node_of(first.provider), at_requester(market, first)
    tunnel = await asking.services.tunnels.lead(here.provider, onward(job, first, second))

    code, why = await refused(asking, here, onward(job, first, second))
    assert (code, "as many connections are led there as may be" in why) == ("not_listening", True)
    (
        await market.nodes[0].services.tunnels.lead(second.provider, Opening(second.allocation_id, f"port:{PORT}"))
    ).abort()

    tunnel.abort()
    held = market.nodes[0].services.tunnels._relays._led
    await until(lambda: len(held), lambda count: not count, PATIENCE_S)
    (await asking.services.tunnels.lead(here.provider, onward(job, first, second))).abort()


async def test_a_connection_is_broken_off_when_one_side_is_no_sibling_any_more(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its provider keeps it open; the requester does not."""
    job, first, second = await apart(market)
    monkeypatch.setattr(market.nodes[0].services.tunnels._relays, "_look_s", 0.05)
    lead = market.node_of(first.provider).services.tunnels.lead
    tunnel = await lead(peer_of(market.nodes[0]), onward(job, first, second))
    await see_broken_off(market, first, tunnel)


async def test_who_asks_to_be_led_without_end_does_not_get_the_requester_muted(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "MOST", Limit(0, 2))
    job, first, second = await apart(market)
    lead = market.node_of(first.provider).services.tunnels.lead
    for _ in range(2):
        (await lead(peer_of(market.nodes[0]), onward(job, first, second))).abort()
    said = await refused(market.node_of(first.provider), at_requester(market, second), onward(job, first, second))
    assert (said[0], f"more connections than {second.provider} takes" in said[1]) == ("not_listening", True)


async def test_why_there_is_no_way_is_said_as_by_a_requester_of_before(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.node.siblings.PATIENCE_S", 0.3)
    monkeypatch.setattr(tunnels, "relay_asked", lambda _opening: None)
    _, first, second = await apart(market)
    why = await why_not(market.node_of(first.provider), f"{first.allocation_id} 1.job.internal:{PORT}")
    nothing = f"nothing of yours runs here as {second.allocation_id}"
    assert why.endswith(f" is not reached from here, and not through the requester: {nothing}")
