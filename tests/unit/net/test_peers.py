"""The table of peers, where one goes and comes back while it is being dealt with."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from dms.net.bridge import Bridge
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.guards.yamux import YamuxHooks
from dms.net.host import Host
from dms.net.link import Link
from dms.net.peers import REOPEN_S, Peers
from dms.testing.yamux_pairs import RecordingHooks, safe, yamux_pair


class Connected(Host):
    """A host with the connections that the test gives it."""

    there: tuple[Any, ...] = ()

    def connections(self, peer_id: str) -> list[Any]:
        return list(self.there)

    async def open_stream(self, connection: Any, protocol: str) -> Any:
        return SimpleNamespace(muxed_stream=await connection.muxed_conn.open_stream())


def test_a_peer_that_was_lost_and_is_back_before_its_stream_is_opened_again_gets_the_stream_of_its_new_link() -> None:
    """Else it counts as up, and what is sent to it and what it sends goes nowhere, for good."""

    async def main(pipe: socket.socket) -> None:
        make = safe(RecordingHooks())
        async with yamux_pair(make, make) as (there, _), trio.open_nursery() as nursery:
            host = Connected(NetConfig(private_key=os.urandom(32)), Counters(), YamuxHooks())
            peers, peer = Peers(host, Bridge(pipe)), there.peer_id.to_base58()
            peers.start(nursery)
            lost = peers._links[peer] = Link(peer, peers)
            peers._open(lost, REOPEN_S)
            await trio.sleep(REOPEN_S / 2)
            peers._drop(lost, "lost")
            host.there = (SimpleNamespace(muxed_conn=there),)
            await peers.connected(host.swarm, host.there[0])
            await trio.sleep(REOPEN_S)
            streams = [link.outbound is not None for link in (lost, peers._links[peer])]
            peers.say_bye()
            nursery.cancel_scope.cancel()
        assert streams == [False, True]

    ours, theirs = socket.socketpair()
    with ours, theirs:
        trio.run(main, ours, clock=trio.testing.MockClock(autojump_threshold=0.05))
