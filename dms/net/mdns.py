"""Finding nodes on the local network by multicast DNS (libp2p mdns specification): `_p2p._udp.local` with `dnsaddr=` records.

Stock fault: libp2p's own mDNS announces the listen address as it stands, so a node that listens on 0.0.0.0 announces 0.0.0.0; and its table
of handlers belongs to the process, not to the host. Here the announced addresses are given, and zeroconf is used directly.

zeroconf runs in a thread of its own; what it finds comes to the trio thread through a token. It is imported only when it is switched on.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from dms.net.addresses import parse

SERVICE: Final = "_p2p._udp.local."
MAX_ADDRESSES: Final = 8
MAX_QUEUED: Final = 64
"""Findings not yet looked at; more are dropped, they are announced again."""

Finding = tuple[str, tuple[str, ...]]

logger = logging.getLogger("dms.net.mdns")


@asynccontextmanager
async def announced_and_watched(
    addresses: Sequence[str], interfaces: Sequence[str], on_found: Callable[[str, tuple[str, ...]], Awaitable[None]]
) -> AsyncIterator[None]:
    """Announces `addresses` (ending in /p2p/PEER) and reports other nodes while the block is entered.

    A machine without multicast is not an error: it is logged, and nothing is found.
    """
    send, receive = trio.open_memory_channel[Finding](MAX_QUEUED)
    token = trio.lowlevel.current_trio_token()

    def report(finding: Finding) -> None:
        """Called on zeroconf's thread."""
        try:
            token.run_sync_soon(_offer, send, finding)
        except trio.RunFinishedError:
            logger.debug("found a peer while ending")

    async def deliver() -> None:
        async for peer, known in receive:
            nursery.start_soon(on_found, peer, known)

    try:
        zeroconf = await trio.to_thread.run_sync(_start, tuple(addresses), tuple(interfaces), report)
    except OSError as error:
        logger.warning("no multicast DNS on this machine: %s", error)
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2):
                await trio.to_thread.run_sync(zeroconf.close)
            nursery.cancel_scope.cancel()


def _offer(send: trio.MemorySendChannel[Finding], finding: Finding) -> None:
    try:
        send.send_nowait(finding)
    except trio.WouldBlock:
        logger.debug("more findings than can be looked at")


def _start(addresses: tuple[str, ...], interfaces: tuple[str, ...], report: Callable[[Finding], None]) -> Any:
    """Announces and browses; gives the Zeroconf object to close."""
    import zeroconf  # noqa: PLC0415 - only where mDNS is on: it costs 6 MB

    instance = zeroconf.Zeroconf(interfaces=list(interfaces) or zeroconf.InterfaceChoice.All)
    name = f"{secrets.token_hex(16)}.{SERVICE}"
    target = parse(addresses[0])
    properties = {f"dnsaddr{index or ''}": address for index, address in enumerate(addresses[:MAX_ADDRESSES])}
    info = zeroconf.ServiceInfo(SERVICE, name, port=target.port, properties=properties, parsed_addresses=[target.host])
    instance.register_service(info)
    zeroconf.ServiceBrowser(instance, SERVICE, listener=_Listener(instance.get_service_info, name, report))  # type: ignore[arg-type]
    return instance


class _Listener:
    """Reads announcements; on zeroconf's thread."""

    def __init__(self, look_up: Callable[[str, str], Any], own_name: str, report: Callable[[Finding], None]) -> None:
        self._look_up = look_up
        self._own_name = own_name
        self._report = report

    def add_service(self, _zeroconf: object, kind: str, name: str) -> None:
        """A node appeared."""
        if name == self._own_name:
            return
        info = self._look_up(kind, name)
        if info is not None:
            for finding in findings(dict(info.properties)):
                self._report(finding)

    def update_service(self, zeroconf: object, kind: str, name: str) -> None:
        """A node changed its announcement."""
        self.add_service(zeroconf, kind, name)

    def remove_service(self, _zeroconf: object, _kind: str, _name: str) -> None:
        """A node left; its connection tells that better."""


def findings(properties: dict[bytes, bytes | None]) -> list[Finding]:
    """Peers and their addresses in the TXT record of an announcement; what is not readable is left out."""
    grouped: dict[str, list[str]] = {}
    for key, value in properties.items():
        if not key.startswith(b"dnsaddr") or value is None or len(value) > 300:
            continue
        try:
            address = value.decode("ascii")
            peer = parse(address).peer
        except ValueError:
            continue
        if peer:
            grouped.setdefault(peer, []).append(address)
    return [(peer, tuple(known[:MAX_ADDRESSES])) for peer, known in grouped.items()]
