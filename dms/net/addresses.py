"""Multiaddrs as text: what to announce, and where to dial. Neither trio nor libp2p is needed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from dms_proto.ids import public_key_of
from dms_proto.scope import Scope, scope_of

_PROBE: Final = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Documentation addresses (RFC 5737, RFC 3849): connecting a datagram socket sends nothing, it only asks the routing table."""


class Target(msgspec.Struct, frozen=True):
    """Where to dial.

    Attributes:
        host: IP address or name.
        port: TCP port.
        peer: who must answer there, base58; empty if the address does not say.
        family: "ip4", "ip6", "dns", "dns4" or "dns6".
    """

    host: str
    port: int
    peer: str
    family: str

    def multiaddr(self, ip: str) -> str:
        """The address with the name resolved to `ip`, without /p2p."""
        return f"/{'ip6' if ':' in ip else 'ip4'}/{ip}/tcp/{self.port}"


def parse(address: str) -> Target:
    """Reads ``/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/PEER]``.

    Raises:
        ValueError: anything else; the message names the part.
    """
    parts = address.strip().split("/")
    if (
        len(parts) not in (5, 7)
        or parts[0]
        or parts[3] != "tcp"
        or parts[1] not in ("ip4", "ip6", "dns", "dns4", "dns6")
    ):
        raise ValueError(f"{address!r} is not of the form /ip4/HOST/tcp/PORT/p2p/PEER")
    if parts[1] in ("ip4", "ip6"):
        version = ipaddress.ip_address(parts[2]).version
        if f"ip{version}" != parts[1]:
            raise ValueError(f"{address!r}: {parts[2]} is not an {parts[1]} address")
    elif not 0 < len(parts[2]) <= 253:
        raise ValueError(f"{address!r}: no host name")
    if not parts[4].isdecimal() or not 0 <= int(parts[4]) <= 65535:
        raise ValueError(f"{address!r}: {parts[4]!r} is not a port")
    peer = ""
    if len(parts) == 7:
        if parts[5] != "p2p":
            raise ValueError(f"{address!r}: /{parts[5]} is not supported")
        peer = parts[6]
        public_key_of(peer)
    return Target(parts[2], int(parts[4]), peer, parts[1])


def scope(address: str) -> Scope | None:
    """From where `address` can be dialled, by what it says: a name counts as known everywhere. None: not an internet address."""
    try:
        target = parse(address)
    except ValueError:
        return None
    if target.family.startswith("dns"):
        return Scope.MACHINE if target.host == "localhost" else Scope.INTERNET
    return scope_of(target.host)


def from_where(remote: str) -> Scope:
    """The scope in which a peer is, by the IP address that it is connected from; the narrowest, where that is not known."""
    return scope_of(remote) if remote else Scope.MACHINE


def announced(configured: Sequence[str], listening: Iterable[str]) -> list[str]:
    """The addresses to tell others, without /p2p: those configured, else the bound ones with a wildcard replaced by the way out."""
    if configured:
        return [address.split("/p2p/")[0] for address in configured]
    return [_reachable(parse(address)) for address in listening]


def _reachable(bound: Target) -> str:
    """The bound address, or for a wildcard the address of the default route; loopback when there is no route."""
    ip = ipaddress.ip_address(bound.host)
    return bound.multiaddr(_way_out(ip.version) if ip.is_unspecified else bound.host)


def _way_out(version: int) -> str:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_PROBE[family])
            return str(probe.getsockname()[0])
    except OSError:
        return "::1" if version == 6 else "127.0.0.1"
