"""Where an identity is: the part of the network that one owner can fill with identities at no cost.

An IPv4 address stands for its /24, an IPv6 address for its /48: the smallest blocks that are usually handed out. It is the address that the
connection comes from, never one that the peer claims. An address that is not public stands for itself: the machines of a home are not a crowd.
"""

from __future__ import annotations

import ipaddress
from typing import Final

UNKNOWN: Final = ""
"""The one source of all whose address is not known."""
_PREFIX: Final = {4: 24, 6: 48}


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. What is none counts as public: nothing is known of who is there."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_global


def source_of(address: str) -> str:
    """The source of an IP address: ``203.0.113.0/24``; `UNKNOWN` for what is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if not ip.is_global:
        return str(ip)
    return str(ipaddress.ip_network(f"{ip}/{_PREFIX[ip.version]}", strict=False))
