"""Services among whole nodes on an in-memory network: installed, offered, called under a grant, kept warm, and there again after a crash."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Pool as PoolSettings
from dms.jobs.spec import JobSpec
from dms.node.api import LocalApi
from dms.node.api.services import NO_TIME
from dms.node.offering import offer, take_share
from dms.node.pricing import policy_of
from dms.rpc.api.grants import CreateGrantParams, GrantParams
from dms.rpc.api.services import CallParams, InstallParams, PoolView, RouteParams, ServiceParams
from dms.testing.market import CONFIG, DEADLINE, Market, peer_of, until
from dms_actors.letters import Told
from dms_proto.capability import Capability, Resources
from dms_proto.egress import Egress
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.grants.rights import Rights
from dms_proto.ids import PeerId, digest_of
from dms_proto.market.offer_state import PolicyWished
from dms_proto.pool.records import ContainerPhase
from dms_proto.pool.routes import Rule
from dms_proto.units import MIB
from dms_proto.work import Input, Limits, Task

PORT = 8080
SIZE = Resources(500, 64 * MIB, 16 * MIB)
POOL = PoolSettings(cpu=2_000, memory=512 * MIB, disk=256 * MIB)
ECHO = ServiceParams("command", "echo")


def echo(*command: str, **changes: Any) -> InstallParams:
    """A service whose containers send back what they are sent; "wait" until they are stopped."""
    task = Task("scripted", command or ("wait",), resources=SIZE, ports=(PORT,), limits=Limits())
    return InstallParams("command", "echo", JobSpec(msgspec.structs.replace(task, **changes), Capability()))


class Owners:
    """A market in which each node has an interface and a pool."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.apis: list[LocalApi] = []

    async def begin(self, index: int) -> LocalApi:
        """What `dms up` does once the node runs."""
        services = self.market.nodes[index].services
        services.node.tell(Told(PolicyWished(policy_of(services.config)), "start"))
        await take_share(services)
        await offer(services)
        return await LocalApi.start(services)

    async def crash(self, index: int) -> None:
        """The node's process dies and is started again; what runs outlives it."""
        await self.apis[index].close()
        await self.market.nodes[index].abandon()
        await self.market.start(index)
        self.apis[index] = await self.begin(index)


@pytest.fixture
async def owners(tmp_path: Path) -> AsyncIterator[Owners]:
    config = msgspec.structs.replace(CONFIG, pool=POOL)
    async with Market(tmp_path, 2, build=lambda _index: {"config": config}) as market:
        owners = Owners(market)
        try:
            for index in range(2):
                owners.apis.append(await owners.begin(index))
            yield owners
        finally:
            for api in owners.apis:
                await api.close()


@asynccontextmanager
async def calling(
    api: LocalApi, node: str = "", entry: str = "echo"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A call, for as long as the block."""
    async with asyncio.timeout(DEADLINE):
        handover = await api.service_call(CallParams("command", entry, node))
    given, kept = socket.socketpair()
    handover.take(given)
    reader, writer = await asyncio.open_unix_connection(sock=kept)
    try:
        yield reader, writer
    finally:
        writer.close()


async def said_back(api: LocalApi, node: str = "") -> bytes:
    """What one whole call gives."""
    async with calling(api, node) as (reader, writer), asyncio.timeout(DEADLINE):
        writer.write(b"hello")
        writer.write_eof()
        return await reader.read()


async def granted(owners: Owners, *rights: str) -> None:
    """The second node lets the first one call."""
    me = peer_of(owners.market.nodes[0])
    made = await owners.apis[1].grants_create(CreateGrantParams(Rights(one_of={"peer": (me,), "kind": rights})))
    await owners.apis[0].grants_keep(GrantParams(made.text))


async def offered(owners: Owners) -> str:
    """The second node offers the echo, and the first one has heard of it; gives the second one's name."""
    await owners.apis[1].service_install(echo())
    await owners.apis[1].service_start(ECHO)
    there = peer_of(owners.market.nodes[1])

    def is_told(state: Any) -> bool:
        hello = state.membership.peers[there].hello
        return hello is not None and "service:command/echo" in hello.summary.libraries

    await until(owners.market.nodes[0].state, is_told)
    return there


async def counted(api: LocalApi, hits: int) -> PoolView:
    """The pool once so many calls were counted and none is under way."""

    def is_counted(view: PoolView) -> bool:
        return sum(each.tally.hits for each in view.virtual) == hits and not view.calls

    return await until(api.pool_list, is_counted)


async def test_an_owner_s_own_call_needs_no_grant_and_is_counted(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    assert [await said_back(api) for _ in range(3)] == [b"hello"] * 3
    view = await counted(api, 3)
    (container,), (virtual,) = view.containers, view.virtual
    assert (container.tally.hits, container.phase, container.virtual) == (
        3,
        ContainerPhase.READY,
        (virtual.virtual_id,),
    )
    assert (virtual.user, virtual.service.name, virtual.container) == (api._me, "command/echo", container.container_id)
    assert view.used == SIZE
    (listed,) = (await api.service_list()).services
    assert (listed.offered, listed.containers, listed.hits) == (True, 1, 3)


async def test_a_stranger_is_told_which_grant_it_takes_and_calls_with_one(owners: Owners) -> None:
    there = await offered(owners)
    with pytest.raises(DmsError, match="calls take a grant: wanted the right to call") as caught:
        await said_back(owners.apis[0], there)
    assert caught.value.code == "not_granted"
    assert f"dms grant create --to {peer_of(owners.market.nodes[0])} --can call" in caught.value.hint
    assert not (await owners.apis[1].pool_list()).virtual, "who may not call leaves nothing"
    await granted(owners, "call")
    assert await said_back(owners.apis[0]) == b"hello"
    (virtual,) = (await counted(owners.apis[1], 1)).virtual
    assert virtual.user == peer_of(owners.market.nodes[0])


async def test_a_grant_for_the_market_is_none_for_calls(owners: Owners) -> None:
    there = await offered(owners)
    await granted(owners, "request", "commit", "invoke")
    with pytest.raises(DmsError) as caught:
        await said_back(owners.apis[0], there)
    assert caught.value.code == "not_granted"


async def test_the_node_is_found_by_what_it_offers(owners: Owners) -> None:
    with pytest.raises(UserError, match="no node known here offers the service command/echo"):
        await said_back(owners.apis[0])
    await offered(owners)
    await granted(owners, "call")
    assert await said_back(owners.apis[0]) == b"hello"


async def test_all_nodes_together_have_one_deadline_for_a_call(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each silent one took 20 s, one after the other, and nothing bounded how many."""
    api, asked = owners.apis[0], asyncio.Event()

    async def never(_peer: PeerId, _opening: bytes) -> socket.socket:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("dms.node.api.services.ROUTE_S", 0.05)
    await offered(owners)
    owners.market.nodes[1].services.network.serve_tunnels(never)
    with pytest.raises(
        PeerError, match=r"no node took a call of command/echo within 0.05 s, 1 of 1 node were asked"
    ) as caught:
        await said_back(api)
    assert asked.is_set()
    assert caught.value.code == "peer_timeout"
    (option,) = (await api.service_explain(RouteParams())).route.options
    assert option.said == NO_TIME


async def test_why_a_call_went_to_a_node_is_on_record(owners: Owners) -> None:
    api = owners.apis[0]
    with pytest.raises(UserError, match="this node has made no call"):
        await api.service_explain(RouteParams())
    await offered(owners)
    with pytest.raises(DmsError, match="calls take a grant"):
        await said_back(api)
    refused = await api.service_explain(RouteParams())
    provider = refused.route.options[0].peer
    assert (refused.route.provider, refused.route.rule, refused.replayed) == ("", Rule.NONE, True)
    assert "calls take a grant" in refused.route.options[0].said
    await granted(owners, "call")
    await said_back(api)
    taken = await api.service_explain(RouteParams())
    assert (taken.route.provider, taken.route.rule, taken.route.options[0].said) == (provider, Rule.NEAREST, "")
    await owners.crash(0)
    assert await owners.apis[0].service_explain(RouteParams()) == taken
    assert await owners.apis[0].service_explain(RouteParams(taken.route.tunnel)) == taken


async def test_a_service_that_is_stopped_takes_no_calls_and_its_containers_end(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    await said_back(api)
    await api.service_stop(ECHO)
    with pytest.raises(DmsError, match="the service command/echo is not offered there; offered are: none"):
        await said_back(api, api._me)
    await until(api.pool_list, lambda view: not view.containers and not view.virtual)
    assert not (await api.service_list()).services[0].offered
    await api.service_start(ECHO)
    assert await said_back(api) == b"hello"


async def test_a_service_that_is_removed_is_gone(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    await said_back(api)
    await api.service_remove(ECHO)
    await until(api.pool_list, lambda view: not view.containers)
    assert not (await api.service_list()).services
    with pytest.raises(UserError, match="no service command/echo is installed here; there are: none"):
        await api.service_start(ECHO)


async def test_another_task_under_the_same_name_runs_in_other_containers(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    await said_back(api)
    (before,) = (await api.pool_list()).containers
    await api.service_install(echo("print", "new", "wait"))
    assert await said_back(api) == b"hello"
    view = await until(api.pool_list, lambda view: [each.phase for each in view.containers] == [ContainerPhase.READY])
    assert view.containers[0].image != before.image


async def test_calls_of_one_container_wait_for_each_other(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    async with calling(api) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        second = asyncio.create_task(said_back(api))
        view = await until(api.pool_list, lambda view: len(view.calls) == 2)
        assert [bool(call.delivered_at) for call in view.calls] == [True, False]
        assert view.calls[1].placement.chosen == view.containers[0].container_id
    assert await second == b"hello"


async def test_a_container_that_dies_is_told_to_who_calls_and_the_next_call_gets_another(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    async with calling(api) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        (executor, _) = owners.market.nodes[0].services.executors["scripted"]
        (run,) = executor._runs.values()  # type: ignore[attr-defined]
        await run.stop(0)
        async with asyncio.timeout(DEADLINE):
            assert not await reader.read()
    await until(api.pool_list, lambda view: not view.containers)
    assert await said_back(api) == b"hello"


async def test_what_cannot_start_is_told_with_what_it_wrote_last(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo("cannot_start", "provider_fault"))
    await api.service_start(ECHO)
    with pytest.raises(DmsError, match="its container could not be started") as caught:
        await said_back(api)
    assert caught.value.code == "call_refused"


async def test_a_connection_that_a_service_may_not_make_is_in_its_nodes_log(
    owners: Owners, caplog: pytest.LogCaptureFixture
) -> None:
    api = owners.apis[0]
    await api.service_install(echo("connect", "pypi.org:443", "wait"))
    await api.service_start(ECHO)
    await said_back(api)

    async def logged() -> str:
        return caplog.text

    await until(logged, lambda text: "no connection to pypi.org:443: a script has no way out" in text)


async def test_a_killed_node_has_its_containers_and_every_hit_again(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    for _ in range(4):
        await said_back(api)
    before = await counted(api, 4)
    await owners.crash(0)
    api = owners.apis[0]
    after = await until(api.pool_list, lambda view: all(each.phase is ContainerPhase.READY for each in view.containers))
    assert [each.container_id for each in after.containers] == [each.container_id for each in before.containers]
    assert [each.tally for each in after.virtual] == [each.tally for each in before.virtual]
    assert await said_back(api) == b"hello"
    assert (await counted(api, 5)).containers[0].tally.hits == 5


async def test_a_node_that_is_stopped_keeps_nothing_running_and_its_services_installed(owners: Owners) -> None:
    api = owners.apis[0]
    await api.service_install(echo())
    await api.service_start(ECHO)
    await said_back(api)
    (executor, _) = owners.market.nodes[0].services.executors["scripted"]
    (run,) = executor._runs.values()  # type: ignore[attr-defined]
    await api.close()
    await owners.market.nodes[0].stop()
    assert run.has_ended
    await owners.market.start(0)
    owners.apis[0] = api = await owners.begin(0)
    assert [each.offered for each in (await api.service_list()).services] == [True]
    assert await said_back(api) == b"hello"


async def test_the_pool_s_share_is_not_the_market_s(owners: Owners) -> None:
    status = await owners.apis[0].node_capability()
    assert status.locked == Resources(POOL.cpu, POOL.memory, POOL.disk)


CLASHING = (Input("a", digest_of(b""), 0), Input("a/b", digest_of(b""), 0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ports": ()}, "it declares 0 ports, and has to listen on one"),
        ({"ports": (1, 2)}, "it declares 2 ports"),
        ({"inputs": CLASHING}, "a is a file, and the directory of a/b as well"),
        ({"executor": "nothing"}, "there is no executor 'nothing' on this node"),
        (
            {"egress": Egress(("pypi.org:443",), MIB)},
            "it wants a way out to pypi.org:443; its owner lets no job connect anywhere",
        ),
    ],
)
async def test_what_cannot_be_a_service_is_refused(owners: Owners, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        await owners.apis[0].service_install(echo(**changes))


async def test_what_is_larger_than_the_pool_is_not_offered(owners: Owners) -> None:
    await owners.apis[0].service_install(echo(resources=Resources(4_000, 64 * MIB)))
    with pytest.raises(UserError, match=r"a container of command/echo takes 4 cores.*the pool has 2 cores"):
        await owners.apis[0].service_start(ECHO)
