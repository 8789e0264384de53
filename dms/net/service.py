"""The network process's main task: puts the parts together, then does what the node says until it closes the pipe."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final

import trio

from dms.net.blobs import Blobs
from dms.net.bridge import Bridge, BridgeLogHandler
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.dialer import Dialer
from dms.net.fetching import Fetching
from dms.net.gossip import Gossip
from dms.net.guards.yamux import YamuxHooks
from dms.net.host import Host
from dms.net.mdns import announced_and_watched
from dms.net.peers import Peers
from dms.net.pipe import (
    AbortTunnel,
    AskStats,
    Ban,
    Banned,
    BlobAnswer,
    Configure,
    Dial,
    Dialled,
    EndFetch,
    Failed,
    Fetch,
    Fetched,
    OpenTunnel,
    Publish,
    Ready,
    Redial,
    RefuseTunnel,
    SendFrame,
    Spare,
    Stats,
    Stop,
    Taken,
    ToNetwork,
    TunnelAnswered,
)
from dms.net.tunnels import Tunnels

FAREWELL_S: Final = 0.05
"""Seconds between saying goodbye and closing, so that peers read it before the end of the connection."""

logger = logging.getLogger("dms.net.service")


class Hooks(YamuxHooks):
    """What the multiplexer reports."""

    def __init__(self, bridge: Bridge, counters: Counters, stall_s: float) -> None:
        self._bridge = bridge
        self._counters = counters
        self.stall_s = stall_s

    def after_read(self) -> None:
        """Passes on what one read from a peer gave."""
        self._bridge.flush()

    def refused(self, kind: str, peer: str, detail: str) -> None:
        """Counts and logs."""
        self._counters.add(kind)
        logger.warning("closed the connection with %s: %s", peer, detail)

    def crashed(self, where: str, error: BaseException) -> None:
        """Counts and logs a defect of ours."""
        self._counters.add("guard.crashes")
        logger.error("contained in %s: %r", where, error, exc_info=error)


class Service:
    """One life of the network process."""

    def __init__(
        self,
        config: NetConfig,
        bridge: Bridge,
        beside: socket.socket,
        bans: Iterable[tuple[str, float]] = (),
        spared: Iterable[tuple[str, float]] = (),
    ) -> None:
        self._bridge = bridge
        self._counters = Counters()
        self._host = Host(config, self._counters, Hooks(bridge, self._counters, config.write_stall_s))
        self._host.on_muted = lambda peer, seconds: bridge.post(Banned(peer, seconds))
        for peer, seconds in bans:
            self._host.bans.add(peer, seconds, trio.current_time())
        self._peers = Peers(self._host, bridge)
        for peer, seconds in spared:
            self._peers.admission.spare(peer, seconds)
        self._gossip = Gossip(self._host, bridge)
        self._blobs = Blobs(self._host, bridge)
        self._fetching = Fetching(self._host, bridge)
        self._tunnels = Tunnels(self._host, bridge, beside)
        self._dialer = Dialer(self._host, self._peers, bridge)

    async def run(self, redial: tuple[Redial, ...]) -> None:
        """Runs until the node says stop or closes the pipe."""
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            await stack.enter_async_context(self._host.run())
            await stack.enter_async_context(self._gossip.run())
            self._peers.start(nursery)
            nursery.start_soon(self._bridge.write_blocked)
            nursery.start_soon(self._tunnels.take_sockets)
            if not await self._listen():
                return
            self._dialer.start(nursery, redial)
            config = self._host.config
            if config.mdns:
                known = [str(address) for address in self._host.get_addrs()]
                await stack.enter_async_context(
                    announced_and_watched(known, config.mdns_interfaces, self._dialer.found)
                )
            await self._obey(nursery)
            self._peers.say_bye()
            await trio.sleep(FAREWELL_S)

    async def _listen(self) -> bool:
        if taken := await self._host.listen():
            hint = "stop that program, or set another port in network.listen (config.toml in the home)"
            self._bridge.send(
                Failed("port_in_use", f"cannot listen on {taken}: it is taken or not an address of this machine", hint)
            )
            return False
        announced = tuple(str(address) for address in self._host.get_addrs())
        self._bridge.send(Ready(tuple(map(str, self._host.get_transport_addrs())), announced))
        return True

    async def _obey(self, nursery: trio.Nursery) -> None:
        while batch := await self._bridge.receive():
            touched: set[str] = set()
            for message in batch:
                if isinstance(message, SendFrame):
                    self._peers.send(message.peer, message.frame)
                    touched.add(message.peer)
                elif isinstance(message, Stop):
                    self._peers.flush(touched)
                    return
                else:
                    self._do(message, nursery)
            self._peers.flush(touched)
            self._bridge.flush()

    def _do(self, message: ToNetwork, nursery: trio.Nursery) -> None:
        match message:
            case Publish(topic, frame):
                self._gossip.publish(topic, frame)
            case Taken(amounts):
                self._bridge.took(sum(amounts.values()))
                self._peers.took(amounts)
            case Dial(request, addresses, least):
                failed = Dialled(request, "", "internal", "a defect of the network process; its log has the details")
                nursery.start_soon(self._answered, failed, self._dialer.dial, request, addresses, least)
            case Fetch(request):
                defect = Fetched(request, "internal", "a defect of the network process; its log has the details")
                nursery.start_soon(self._answered, defect, self._fetching.fetch, message, self._fetching.begin(request))
            case EndFetch(request):
                self._fetching.end(request)
            case BlobAnswer(request, path):
                self._blobs.on_answer(request, path)
            case Ban(peer, seconds):
                self._peers.flush((peer,))  # it may say why
                self._host.ban(peer, seconds)
            case Spare(peer, seconds):
                self._peers.admission.spare(peer, seconds)
            case AskStats(request):
                self._bridge.post(Stats(request, self._figures()))
            case _:
                self._do_tunnels(message, nursery)

    def _do_tunnels(self, message: ToNetwork, nursery: trio.Nursery) -> None:
        match message:
            case OpenTunnel(number, peer, opening):
                defect = TunnelAnswered(number, "internal", "a defect of the network process; its log has the details")
                nursery.start_soon(self._answered, defect, self._tunnels.open, number, peer, opening)
            case RefuseTunnel(number, code, text):
                self._tunnels.on_refused(number, code, text)
            case AbortTunnel(number):
                self._tunnels.abort(number)

    async def _answered(
        self, otherwise: Dialled | Fetched | TunnelAnswered, work: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Does `work`, which answers the node; a defect in it is contained and answered too."""
        try:
            await work(*arguments)
        except Exception as error:  # noqa: BLE001 - the process edge: one request may fail, the others go on
            self._host.crashes.contain(getattr(work, "__name__", "request"), error)
            self._bridge.send(otherwise)

    def _figures(self) -> dict[str, int]:
        figures = dict(self._counters)
        figures["connections"] = self._host.swarm.connection_count()
        figures["peers"] = self._peers.up_count()
        return figures


async def serve(sock: socket.socket, beside: socket.socket) -> None:
    """Runs the network process on its end of the pipe, and of what comes beside it. Returns when the node is done with it.

    Raises:
        ValueError: the first message is not a `Configure`.
    """
    bridge = Bridge(sock)
    batch = await bridge.receive()
    if not batch:
        return
    first = batch[0]
    if not isinstance(first, Configure):
        raise ValueError(f"the pipe began with {type(first).__name__}, not Configure")
    bridge.open(first.config.pipe_window, batch[1:])
    handler = BridgeLogHandler(bridge)
    logging.getLogger("dms").addHandler(handler)
    try:
        beside.setblocking(False)
        await Service(first.config, bridge, beside, first.bans, first.spared).run(first.redial)
    finally:
        logging.getLogger("dms").removeHandler(handler)
