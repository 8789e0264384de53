"""Where HTTP may listen: on loopback with a token, beyond it with TLS as well. Data and rules, without the server that obeys them."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Final

import msgspec

from dms.config.settings import Rpc
from dms_proto.errors import MachineError

IDLE_S: Final = 30.0


class HttpOptions(msgspec.Struct, frozen=True):
    """Where and how to listen.

    Attributes:
        host: address to bind.
        port: 0 lets the system choose.
        certificate: PEM file, or None for plain HTTP.
        key: PEM file of the certificate's key.
        names: further host names by which this node is addressed, beside `host` and those of loopback.
        idle_s: seconds that a caller may take to say a request's head, and again for its body, before the connection is closed.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    idle_s: float = IDLE_S


def options_of(rpc: Rpc) -> HttpOptions:
    """What the settings ask for."""
    certificate, key = (Path(name) if name else None for name in (rpc.tls_certificate, rpc.tls_key))
    return HttpOptions(rpc.host, rpc.port, certificate, key, rpc.names)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def tls_of(options: HttpOptions) -> ssl.SSLContext | None:
    """What the connections are to be encrypted with; None on loopback without TLS files.

    Raises:
        MachineError: `unsafe_bind`: TLS is needed and not set, or half of it is; `store_failed`: its files cannot be read.
    """
    if options.certificate is None and options.key is None:
        if is_loopback(options.host):
            return None
        raise MachineError(
            "unsafe_bind",
            f"{options.host} is not loopback, and without TLS the token would cross the network in the clear",
            hint="set rpc.tls_certificate and rpc.tls_key, or rpc.host to 127.0.0.1",
        )
    if options.certificate is None or options.key is None:
        lacking = "rpc.tls_certificate" if options.certificate is None else "rpc.tls_key"
        raise MachineError(
            "unsafe_bind", f"TLS needs {lacking} too, and nothing is served without it", hint=f"set {lacking}"
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise MachineError("store_failed", f"the TLS files cannot be used: {error}") from error
    return context
