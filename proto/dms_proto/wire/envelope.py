"""The envelope: who says what to whom, for how long, signed.

::

    frame   = msgpack [ signed : bin, signature : bin 64 ]
    signed  = msgpack [ version, id, kind, key, to, topic, cause, sent_ms, expires_ms, body : bin, auth : bin ]
    signature = Ed25519( "dms/envelope/1" 0x00 + signed )

The signature covers the bytes as sent; a reader verifies before it decodes the body and never encodes again to verify. `body` is the message as a
msgpack map without its kind (see `encoding`). In every version, present and future, a frame has this form and `signed` begins with the header of an
array of at most 15 elements, a version from 1 to 127, and the id: that is what lets a newer version be refused by name.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.errors import InternalError, UserError
from dms_proto.ids import ID_BYTES, PUBLIC_KEY_BYTES, MessageId, PeerId
from dms_proto.messages import GOSSIPED, KINDS, AnyMessage
from dms_proto.units import MAX_QUANTITY, MINUTE, SECOND, format_count
from dms_proto.wire import encoding
from dms_proto.wire.signing import Signer

VERSION: Final = 1
"""Of the envelope and of the meaning of all kinds. A field with a default may be added to a kind without a new version."""
DOMAIN: Final = b"dms/envelope/1\0"
"""Stands before the signed bytes: a signature made for an envelope is one for nothing else, and the other way round."""

MAX_GOSSIP_FRAME: Final = 2 * 1024
MAX_DIRECT_FRAME: Final = 256 * 1024
MAX_TASK: Final = MAX_DIRECT_FRAME - 8 * 1024
"""Bytes of a task: what carries it needs some as well."""
MAX_DIRECT_LIFETIME_MS: Final = 10 * MINUTE
MAX_GOSSIP_LIFETIME_MS: Final = MINUTE
"""Short, because the replay window remembers strangers for that long."""
CLOCK_SKEW_MS: Final = 30 * SECOND
"""How far two nodes' clocks may differ, either way."""
MAX_AUTH: Final = 4 * 1024

_Moment = Annotated[int, msgspec.Meta(ge=0, le=MAX_QUANTITY)]


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The signed part, in wire order.

    Attributes:
        version: `VERSION`.
        id: unique per sender; what the replay window remembers.
        kind: a key of `messages.KINDS`.
        key: the sender's Ed25519 public key.
        to: the receiver's peer id, or empty for gossip.
        topic: the gossip topic, or empty. Exactly one of `to` and `topic` is given.
        cause: id of what led to this message, for tracing; may be empty.
        sent_ms: Unix ms by the sender's clock.
        expires_ms: likewise; later than `sent_ms`, by at most 10 minutes (gossip: 1 minute).
        body: the message.
        auth: an authorisation for the receiver's policy to judge, or empty. Opaque here.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=127)]
    id: Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    key: Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
    to: Annotated[str, msgspec.Meta(max_length=64)]
    topic: Annotated[str, msgspec.Meta(max_length=64)]
    cause: Annotated[str, msgspec.Meta(max_length=64)]
    sent_ms: _Moment
    expires_ms: _Moment
    body: bytes
    auth: Annotated[bytes, msgspec.Meta(max_length=MAX_AUTH)]

    @property
    def is_gossip(self) -> bool:
        """Whether it is for everybody on a topic."""
        return self.topic != ""

    def as_list(self) -> list[object]:
        """The elements in wire order."""
        return list(msgspec.structs.astuple(self))


class Envelope(msgspec.Struct, frozen=True):
    """A message that passed every check, with what its envelope says. Fields as in `Signed`; `sender` is the PeerID of its key."""

    version: int
    id: MessageId
    kind: str
    sender: PeerId
    to: PeerId
    topic: str
    cause: str
    sent_ms: int
    expires_ms: int
    body: bytes
    auth: bytes
    message: AnyMessage


def seal(
    signer: Signer,
    message: AnyMessage,
    *,
    id: MessageId,  # noqa: A002 - the word the envelope uses
    sent: int,
    ttl_ms: int,
    to: str = "",
    topic: str = "",
    cause: str = "",
    auth: bytes = b"",
) -> bytes:
    """The frame that carries `message` from `signer` to a peer or to a topic.

    A frame is sent once. Saying the same again is a new envelope with a new id; receivers recognise the repetition by the ids in the message.

    Args:
        signer: the sending node.
        message: what to say.
        id: 16 fresh random bytes.
        sent: now, Unix ms.
        ttl_ms: how long the frame may be accepted: up to 10 minutes, for gossip up to 1 minute.
        to: the receiver's peer id; or
        topic: the gossip topic, for kinds that may be gossiped. Such a frame may go on the topic and straight to peers alike.
        cause: id of what led to this message.
        auth: authorisation, at most 4 KiB.

    Raises:
        UserError: `bad_argument`: what the message describes does not fit into a frame (2 KiB gossip, 256 KiB direct).
        InternalError: `internal`: the message or an argument breaks a rule, so that every receiver would refuse it.
    """
    kind = type(message).__name__
    try:
        body = encoding.encode_body(message)
    except msgspec.ValidationError as broken:
        raise InternalError("internal", f"a {kind} that breaks its own rules: {broken}") from broken
    signed = Signed(VERSION, id, kind, signer.public_key, to, topic, cause, sent, sent + ttl_ms, body, auth)
    _check_sealable(signed, ttl_ms)
    data = encoding.pack(signed.as_list())
    frame = encoding.pack((data, signer.sign(DOMAIN + data)))
    limit = frame_limit(is_gossip=signed.is_gossip)
    if len(frame) > limit:
        raise UserError(
            "bad_argument", f"the {kind} takes {format_count(len(frame), 'byte')}, a frame has at most {limit}"
        )
    return frame


def frame_limit(*, is_gossip: bool) -> int:
    """Most bytes of a frame on its way."""
    return MAX_GOSSIP_FRAME if is_gossip else MAX_DIRECT_FRAME


def lifetime_limit(*, is_gossip: bool) -> int:
    """Most ms between sending and expiry."""
    return MAX_GOSSIP_LIFETIME_MS if is_gossip else MAX_DIRECT_LIFETIME_MS


def _check_sealable(signed: Signed, ttl_ms: int) -> None:
    """Raises InternalError for what `opening` would refuse whoever receives it."""
    if signed.kind not in KINDS:
        raise InternalError("internal", f"{signed.kind} is not a kind of message")
    if (signed.to == "") == (signed.topic == ""):
        raise InternalError("internal", "an envelope names a receiver or a topic, and not both")
    if signed.is_gossip and signed.kind not in GOSSIPED:
        raise InternalError("internal", f"a {signed.kind} never travels on a topic")
    if not 0 < ttl_ms <= lifetime_limit(is_gossip=signed.is_gossip):
        raise InternalError("internal", f"an envelope cannot live for {ttl_ms} ms")
    broken = encoding.typed(signed.as_list(), Signed)
    if isinstance(broken, encoding.Malformed):
        raise InternalError("internal", f"an envelope that breaks its own rules: {broken.why}")
