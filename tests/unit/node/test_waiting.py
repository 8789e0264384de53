"""Frames for peers that are being dialled: however many identities and addresses somebody makes up, few wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dms.config import Home
from dms.node.post import LEARNED, NodePost
from dms.node.reaching import Reaching
from dms.node.sealing import Sealer
from dms.node.waiting import MAX_OF_PEER, MAX_PEERS, Waiting
from dms.testing.samples import PROVIDER
from dms.trust.wallet import Wallet
from dms_actors.loop_calls import LoopCalls
from dms_actors.testing.network import MemoryFabric
from dms_proto.ids import PeerId
from dms_proto.messages import Probe

NOW = 1_800_000_000_000
A, B = PeerId("a"), PeerId("b")


def test_what_waits_is_given_once_in_its_order_without_what_has_expired() -> None:
    waiting = Waiting()
    for number in range(3):
        assert waiting.keep(A, b"%d" % number, 0, 10 + number)
    assert waiting.take(A, 10) == [b"1", b"2"]
    assert waiting.take(A, 10) == []
    assert len(waiting) == 0


def test_of_one_peer_the_newest_wait() -> None:
    waiting = Waiting()
    for number in range(MAX_OF_PEER + 5):
        assert waiting.keep(A, b"%d" % number, 0, 10)
    assert waiting.take(A, 0) == [b"%d" % number for number in range(5, MAX_OF_PEER + 5)]


def test_for_one_peer_more_than_may_wait_nothing_does_until_one_was_reached_or_its_frames_have_expired() -> None:
    waiting = Waiting(most_peers=1)
    assert waiting.keep(A, b"", 0, 10)
    assert not waiting.keep(B, b"", 9, 19)
    assert waiting.keep(A, b"", 9, 12)
    assert waiting.keep(B, b"", 12, 22)
    waiting.take(B, 12)
    assert waiting.keep(A, b"", 12, 22)


def test_all_together_have_so_many_bytes() -> None:
    waiting = Waiting(most_bytes=10)
    assert waiting.keep(A, bytes(6), 0, 10)
    assert not waiting.keep(B, bytes(5), 0, 10)
    assert waiting.keep(B, bytes(4), 0, 10)
    waiting.take(A, 0)
    assert waiting.keep(A, bytes(6), 0, 10)


async def test_a_node_dials_few_at_a_time_and_remembers_few_addresses(tmp_path: Path) -> None:
    """Of identities that were made up, at addresses where nobody is."""
    loop, home = asyncio.get_running_loop(), Home(tmp_path / "home")
    home.prepare()
    network = MemoryFabric().network(PROVIDER.peer_id)
    post = NodePost(
        signer=PROVIDER,
        me=PROVIDER.peer_id,
        topic="public",
        network=network,
        reaching=Reaching(PROVIDER.peer_id, network),
        clock=lambda: NOW,
        loop=loop,
        calls=LoopCalls(loop),
        sealer=Sealer(bytes(32), PROVIDER.peer_id),
        wallet=Wallet(home, PROVIDER.peer_id),
        forgive_s=30,
    )
    for number in range(LEARNED + 100):
        post._learn(PeerId(f"peer {number}"), ("/ip4/192.0.2.1/tcp/4001",))
    assert len(post._addresses) == LEARNED
    frame = post._sealed(Probe(1), "", to=PROVIDER.peer_id)
    assert frame is not None
    for number in range(LEARNED + 100):
        post._send(PeerId(f"peer {number}"), frame)
    assert len(post._waiting) == len(post._dials) == MAX_PEERS
    assert post.dropped == LEARNED + 100 - MAX_PEERS
    await post.close()
