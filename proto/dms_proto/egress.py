"""Egress: the ways out of a job, whose sandbox has no network. Where it may connect to, and which addresses are never meant. Pure.

A destination is a host and a TCP port: "pypi.org:443", "*.pythonhosted.org:443" for every name below one, "*:443" for every host. A job asks
for destinations, the owner of a machine allows some; a connection has to be of both. What a name leads to is looked at as well: see `is_public`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final

import msgspec

from dms_proto.rules import Amount, Line, cut_lines

MAX_EGRESS: Final = 16
"""Most destinations that a job may ask for: a request names them, and has to be small."""
MAX_ALLOWED: Final = 256
"""Most that an owner may allow."""
MAX_BARRED: Final = 32
"""Refusals that are written down of one run, each destination and reason once."""
MOST_PORT: Final = 65_535
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*"
"""A name, or an IPv4 address."""
PATTERN: Final = rf"^(?:\*|(?:\*\.)?{HOST}):[1-9][0-9]{{0,4}}\Z"
Destination = Annotated[str, msgspec.Meta(pattern=PATTERN, max_length=260)]
"""Lower case."""

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")


class Egress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ways out that a machine offers, or that a job needs.

    Attributes:
        destinations: offered: what its owner allows; needed: every one that has to be.
        most_bytes: in both directions together, in one run: the most that may be, or the least that will do.
    """

    destinations: Annotated[tuple[Destination, ...], msgspec.Meta(max_length=MAX_ALLOWED)] = ()
    most_bytes: Amount = 0


NO_EGRESS: Final = Egress()


class Barred(msgspec.Struct, frozen=True):
    """A connection that was refused.

    Attributes:
        destination: where to, exactly.
        why: in words.
    """

    destination: Line
    why: Line

    def __post_init__(self) -> None:
        cut_lines(self, "destination", "why")


def covers(allowed: str, wanted: str) -> bool:
    """Whether whatever `wanted` means is meant by `allowed` too. Both are destinations."""
    host, _, port = allowed.rpartition(":")
    their_host, _, their_port = wanted.rpartition(":")
    if port != their_port:
        return False
    return host in ("*", their_host) or (host.startswith("*.") and their_host.endswith(host[1:]))


def is_within(wanted: str, allowed: Iterable[str]) -> bool:
    """Whether one of those covers it."""
    return any(covers(one, wanted) for one in allowed)


def read_destination(text: str) -> str:
    """A destination as people write it.

    Raises:
        ValueError: it is none.
    """
    host, _, port = text.strip().lower().rpartition(":")
    written = f"{host}:{port}"
    try:
        msgspec.convert(written, Destination)
    except msgspec.ValidationError:
        raise ValueError(f"{text!r} is no HOST:PORT, such as pypi.org:443 or *.pythonhosted.org:443") from None
    if int(port) > MOST_PORT:
        raise ValueError(f"{text!r}: a port is at most {MOST_PORT}")
    return written


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet: not of this machine, of its network, or a way of writing one of those.

    By the registries of special addresses (RFC 6890). An IPv6 address that stands for an IPv4 address is what that is.
    """
    found = _plain(ip_address(address))
    if isinstance(found, IPv6Address) and (found not in _GLOBAL_UNICAST or found in _6TO4 or found in _TEREDO):
        return False
    return found.is_global and not found.is_multicast


def is_of(address: str, networks: Collection[str]) -> bool:
    """Whether an address lies in one of these networks, written "10.1.0.0/16"."""
    found = _plain(ip_address(address))
    return any(found in ip_network(network) for network in networks)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that is meant, where an IPv6 address stands for one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
