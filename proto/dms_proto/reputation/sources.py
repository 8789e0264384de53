"""Where an identity is: the part of the network that one owner can fill with identities at no cost.

An IPv4 address stands for its /24, an IPv6 address for its /48: the smallest blocks that are usually handed out; an IPv6 address that is made of an
IPv4 address, for that one. It is the address that the connection comes from, never one that the peer claims. An address that is not public stands for
itself: the machines of a home are not a crowd. Only where
votes are counted all of them are one, since who is in such a network has as many as it likes.
"""

from __future__ import annotations

import ipaddress
from typing import Final

UNKNOWN: Final = ""
"""The one source of all whose address is not known."""
PRIVATE: Final = "private"
"""The one place of all whose address is not public, where their votes are counted."""
_PREFIX: Final = {4: 24, 6: 48}
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The well-known prefix of RFC 6052: the last four bytes are an IPv4 address."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. What is none counts as public: nothing is known of who is there."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    return _underlying(ip).is_global


def source_of(address: str) -> str:
    """The source of an IP address: ``203.0.113.0/24``; `UNKNOWN` for what is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    ip = _underlying(ip)
    if not ip.is_global:
        return str(ip)
    return str(ipaddress.ip_network(f"{ip}/{_PREFIX[ip.version]}", strict=False))


def place_of(source: str) -> str:
    """What two votes may not have in common: a source, or that both come from addresses that are not public."""
    return PRIVATE if source and not is_public(source) else source


def _underlying(ip: _Address) -> _Address:
    """The IPv4 address that an IPv6 address is made of (mapped, 6to4, Teredo, NAT64): who has the one has a block of the other for nothing."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
