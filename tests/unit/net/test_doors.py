"""What the network process remembers of whom it met at its door, and of whom it dials, however many there are."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from dms.net.admission import MAX_PROVEN, Admission
from dms.net.bridge import Bridge
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.dialer import MAX_KEPT, MAX_KNOWN, Dialer
from dms.net.guards.yamux import YamuxHooks
from dms.net.host import Host
from dms.net.peers import Peers
from dms.net.pipe import Redial
from dms_proto.ids import PeerId
from dms_proto.scope import Scope
from dms_proto.wire import Signer
from dms_proto.wire.stamps import day_of, make_stamp

NOBODY = "/ip4/127.0.0.1/tcp/1"


def host(**settings: int) -> Host:
    return Host(NetConfig(private_key=os.urandom(32), **settings), Counters(), YamuxHooks())  # type: ignore[arg-type]


@pytest.fixture
def pipe() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def test_of_those_who_have_shown_their_work_the_last_are_remembered() -> None:
    victim = host(work_bits=1, work_bits_private=1)
    peers = [Signer(number.to_bytes(32, "big")).peer_id for number in range(1, MAX_PROVEN + 11)]
    day = day_of(time.time_ns() // 1_000_000)

    async def show_all() -> Admission:
        admission = Admission(victim)
        for peer in peers:
            stamp = make_stamp(peer, PeerId(victim.peer_id), day, 1)
            assert admission.lacking_work(peer, stamp) is None
        assert [admission.is_admitted(peer) for peer in (*peers[:10], peers[10], peers[-1])] == [False] * 10 + [
            True
        ] * 2
        return admission

    assert len(trio.run(show_all)._proven) == MAX_PROVEN


def test_few_are_dialled_again_at_a_time_and_of_those_reached_the_last_are_remembered(pipe: socket.socket) -> None:
    peers = [Signer(number.to_bytes(32, "big")).peer_id for number in range(1, MAX_KNOWN + 11)]

    async def dial_all() -> None:
        here = host()
        bridge = Bridge(pipe)
        dialer = Dialer(here, Peers(here, bridge), bridge)
        async with trio.open_nursery() as nursery:
            dialer.start(nursery, [Redial((f"{NOBODY}/p2p/{peer}",)) for peer in peers])
            assert len(dialer._keeping) == MAX_KEPT
            for peer in peers:
                dialer._known.keep(peer, (NOBODY,))
            assert len(dialer._known) == MAX_KNOWN
            nursery.cancel_scope.cancel()

    trio.run(dial_all)


def test_a_peer_that_is_dialled_again_leads_no_nearer_than_it_is_itself(pipe: socket.socket) -> None:
    """A name that led elsewhere when it was announced may lead to this machine now."""
    near, far = (Signer(bytes([number]) * 32).peer_id for number in (1, 2))

    async def dial_both(listener: trio.SocketListener) -> list[str]:
        here = host()
        bridge = Bridge(pipe)
        name = f"/dns4/localhost/tcp/{listener.socket.getsockname()[1]}/p2p/"
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                Dialer(here, Peers(here, bridge), bridge).start(
                    nursery, [Redial((name + far,), Scope.INTERNET), Redial((name + near,))]
                )
                first = await listener.accept()
                with trio.move_on_after(0.5):
                    await listener.accept()
                    return ["near", "far"]
                await first.aclose()
                nursery.cancel_scope.cancel()
        return ["near"]

    async def main() -> list[str]:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            return await dial_both(listener)

    assert trio.run(main) == ["near"]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
        yield f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}"


def test_of_those_that_are_seen_on_the_local_network_few_are_dialled_at_a_time(
    pipe: socket.socket, silent: str
) -> None:
    async def see_all() -> None:
        here = host()
        bridge = Bridge(pipe)
        dialer = Dialer(here, Peers(here, bridge), bridge)
        async with trio.open_nursery() as nursery:
            for number in range(1, MAX_KEPT + 11):
                peer = Signer(number.to_bytes(32, "big")).peer_id
                nursery.start_soon(dialer.found, peer, (f"{silent}/p2p/{peer}",))
            await trio.testing.wait_all_tasks_blocked()
            assert len(dialer._under_way) == MAX_KEPT
            nursery.cancel_scope.cancel()

    trio.run(see_all)
