"""From where an address can be reached, and so who may name it to us. Pure.

Whoever names an address has this node connect to it. Who is on the internet has no business with what only this machine, or its own network, can
reach, and could have a whole market knock there. So what one says counts as far as it reaches that place itself: a neighbour names neighbours.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from typing import Final

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The well-known prefix of RFC 6052: the last four bytes are an IPv4 address."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Scope(IntEnum):
    """From where an address can be reached. A wider one is greater."""

    MACHINE = 0
    LOCAL = 1
    INTERNET = 2


def scope_of(ip: str) -> Scope:
    """From where an IP address can be reached.

    Raises:
        ValueError: it is none.
    """
    address = underlying(ipaddress.ip_address(ip))
    if address.is_loopback or address.is_unspecified:  # to connect to 0.0.0.0 is to connect to oneself
        return Scope.MACHINE
    return Scope.INTERNET if address.is_global else Scope.LOCAL


def underlying(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address is made of (mapped, 6to4, Teredo, NAT64): who has the one has a block of the other for nothing."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
