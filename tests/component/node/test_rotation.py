"""A node gets a new key: for its peers it is the same node under a new name, with what they know of it, and the old name is over."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.config import Home, identity
from dms.config.settings import Provider
from dms.node.app import NodeApp
from dms.node.projections import projections
from dms.node.rotation import rotate_key
from dms.node.survey import survey
from dms.store.projections import ProjectionRunner
from dms.testing.market import CONFIG, Market, peer_of, submit, until, until_over
from dms_actors.letters import AttemptNoted, Told
from dms_actors.node import NodeState
from dms_actors.ports import FrameReceived, NetworkEvent
from dms_proto.errors import MachineError, UserError
from dms_proto.ids import MessageId, PeerId
from dms_proto.lineage import succeed
from dms_proto.membership.machine import ForgetWished, Inherit, Peer, PeerPhase
from dms_proto.messages import Probe
from dms_proto.reputation import Kind
from dms_proto.wire import Envelope, Signer, read_frame, seal
from dms_proto.work import EndReason


def first_asks(index: int) -> dict[str, object]:
    """Options: the first node takes no work."""
    return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))} if index == 0 else {}


async def done(market: Market) -> None:
    """One job, from asking to its receipt."""
    terms = market.terms("exit", "0")
    ended = await until_over(market.nodes[0].services, await submit(market.nodes[0].services, terms))
    assert ended.ending is not None
    assert ended.ending.reason is EndReason.COMPLETED
    await market.drained()
    await until(market.nodes[1].services.allocations.ids, lambda ids: not ids)


async def known(node: NodeApp, peer: PeerId, phase: PeerPhase) -> Peer:
    """What a node knows of a peer, once it is in a phase."""

    async def look() -> Peer | None:
        return (await node.state()).membership.peers.get(peer)

    found: Peer = await until(look, lambda peer: peer is not None and peer.phase is phase)
    return found


def kept(state: NodeState) -> dict[PeerId, int]:
    """How often each provider kept its word."""
    return {peer: evidence.counts[Kind.KEPT] for peer, evidence in state.evidence.items()}


async def rotated(market: Market, index: int) -> NodeApp:
    """The same node with a new key, and among the others again."""
    home = market.nodes[index].services.home
    await market.nodes[index].stop()
    await rotate_key(home)
    return await market.rejoin(index)


async def test_peers_know_a_node_with_a_new_key_as_the_same_node(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=first_asks) as market:
        asker = market.nodes[0]
        await done(market)
        old = peer_of(market.nodes[1])
        before = await known(asker, old, PeerPhase.GREETED)
        assert kept(await asker.state()) == {old: 1}
        owed = (await asker.state()).accounts.of(old).owed
        assert owed < 0

        new = peer_of(await rotated(market, 1))

        after = await known(asker, new, PeerPhase.GREETED)
        assert new != old
        assert after.hello is not None
        assert before.hello is not None
        assert after.hello.uuid == before.hello.uuid
        assert old not in (await asker.state()).membership.peers
        assert kept(await asker.state()) == {new: 1}
        assert (await asker.state()).accounts.known == (new,)
        assert (await asker.state()).accounts.of(new).owed == owed

        await done(market)  # and it works under its new name
        assert kept(await asker.state()) == {new: 2}
        first, heir, second = (await survey(asker.services.store)).notes  # and so does a node that starts anew
        assert heir == Inherit(old, new)
        assert isinstance(first, AttemptNoted)
        assert isinstance(second, AttemptNoted)
        assert (first.provider, first.kind) == (old, Kind.KEPT)
        assert (second.provider, second.kind) == (new, Kind.KEPT)
        runner = ProjectionRunner(asker.services.store, projections(peer_of(asker)))
        await runner.start()
        await runner.catch_up()
        assert await runner.query("trust") == [{"provider": new, "successes": 2, "failures": 0}]
        assert [row["peer"] for row in await runner.query("peers")] == [new]


async def test_the_old_name_and_a_second_heir_of_its_key_are_refused(tmp_path: Path) -> None:
    async with Market(tmp_path, 2) as market:
        asker, home = market.nodes[0], market.nodes[1].services.home
        stolen = {file.name: file.read_bytes() for file in (home.identity_key, home.identity_names)}
        old = peer_of(market.nodes[1])
        await rotated(market, 1)
        for index, has_own_heir in ((2, False), (3, True)):
            thief = Home(tmp_path / f"node{index}")
            thief.prepare()
            for name, data in stolen.items():
                (thief.root / name).write_bytes(data)
                (thief.root / name).chmod(0o600)
            if has_own_heir:
                identity.rotate(thief, 0)
            node = await market.start(index)
            await market.connect(node, asker)
            refused = await known(asker, peer_of(node), PeerPhase.REFUSED)
            assert "was replaced: its node goes on as" in refused.refused_because
            assert (peer_of(node) == old) == (not has_own_heir)


@pytest.mark.parametrize("heir_is_known", [True, False])
async def test_who_has_the_key_of_an_old_name_gets_no_answer_whatever_it_leaves_unsaid(
    tmp_path: Path, *, heir_is_known: bool
) -> None:
    """Also when the heir was away so long that it is forgotten: what it owes is not, nor whose it is."""
    async with Market(tmp_path, 2, build=first_asks) as market:
        provider, old = market.nodes[0], Signer(market.nodes[1].services.identity.seed())
        await done(market)
        await known(provider, old.peer_id, PeerPhase.GREETED)
        heir = await rotated(market, 1)
        await known(provider, peer_of(heir), PeerPhase.GREETED)
        if not heir_is_known:
            await heir.stop()
            provider.services.node.tell(Told(ForgetWished(peer_of(heir)), "test"))
            await until(provider.state, lambda state: not state.membership.heirs)
        answered: list[PeerId] = []
        for who in (old, Signer(b"\x08" * 32)):  # the second shows when the first would have been answered

            def hear(event: NetworkEvent, who: Signer = who) -> None:
                said = read_frame(event.frame) if isinstance(event, FrameReceived) else None
                if isinstance(said, Envelope) and isinstance(said.message, Probe) and said.message.reply:
                    answered.append(who.peer_id)

            network = market.fabric.network(who.peer_id, CONFIG.network.topic)
            await network.start(hear)
            await network.dial((f"/memory/{peer_of(provider)}/p2p/{peer_of(provider)}",))
            now = provider.services.clock()
            probe = Probe(7, now=now)  # and no hello, which would be refused with the reason
            network.send(
                peer_of(provider),
                seal(who, probe, id=MessageId(bytes(16)), sent=now, ttl_ms=60_000, to=peer_of(provider)),
            )
        await until(lambda: answered, bool)
        assert answered == [who.peer_id]


async def test_a_hello_whose_names_are_not_proven_is_refused_and_takes_nothing(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=first_asks) as market:
        asker, victim = market.nodes[0], market.nodes[1].services.identity
        await done(market)
        liar = Signer(b"\x07" * 32)
        names = victim.node_id
        forged = succeed(liar, liar, names.uuid, 0)
        record = msgspec.structs.replace(forged, old=names.peer_id)
        hello = (await asker.state()).membership.hello
        said = msgspec.structs.replace(hello, uuid=names.uuid, successions=(record,), now=asker.services.clock())
        network = market.fabric.network(liar.peer_id, CONFIG.network.topic)
        await network.start(lambda _event: None)
        await network.dial((f"/memory/{peer_of(asker)}/p2p/{peer_of(asker)}",))
        network.send(
            peer_of(asker), seal(liar, said, id=MessageId(bytes(16)), sent=said.now, ttl_ms=60_000, to=peer_of(asker))
        )

        refused = await known(asker, liar.peer_id, PeerPhase.REFUSED)

        assert refused.refused_because == "its identity is not proven: succession 1 is not signed by the old key"
        assert kept(await asker.state()) == {names.peer_id: 1}
        await known(asker, names.peer_id, PeerPhase.GREETED)
        await network.stop()


async def test_a_key_is_not_replaced_while_the_node_runs_or_owes_anything(tmp_path: Path) -> None:
    async with Market(tmp_path, 2, build=first_asks) as market:
        asker = market.nodes[0]
        with pytest.raises(MachineError) as caught:
            await rotate_key(asker.services.home)
        assert (caught.value.code, caught.value.hint) == ("home_in_use", "stop the node first: `dms down`")

        terms = market.terms("wait")
        await submit(asker.services, terms)
        await until(market.nodes[1].services.allocations.ids, bool)
        before = asker.services.home.identity_key.read_bytes()
        await market.crash(0)
        with pytest.raises(UserError, match="1 job and 0 allocations are under way"):
            await rotate_key(asker.services.home)
        assert asker.services.home.identity_key.read_bytes() == before
        await market.rejoin(0)
