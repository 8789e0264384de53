"""Refusals: the named reasons why a frame is not a message for us. Expected outcomes, so values and not exceptions.

`RULES` says for each code after which check it comes, whether the sender is told, and whether waiting helps. It feeds the reference and
`proto/README.md`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import MessageId, PeerId
from dms_proto.messages import Refusal

NO_ID: Final = MessageId(b"")
NOBODY: Final = PeerId("")


class RefusalCode(StrEnum):
    """Why a frame was refused, in the order of the checks. Stable: a code never changes its meaning."""

    TOO_LARGE = "too_large"
    """The frame is longer than its way allows: 2 KiB for gossip, 256 KiB for a direct frame."""
    MALFORMED = "malformed"
    """The bytes are not a frame around an envelope: broken or not shortest msgpack, wrong types or lengths, both or neither of `to` and `topic`."""
    NEWER_VERSION = "newer_version"
    """The envelope is of a version this node does not speak."""
    UNKNOWN_KIND = "unknown_kind"
    """The kind of message is not known in this version."""
    NOT_GOSSIP = "not_gossip"
    """The envelope names a topic, but its kind travels directly only."""
    NOT_FOR_US = "not_for_us"
    """The envelope is addressed to another node, or to a topic other than the one it came on."""
    WRONG_SENDER = "wrong_sender"
    """A direct envelope was written by another node than the one at the end of the stream."""
    ECHO = "echo"
    """The envelope is our own, come back by gossip."""
    LIFETIME = "lifetime"
    """The envelope expires before it was sent, or longer after than its way allows."""
    FROM_FUTURE = "from_future"
    """The envelope was sent later than now, by more than the tolerated clock skew."""
    EXPIRED = "expired"
    """The envelope's time is over, by more than the tolerated clock skew."""
    DUPLICATE = "duplicate"
    """The envelope was accepted before."""
    STALE = "stale"
    """The envelope is older than what the replay window still remembers of its sender, so it may have been accepted before."""
    WINDOW_FULL = "window_full"
    """The replay window has no room for another sender."""
    RATE = "rate"
    """The peer that delivered the frame, or the author of gossip, sends more than its share."""
    BAD_SIGNATURE = "bad_signature"
    """The signature is not the sender's over these bytes."""
    BAD_BODY = "bad_body"
    """The body is not a message of its kind: broken msgpack, a missing or wrong field, or a rule of the message broken."""


class RefusalRule(msgspec.Struct, frozen=True):
    """What follows from a code.

    Attributes:
        is_answered: the sender of a direct frame is told, with a `Refusal`. Not where the answer would only feed a flood or a replay.
        is_passing: the same content in a new envelope may be accepted later.
    """

    is_answered: bool
    is_passing: bool


RULES: Final[dict[RefusalCode, RefusalRule]] = {
    RefusalCode.TOO_LARGE: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.MALFORMED: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.NEWER_VERSION: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.UNKNOWN_KIND: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.NOT_GOSSIP: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.NOT_FOR_US: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.WRONG_SENDER: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.ECHO: RefusalRule(is_answered=False, is_passing=False),
    RefusalCode.LIFETIME: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.FROM_FUTURE: RefusalRule(is_answered=True, is_passing=True),
    RefusalCode.EXPIRED: RefusalRule(is_answered=True, is_passing=True),
    RefusalCode.DUPLICATE: RefusalRule(is_answered=False, is_passing=False),
    RefusalCode.STALE: RefusalRule(is_answered=False, is_passing=True),
    RefusalCode.WINDOW_FULL: RefusalRule(is_answered=True, is_passing=True),
    RefusalCode.RATE: RefusalRule(is_answered=False, is_passing=True),
    RefusalCode.BAD_SIGNATURE: RefusalRule(is_answered=True, is_passing=False),
    RefusalCode.BAD_BODY: RefusalRule(is_answered=True, is_passing=False),
}


class RefusedFrame(msgspec.Struct, frozen=True):
    """A frame that is not a message for us.

    Attributes:
        code: why.
        detail: the same for a person: one printable line of at most 200 characters.
        id: of the envelope, as far as it could be read; else empty.
        kind: likewise.
        sender: the author the envelope names; else empty. Proven only if `is_proven`: count against the peer that delivered the frame otherwise.
        is_proven: the signature was checked and is the sender's.
    """

    code: RefusalCode
    detail: str = ""
    id: MessageId = NO_ID
    kind: str = ""
    sender: PeerId = NOBODY
    is_proven: bool = False


def answer_to(refused: RefusedFrame) -> Refusal | None:
    """What to tell the peer from whose stream a refused frame came, or None: refusals are not answered, so that no two nodes argue forever.

    Never for gossip, whose forwarder is not to blame.
    """
    if refused.kind == Refusal.__name__ or not RULES[refused.code].is_answered:
        return None
    return Refusal(code=refused.code.value, about=refused.id.hex(), detail=refused.detail)
