"""Invitations: a string that leads another machine to this node and its market, and where that asks for one, holds the grant to take part.

::

    dms1: base64url( msgpack [ topic, [address …], grant ] ‖ first 4 bytes of its SHA-256 )

The checksum is for people who copy by hand; what proves the node is the PeerID at the end of each address. Without a grant it holds no secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from dms.trust.pasted import Form
from dms_proto.errors import UserError
from dms_proto.ids import PeerId, public_key_of
from dms_proto.units import format_count
from dms_proto.untrusted import read_msgpack
from dms_proto.wire.envelope import MAX_AUTH

PREFIX: Final = "dms1:"
MAX_ADDRESSES: Final = 8
FORM: Final = Form(
    PREFIX, "invitation", "bad_invite", "copy all of what `dms invite` printed on the other machine after `dms join`"
)


class Invitation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A way into a market.

    Attributes:
        topic: name of the market.
        addresses: where its giver can be dialled, each ending in /p2p/PEER, all of the same peer.
        grant: in its sent form, for whoever joins; empty where none is needed.
    """

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=256)], ...], msgspec.Meta(min_length=1, max_length=MAX_ADDRESSES)
    ]
    grant: Annotated[bytes, msgspec.Meta(max_length=MAX_AUTH)] = b""

    @property
    def peer(self) -> PeerId:
        """Who gave it."""
        return PeerId(self.addresses[0].rpartition("/p2p/")[2])


def make(topic: str, addresses: Sequence[str], me: PeerId, grant: bytes = b"") -> str:
    """The invitation to the market `topic` by node `me`, with the grant that it takes to be served there.

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
    return FORM.write(msgspec.msgpack.encode(Invitation(topic, named, grant)))


def read(text: str) -> Invitation:
    """What an invitation says.

    Raises:
        UserError: `bad_invite`: damaged, cut off, of a newer form, or no invitation at all.
    """
    try:
        invitation = read_msgpack(FORM.read(text), Invitation)
    except msgspec.MsgspecError as error:
        raise FORM.refused(f"is not understood: {error}") from error
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


def _check_peers(invitation: Invitation) -> None:
    peers = {address.rpartition("/p2p/")[2] for address in invitation.addresses}
    try:
        for peer in peers:
            public_key_of(peer)
    except ValueError as error:
        raise FORM.refused(f"names no node: {error}") from error
    if len(peers) != 1:
        raise FORM.refused(f"names {format_count(len(peers), 'node')} instead of one")


def _host(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    parts = address.split("/")
    try:
        return ipaddress.ip_address(parts[2]) if len(parts) > 2 and parts[1] in ("ip4", "ip6") else None
    except ValueError:
        return None
