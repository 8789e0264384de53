"""What all kinds of messages are made from."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dms_proto.rules import Address, GoodPeerId


class Message(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    """Base of all kinds; the class name is the kind on the wire."""


class KnownPeer(msgspec.Struct, frozen=True):
    """A peer as told by another peer.

    Attributes:
        peer: its name.
        addresses: where it may be dialled.
    """

    peer: GoodPeerId
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=16)]
