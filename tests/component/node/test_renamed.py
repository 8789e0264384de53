"""What this node's owner has to do with a peer stays with the peer when it replaces its key: entries, claims, stakes, bans."""

from __future__ import annotations

from dms.config import identity
from dms.node.api import LocalApi
from dms.node.rotation import rotate_key
from dms.rpc.api.accounts import LimitParams, StatementParams
from dms.rpc.api.peers import BanParams, PeerParams, PeerState
from dms.testing.market import peer_of, until
from dms_actors.letters import Told
from dms_actors.node import NodeState
from dms_proto.allocation.stimuli import StopWished
from dms_proto.ids import PeerId
from dms_proto.work import EndReason

from .conftest import START, Local, priced, spec


async def rotated(local: Local, index: int, *, at_once: bool = False) -> PeerId:
    """Gives a node a new key and gives its new name; `at_once`: whatever is under way, as after a theft."""
    home = local.market.nodes[index].services.home
    await local.apis[index].close()
    if at_once:
        await local.market.crash(index)
        identity.rotate(home, 0)
    else:
        await local.market.nodes[index].stop()
        await rotate_key(home)
    node = await local.market.rejoin(index)
    local.apis[index] = await LocalApi.start(node.services)
    return peer_of(node)


async def test_the_statement_of_a_peer_with_a_new_name_has_what_was_agreed_under_the_old_one(local: Local) -> None:
    provider = await priced(local)
    await local.run(spec("print", "x"))
    await local.market.drained()
    await until(local.market.nodes[1].services.allocations.ids, lambda ids: not ids)

    new = await rotated(local, 1)
    await until(local.api.account_show, lambda found: [view.peer for view in found.accounts] == [new])
    await local.run(spec("print", "x"))

    found = await local.api.account_statement(StatementParams(new))
    assert [(entry.why, entry.peer) for entry in found.entries] == [("charge", new)] * 2
    assert (await local.api.account_show()).accounts[0].owed == sum(entry.open for entry in found.entries)
    assert provider != new
    for api in local.apis[:2]:
        assert (await api.account_verify()).findings == ()


async def test_work_that_runs_while_its_requester_gets_a_new_key_is_claimed_of_the_new_one(local: Local) -> None:
    await priced(local)
    old, node = peer_of(local.market.nodes[0]), local.market.nodes[1]
    await local.submit(spec("wait"))
    (running,) = await until(node.services.allocations.ids, bool)
    before = (await node.state()).book.credit_left(old)

    new = await rotated(local, 0, at_once=True)

    def is_told(state: NodeState) -> bool:
        return old in state.membership.heirs and state.book.credit_left(new) == before

    await until(node.state, is_told)
    node.services.allocations.tell(running, Told(StopWished(EndReason.CANCELLED), "test"))
    state = await until(node.state, lambda state: bool(state.accounts.known))
    assert state.accounts.known == (new,)
    assert state.accounts.of(new).claimed == START
    await until(node.state, lambda state: state.book.credit_left(new) == before)  # a claim in place of the stake
    await local.restart(1)
    state = await local.market.nodes[1].state()
    assert (state.accounts.known, state.accounts.of(new).claimed) == ((new,), START)
    listed = await local.apis[1].account_statement(StatementParams(new))
    assert [(entry.why, entry.peer) for entry in listed.entries] == [("claim", new)]
    assert (await local.apis[1].account_verify()).findings == ()


async def test_a_limit_is_that_of_the_peer_whatever_its_name(local: Local) -> None:
    await local.api.account_limit(LimitParams(peer_of(local.market.nodes[1]), 5))
    new = await rotated(local, 1)
    found = await until(local.api.account_show, lambda found: [view.peer for view in found.accounts] == [new])
    assert found.accounts[0].limit == 5


async def test_a_peer_that_was_banned_is_so_under_its_new_name_until_it_is_let_back(local: Local) -> None:
    asker = local.market.nodes[0]
    await local.api.peers_ban(BanParams(peer_of(local.market.nodes[1]), 60))

    new = await rotated(local, 1)

    await until(asker.state, lambda state: new in state.membership.heirs.values())
    await until(asker.services.network.links, lambda links: new not in links)
    shown = await local.api.peers_show(PeerParams(new))
    assert shown.state is PeerState.BANNED
    await local.api.peers_ban(BanParams(new, 0))
    await local.market.connect(local.market.nodes[1], asker)
    await until(asker.services.network.links, lambda links: new in links)
    assert (await local.api.peers_show(PeerParams(new))).state is not PeerState.BANNED
