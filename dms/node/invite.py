"""Invitations: a string that leads another machine to this node and its market. It holds addresses and a name, no secret.

::

    dms1: base64url( msgpack [ topic, [address …] ] ‖ first 4 bytes of its SHA-256 )

The checksum is for people who copy by hand; what proves the node is the PeerID at the end of each address.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from dms_proto.errors import UserError
from dms_proto.ids import PeerId, public_key_of
from dms_proto.units import format_count

PREFIX: Final = "dms1:"
MAX_ADDRESSES: Final = 8
_CHECK_BYTES: Final = 4
_HINT: Final = "copy all of what `dms invite` printed on the other machine after `dms join`"


class Invitation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A way into a market.

    Attributes:
        topic: name of the market.
        addresses: where its giver can be dialled, each ending in /p2p/PEER, all of the same peer.
    """

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=256)], ...], msgspec.Meta(min_length=1, max_length=MAX_ADDRESSES)
    ]

    @property
    def peer(self) -> PeerId:
        """Who gave it."""
        return PeerId(self.addresses[0].rpartition("/p2p/")[2])


def make(topic: str, addresses: Sequence[str], me: PeerId) -> str:
    """The invitation to the market `topic` by node `me`.

    Raises:
        UserError: `bad_argument`: there is no address at which the node could be reached.
    """
    named = tuple(a if "/p2p/" in a else f"{a}/p2p/{me}" for a in addresses)[:MAX_ADDRESSES]
    if not named:
        raise UserError(
            "bad_argument",
            "this node listens nowhere, so nobody can be invited",
            hint="dms doctor says why",
            retryable=True,
        )
    body = msgspec.msgpack.encode(Invitation(topic, named))
    return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")


def read(text: str) -> Invitation:
    """What an invitation says.

    Raises:
        UserError: `bad_invite`: damaged, cut off, of a newer form, or no invitation at all.
    """
    text = "".join(text.split())  # terminals and mail wrap long lines
    if not text.startswith(PREFIX):
        newer = text.startswith("dms") and ":" in text[:8]
        what = "of a newer form" if newer else f"not an invitation: those begin with {PREFIX}"
        raise UserError("bad_invite", f"this is {what}", hint="upgrade dms" if newer else _HINT)
    encoded = text.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("bad_invite", f"the invitation is damaged: {error}", hint=_HINT) from error
    body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if _check(body) != check:
        raise UserError("bad_invite", "the invitation is damaged or cut off: its checksum does not match", hint=_HINT)
    try:
        invitation = msgspec.msgpack.decode(body, type=Invitation)
    except msgspec.MsgspecError as error:
        raise UserError("bad_invite", f"the invitation is not understood: {error}", hint=_HINT) from error
    _check_peers(invitation)
    return invitation


def warning(addresses: Sequence[str]) -> str:
    """Why others may not be able to use these addresses; empty when nothing speaks against it."""
    hosts = [_host(address) for address in addresses]
    known = [host for host in hosts if host is not None]
    if not known or len(known) < len(hosts):
        return ""  # a name, which may well be public
    if all(host.is_loopback for host in known):
        return "only this machine itself can use it: the node listens on loopback"
    if all(host.is_private or host.is_link_local or host.is_loopback for host in known):
        return (
            "only machines on the same network can use it; behind a router, forward the port and set network.announce"
        )
    return ""


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]


def _check_peers(invitation: Invitation) -> None:
    peers = {address.rpartition("/p2p/")[2] for address in invitation.addresses}
    try:
        for peer in peers:
            public_key_of(peer)
    except ValueError as error:
        raise UserError("bad_invite", f"the invitation names no node: {error}", hint=_HINT) from error
    if len(peers) != 1:
        raise UserError(
            "bad_invite", f"the invitation names {format_count(len(peers), 'node')} instead of one", hint=_HINT
        )


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    parts = address.split("/")
    try:
        return ipaddress.ip_address(parts[2]) if len(parts) > 2 and parts[1] in ("ip4", "ip6") else None
    except ValueError:
        return None
