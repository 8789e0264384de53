"""What a program asks of the proxy: CONNECT, or a request for an http:// address, as HTTP/1.1 has it (RFC 9112, 3.2). Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from dms_proto.egress import HOST, MOST_PORT

_CONNECT: Final = re.compile(rb"CONNECT ([^ ]+) HTTP/1\.[01]")
_ABSOLUTE: Final = re.compile(rb"([A-Z]+) (?i:http)://([^/?# ]+)([^ #]*) HTTP/1\.[01]")
_AUTHORITY: Final = re.compile(rf"({HOST})(?::([1-9][0-9]{{0,4}}))?")
_HTTP: Final = 80
_HOP: Final = frozenset({b"connection", b"keep-alive"})
"""Headers that are for the proxy alone, beside those that begin with proxy-."""


class Asked(NamedTuple):
    """A connection that is wanted.

    Attributes:
        host: a name or an IPv4 address, in lower case.
        port: there.
        opening: what is sent there first; empty for CONNECT, where the program itself speaks.
    """

    host: str
    port: int
    opening: bytes = b""

    @property
    def destination(self) -> str:
        """As destinations are written."""
        return f"{self.host}:{self.port}"


def read_head(head: bytes) -> Asked:
    """What is asked for.

    Args:
        head: request line and headers, up to and with the empty line.

    Raises:
        ValueError: nothing this proxy does; in words.
    """
    line, *headers = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if (connect := _CONNECT.fullmatch(line)) is not None:
        return Asked(*_authority(connect[1], 0))
    absolute = _ABSOLUTE.fullmatch(line)
    if absolute is None:
        raise ValueError("this proxy does CONNECT, and requests for http:// addresses")
    method, authority, path = absolute.groups()
    host, port = _authority(authority, _HTTP)
    # One request for each connection: the next one may be for another host, and what follows is not read here.
    kept = [one for one in headers if not _is_for_the_proxy(one)]
    first = method + b" " + (path if path.startswith(b"/") else b"/" + path) + b" HTTP/1.1"
    return Asked(host, port, b"\r\n".join((first, *kept, b"Connection: close", b"", b"")))


def _authority(text: bytes, usual: int) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(text.decode("ascii", "replace").lower())
    port = int(found[2] or usual) if found else 0
    if found is None or not 0 < port <= MOST_PORT:
        raise ValueError(f"{ascii(text[:100])[1:]} is no HOST:PORT; a host is a name or an IPv4 address")
    return found[1], port


def _is_for_the_proxy(header: bytes) -> bool:
    name = header.partition(b":")[0].strip().lower()
    return name in _HOP or name.startswith(b"proxy-")
