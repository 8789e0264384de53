"""Refusals: the named reasons why a frame is not a message for us. Expected outcomes, so values and not exceptions.

`RULES` says for each code what it means, whether the sender is told, and whether waiting helps. It feeds the reference and `proto/README.md`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import MessageId, PeerId
from dms_proto.wire.scores import Offence

NO_ID: Final = MessageId(b"")
NOBODY: Final = PeerId("")


class RefusalCode(StrEnum):
    """Why a frame was refused, in the order of the checks. Stable: a code never changes its meaning, which stands in `RULES`."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    NEWER_VERSION = "newer_version"
    UNKNOWN_KIND = "unknown_kind"
    NOT_GOSSIP = "not_gossip"
    NOT_FOR_US = "not_for_us"
    WRONG_SENDER = "wrong_sender"
    ECHO = "echo"
    LIFETIME = "lifetime"
    FROM_FUTURE = "from_future"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    STALE = "stale"
    WINDOW_FULL = "window_full"
    RATE = "rate"
    SOURCE_RATE = "source_rate"
    BAD_SIGNATURE = "bad_signature"
    BAD_BODY = "bad_body"


class RefusalRule(msgspec.Struct, frozen=True):
    """What follows from a code.

    Attributes:
        meaning: in words.
        is_answered: the sender of a direct frame is told, see `opening.answer_to`. Not where the answer would only feed a flood or a replay.
        is_passing: the same content in a new envelope may be accepted later.
        offence: what it adds to the score of who is to blame, see `RefusedFrame.blamed`; None where honest nodes do it too.
    """

    meaning: str
    is_answered: bool
    is_passing: bool
    offence: Offence | None = None


RULES: Final[dict[RefusalCode, RefusalRule]] = {
    RefusalCode.TOO_LARGE: RefusalRule(
        "The frame is longer than its way allows: 2 KiB for gossip, 256 KiB for a direct frame.",
        is_answered=True,
        is_passing=False,
        offence=Offence.OVERSIZED,
    ),
    RefusalCode.MALFORMED: RefusalRule(
        "The bytes are not a frame around an envelope: broken or not shortest msgpack, wrong types or lengths, both or neither of `to` and `topic`.",
        is_answered=True,
        is_passing=False,
        offence=Offence.MALFORMED,
    ),
    RefusalCode.NEWER_VERSION: RefusalRule(
        "The envelope is of a version this node does not speak.",
        is_answered=True,
        is_passing=False,
    ),
    RefusalCode.UNKNOWN_KIND: RefusalRule(
        "The kind of message is not known in this version.",
        is_answered=True,
        is_passing=False,
    ),
    RefusalCode.NOT_GOSSIP: RefusalRule(
        "The envelope names a topic, but its kind travels directly only.",
        is_answered=True,
        is_passing=False,
        offence=Offence.MISDIRECTED,
    ),
    RefusalCode.NOT_FOR_US: RefusalRule(
        "The envelope is addressed to another node, or to a topic other than the one it came on.",
        is_answered=True,
        is_passing=False,
        offence=Offence.MISDIRECTED,
    ),
    RefusalCode.WRONG_SENDER: RefusalRule(
        "A direct envelope was written by another node than the one at the end of the stream.",
        is_answered=True,
        is_passing=False,
        offence=Offence.FORGED,
    ),
    RefusalCode.ECHO: RefusalRule(
        "The envelope is our own, come back by gossip.",
        is_answered=False,
        is_passing=False,
    ),
    RefusalCode.LIFETIME: RefusalRule(
        "The envelope expires before it was sent, or longer after than its way allows.",
        is_answered=True,
        is_passing=False,
        offence=Offence.MALFORMED,
    ),
    RefusalCode.FROM_FUTURE: RefusalRule(
        "The envelope was sent later than now, by more than the tolerated clock skew.",
        is_answered=True,
        is_passing=True,
    ),
    RefusalCode.EXPIRED: RefusalRule(
        "The envelope's time is over, by more than the tolerated clock skew.",
        is_answered=True,
        is_passing=True,
        offence=Offence.REPLAYED,
    ),
    RefusalCode.DUPLICATE: RefusalRule(
        "The envelope was accepted before.",
        is_answered=False,
        is_passing=False,
        offence=Offence.REPLAYED,
    ),
    RefusalCode.STALE: RefusalRule(
        "The envelope is older than what the replay window still remembers of its sender, so it may have been accepted before.",
        is_answered=False,
        is_passing=True,
    ),
    RefusalCode.WINDOW_FULL: RefusalRule(
        "The replay window has no room for another sender.",
        is_answered=True,
        is_passing=True,
    ),
    RefusalCode.RATE: RefusalRule(
        "The peer that delivered the frame, or the author of gossip, sends more than its share.",
        is_answered=False,
        is_passing=True,
        offence=Offence.FLOODED,
    ),
    RefusalCode.SOURCE_RATE: RefusalRule(
        "All peers from where the peer that delivered the frame is, together, send more than their share.",
        is_answered=False,
        is_passing=True,
        offence=Offence.CROWDED,
    ),
    RefusalCode.BAD_SIGNATURE: RefusalRule(
        "The signature is not the sender's over these bytes.",
        is_answered=True,
        is_passing=False,
        offence=Offence.FORGED,
    ),
    RefusalCode.BAD_BODY: RefusalRule(
        "The body is not a message of its kind: broken msgpack, a missing or wrong field, or a rule of the message broken.",
        is_answered=True,
        is_passing=False,
        offence=Offence.MALFORMED,
    ),
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
