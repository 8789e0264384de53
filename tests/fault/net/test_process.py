"""The network process dies, is orphaned, or finds its port taken; the node's side of it."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dms.net import client
from dms.net.client import NetworkProcess
from dms.net.config import NetConfig, RateLimit
from dms.net.launching import launch
from dms.net.pipe import cost
from dms.net.windows import PEER_SHARE
from dms.testing.live_networks import TOPIC, Crew, LiveMember, free_port
from dms.testing.network_contract import PATIENCE_S, Recorder
from dms_actors.ports import FrameReceived, GossipReceived, NetworkDown, NetworkUp, PeerDown, PeerUp
from dms_proto.errors import MachineError, PeerError
from dms_proto.ids import peer_id_of
from dms_proto.wire.scores import MUTE_AT, POINTS, Offence

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
STOCK_HOST = Path(__file__).with_name("stock_host.py")


async def killed_and_back(member: LiveMember) -> None:
    """Kills the process with -9 and waits until it listens again."""
    ups = len(member.seen.of(NetworkUp))
    pid = member.network.pid
    os.kill(pid, signal.SIGKILL)
    await member.seen.until(lambda: len(member.seen.of(NetworkUp)) > ups)
    assert member.network.pid not in (0, pid)


async def test_killed_it_comes_back_as_the_same_node_at_the_same_address_and_finds_its_peers(crew: Crew) -> None:
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    await killed_and_back(ann)
    assert ann.seen.of(NetworkUp)[0].addresses == ann.addresses
    await ann.seen.until(lambda: len(ann.seen.of(PeerUp)) == 2)
    story = [e for e in ann.seen.events if isinstance(e, NetworkDown | NetworkUp | PeerDown | PeerUp)]
    assert [type(event) for event in story] == [PeerUp, NetworkDown, PeerDown, NetworkUp, PeerUp]
    assert story[2] == PeerDown(bob.peer, "network_down")
    await bob.seen.until(lambda: len(bob.seen.of(PeerUp)) == 2)
    assert ann.network.send(bob.peer, b"work goes on")
    await bob.seen.first(FrameReceived, lambda event: event.frame == b"work goes on")


async def test_where_it_cannot_be_started_again_it_is_tried_until_it_can(crew: Crew) -> None:
    """Nothing was caught there: the node went on without a network, and said nothing."""
    ann, said = await crew(), Said("the network process cannot be started: Too many open files")
    client.logger.addHandler(said)
    opened, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        os.kill(ann.network.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            await said.once.wait()
    finally:
        client.logger.removeHandler(said)
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened, most))
    await ann.seen.first(NetworkUp)


class Said(logging.Handler):
    """Waits for a line of the log."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.once = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self.once.set()


async def test_killed_while_asked_it_answers_with_network_down(crew: Crew) -> None:
    ann = await crew()
    asked = asyncio.ensure_future(
        ann.network.dial([f"/ip4/192.0.2.1/tcp/9/p2p/{ann.peer[:-1]}x"[:200]] and [_nowhere()])
    )
    await ann.network.stats()
    await killed_and_back(ann)
    with pytest.raises(MachineError) as caught:
        await asked
    assert caught.value.code == "network_down"
    assert caught.value.retryable


async def test_bans_outlive_the_process_and_lifted_ones_stay_lifted(crew: Crew) -> None:
    ann, bob, cid, eve = await crew(), await crew(), await crew(), await crew()
    for other in (bob, cid):
        await ann.connect(other)
        ann.network.ban(other.peer, 600)
        await other.seen.first(PeerDown)
    ann.network.ban(cid.peer, 0)
    os.kill(ann.network.pid, signal.SIGKILL)
    await ann.seen.first(NetworkDown)
    ann.network.ban(eve.peer, 600)  # while no process is there
    await ann.seen.first(NetworkUp)
    for other in (bob, eve):
        with pytest.raises(PeerError, match="banned here"):
            await ann.network.dial(other.addresses)
        with pytest.raises(PeerError):
            await other.network.dial(ann.addresses)
    await ann.connect(cid)


async def test_a_ban_for_abuse_outlives_the_process(crew: Crew) -> None:
    ann, bob = await crew(frame_limit=RateLimit(frames_per_s=1, frames_burst=20)), await crew()
    await bob.connect(ann)
    for _turn in range(20 + 2 * MUTE_AT // POINTS[Offence.FLOODED]):
        bob.network.send(ann.peer, b"too much")
    assert (await ann.seen.first(PeerDown)).reason == "banned"
    await killed_and_back(ann)
    with pytest.raises(PeerError, match="banned here"):
        await ann.network.dial(bob.addresses)


def _nowhere() -> str:
    """An address that never answers (RFC 5737), so that dialling it takes its time."""
    return f"/ip4/192.0.2.1/tcp/9/p2p/{peer_id_of(os.urandom(32))}"


async def test_after_a_restart_with_the_same_key_gossip_arrives_at_once(crew: Crew) -> None:
    """Stock: sequence numbers start at the start second plus a count, so what follows a busy life is taken for old: 4 of 40 arrive."""
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    await _gossip(ann, bob, [b"before %d" % n for n in range(40)])
    await killed_and_back(ann)
    await ann.seen.until(lambda: len(ann.seen.of(PeerUp)) == 2)
    await bob.seen.until(lambda: len(bob.seen.of(PeerUp)) == 2)
    await _gossip(ann, bob, [b"after %d" % n for n in range(40)])


async def _gossip(ann: LiveMember, bob: LiveMember, messages: list[bytes]) -> None:
    """Publishes; all must arrive, the first as soon as the subscriptions have crossed."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(event.frame == b"probe %d" % id(messages) for event in bob.seen.of(GossipReceived)):
            ann.network.publish(TOPIC, b"probe %d" % id(messages))
            await asyncio.sleep(0.1)
    for message in messages:
        assert ann.network.publish(TOPIC, message)
    await bob.seen.until(lambda: set(messages) <= {event.frame for event in bob.seen.of(GossipReceived)})


async def test_a_taken_port_is_told_and_nothing_is_left_running(crew: Crew) -> None:
    """Stock: the listener sets SO_REUSEPORT, so the second one starts without an error and takes half of the connections."""
    ann = await crew()
    second = NetworkProcess(NetConfig(private_key=os.urandom(32), listen=(ann.addresses[0].split("/p2p/")[0],)))
    with pytest.raises(MachineError) as caught:
        await second.start(Recorder())
    assert caught.value.code == "port_in_use"
    assert caught.value.hint
    assert second.pid == 0


async def test_one_taken_address_of_several_is_told_by_name(crew: Crew) -> None:
    taken = (await crew()).addresses[0].split("/p2p/")[0]
    second = NetworkProcess(NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.2/tcp/0", taken)))
    with pytest.raises(MachineError, match=f"cannot listen on {taken}") as caught:
        await second.start(Recorder())
    assert caught.value.code == "port_in_use"


def test_two_stock_hosts_share_a_port_without_an_error() -> None:
    port = str(free_port())
    hosts = [
        subprocess.Popen(
            [sys.executable, "-P", str(STOCK_HOST), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        addresses = [host.stdout.readline().strip() for host in hosts if host.stdout]
        assert all(f"/tcp/{port}/" in address for address in addresses)
    finally:
        for host in hosts:
            host.kill()
            host.communicate()


async def test_one_that_was_launched_beforehand_is_the_first() -> None:
    with launch() as launched:
        network = NetworkProcess(NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",)), launched)
        await network.start(lambda _event: None)
        assert network.pid == launched.process.pid
        await network.stop()
    assert not psutil.pid_exists(launched.process.pid)


def test_one_that_nobody_took_ends_with_its_context() -> None:
    with launch() as launched:
        assert psutil.pid_exists(launched.process.pid)
    assert not psutil.pid_exists(launched.process.pid)


async def test_it_does_not_outlive_a_killed_node() -> None:
    code = (
        "import asyncio, os\n"
        "from dms.net.client import NetworkProcess\n"
        "from dms.net.config import NetConfig\n"
        "async def main():\n"
        "    network = NetworkProcess(NetConfig(private_key=os.urandom(32), listen=('/ip4/127.0.0.1/tcp/0',)))\n"
        "    await network.start(print)\n"
        "    print(network.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    node = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", code, stdout=asyncio.subprocess.PIPE)
    assert node.stdout is not None
    pid = int(await node.stdout.readline())
    assert psutil.pid_exists(pid)
    node.kill()
    await node.wait()
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_key_is_neither_in_the_arguments_nor_in_the_environment(crew: Crew) -> None:
    key = bytes(range(32))
    ann = await crew(private_key=key)
    process = psutil.Process(ann.network.pid)
    assert len(process.cmdline()) == 6  # the two descriptors are the last
    assert not any(
        key.hex() in value or "KEY" in name for name, value in process.environ().items() if name.startswith("DMS")
    )


async def test_a_node_that_takes_nothing_stops_the_reading_instead_of_filling_memory(crew: Crew) -> None:
    """The pipe's credit: a stalled node makes its network process stop reading, and the sender's queue says no."""
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    before = psutil.Process(bob.network.pid).memory_info().rss
    took, waiting = bob.network.took, list[FrameReceived | GossipReceived]()
    bob.network.took = waiting.append  # type: ignore[method-assign] - as if the node never got to its messages
    frame, sent, refused_in_a_row = bytes(200 * 1024), 0, 0
    while refused_in_a_row < 50:
        if ann.network.send(bob.peer, frame):
            sent, refused_in_a_row = sent + 1, 0
        else:
            refused_in_a_row += 1
            await asyncio.sleep(0.01)
        assert sent < 500, "nothing stops the sender"
    assert psutil.Process(bob.network.pid).memory_info().rss - before < 16 * 1024 * 1024
    bob.network.took = took  # type: ignore[method-assign]
    await asyncio.to_thread(lambda: [took(heard) for heard in waiting])  # as a node does, from another thread
    await bob.seen.until(lambda: len(bob.seen.of(FrameReceived)) == sent)


async def test_a_peer_with_enough_waiting_at_the_node_is_not_read_further_and_others_are_heard(crew: Crew) -> None:
    ann, bob, eve = await crew(), await crew(), await crew()
    await ann.connect(bob)
    await eve.connect(bob)
    took, waiting = bob.network.took, list[FrameReceived]()

    def took_what_is_not_of_eve(heard: FrameReceived | GossipReceived) -> None:
        if isinstance(heard, FrameReceived) and heard.peer == eve.peer:
            waiting.append(heard)
        else:
            took(heard)

    bob.network.took = took_what_is_not_of_eve  # type: ignore[method-assign] - as if the node had not got to them yet
    share = NetConfig(private_key=bytes(32)).pipe_window // PEER_SHARE
    sizes = [1_000] * (share // 1_000)
    assert all(eve.network.send(bob.peer, bytes(size)) for size in [*sizes, *sizes])
    for number in range(3 * len(sizes)):
        assert ann.network.send(bob.peer, b"%1000d" % number)
    await bob.seen.until(lambda: sum(event.peer == ann.peer for event in bob.seen.of(FrameReceived)) == 3 * len(sizes))
    assert share <= sum(cost(heard.frame) for heard in waiting) < share + cost(bytes(1_000))
    heard, bob.network.took = tuple(waiting), took  # type: ignore[method-assign]
    for one in heard:
        took(one)
    await bob.seen.until(lambda: sum(event.peer == eve.peer for event in bob.seen.of(FrameReceived)) == 2 * len(sizes))
