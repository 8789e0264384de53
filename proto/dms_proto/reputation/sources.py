"""Where an identity is: the part of the network that one owner can fill with identities at no cost.

An IPv4 address stands for its /24, an IPv6 address for its /48: the smallest blocks that are usually handed out; an IPv6 address that is made of an
IPv4 address, for that one. It is the address that the connection comes from, never one that the peer claims. An address that is not public stands for
itself: the machines of a home are not a crowd. Only where
votes are counted all of them are one, since who is in such a network has as many as it likes.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from dms_proto.scope import underlying

UNKNOWN: Final = ""
"""The one source of all whose address is not known."""
PRIVATE: Final = "private"
"""The one place of all whose address is not public, where their votes are counted."""
REMEMBERED: Final = 4_096
"""Addresses that need not be read again: a peer's is asked for with each of its bids, and reading one takes as long as checking a signature."""
_PREFIX: Final = {4: 24, 6: 48}


@lru_cache(maxsize=REMEMBERED)
def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. What is none counts as public: nothing is known of who is there."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    return underlying(ip).is_global


@lru_cache(maxsize=REMEMBERED)
def source_of(address: str) -> str:
    """The source of an IP address: ``203.0.113.0/24``; `UNKNOWN` for what is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    ip = underlying(ip)
    if not ip.is_global:
        return str(ip)
    return str(ipaddress.ip_network(f"{ip}/{_PREFIX[ip.version]}", strict=False))


def place_of(source: str) -> str:
    """What two votes may not have in common: a source, or that both come from addresses that are not public."""
    return PRIVATE if source and not is_public(source) else source
