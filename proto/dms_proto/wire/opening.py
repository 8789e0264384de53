"""Opening frames: every check on bytes from a stranger, cheapest first, and a value at the end whatever the bytes.

::

    size ─ structure ─ version ─ kind ─ addressed ─ sender ─ lifetime, clock ─ replay window ─ rate ─ signature ─ body
    └─────────────── costs microseconds, proves nothing ──────────────────────────────────┘   └─ proven from here ─┘

Nothing is remembered of a frame before its signature is verified, except that the peer that delivered it paid a token. `open_frame` never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias, cast

import msgspec

from dms_proto.ids import ID_BYTES, MessageId, PeerId, peer_id_of
from dms_proto.messages import GOSSIPED, KINDS, AnyMessage, Hello, Refusal
from dms_proto.units import format_count
from dms_proto.wire import encoding
from dms_proto.wire.buckets import KindClass, kind_class
from dms_proto.wire.encoding import Malformed, printable
from dms_proto.wire.envelope import (
    CLOCK_SKEW_MS,
    DOMAIN,
    VERSION,
    Envelope,
    Signed,
    frame_limit,
    lifetime_limit,
)
from dms_proto.wire.refusals import NO_ID, RULES, RefusalCode, RefusedFrame
from dms_proto.wire.replay import ReplayWindow, Seen
from dms_proto.wire.scores import Offence
from dms_proto.wire.signing import SIGNATURE_BYTES, verify

TakeToken: TypeAlias = Callable[[PeerId, KindClass, int], bool]
"""Whether a peer may send one more message of a class at a time; `buckets.ClassBuckets.take` is one."""

_sender_of = lru_cache(maxsize=1_024)(peer_id_of)
"""Spelling a key in base58 takes as long as all other cheap checks together, and the same peers write again and again."""


def take_always(_peer: PeerId, _class: KindClass, _now: int) -> bool:
    """No limit."""
    return True


class OpeningContext(msgspec.Struct, frozen=True):
    """Who we are and how a frame came. One per peer and topic may be kept and used for every frame.

    Attributes:
        me: our peer id.
        via: the peer that delivered the frame: the other end of the stream, or the gossip neighbour. It pays for the frame.
        topic: the topic the frame came on; empty for a direct stream.
        topics: topics whose gossip is also taken from direct streams: its author or anyone else may hand it on there.
        replay: the window for envelopes addressed to us.
        gossip_replay: the window for gossip, whichever way it came; apart, so that invented authors cannot crowd out peers.
        take: the rate limit of a peer.
        take_from_source: the rate limit of all peers that come from where a peer does.
        skew_ms: tolerated difference between clocks, either way.
    """

    me: PeerId
    via: PeerId
    replay: ReplayWindow
    gossip_replay: ReplayWindow
    topic: str = ""
    topics: frozenset[str] = frozenset()
    take: TakeToken = take_always
    take_from_source: TakeToken = take_always
    skew_ms: int = CLOCK_SKEW_MS

    def window(self, signed: Signed) -> ReplayWindow:
        """The replay window an envelope belongs to."""
        return self.gossip_replay if signed.is_gossip else self.replay


class _Parsed(msgspec.Struct, frozen=True):
    """An envelope whose structure is right. Nothing in it is proven."""

    signed: Signed
    sender: PeerId
    data: bytes
    signature: bytes
    size: int


def open_frame(frame: bytes, context: OpeningContext, now: int) -> Envelope | RefusedFrame:
    """The message in `frame`, or why it is none for us.

    Args:
        frame: bytes as they arrived.
        context: who we are and how the frame came; its windows and buckets remember this frame.
        now: Unix ms by our clock.

    Returns:
        An `Envelope` that passed every check: signed by its sender, for us, in time (a direct hello at any), not seen before, its message valid.
        Or a `RefusedFrame`.
    """
    parsed = _parse(frame, frame_limit(is_gossip=context.topic != ""))
    if isinstance(parsed, RefusedFrame):
        return parsed
    refused = _first_refusal(_CHECKS, parsed, context, now)
    if refused is not None:
        return refused
    signed, window = parsed.signed, context.window(parsed.signed)
    # Of a hello from a clock far ahead, what is remembered is bounded by ours: otherwise it would be kept until that clock's time has come.
    until = min(signed.expires_ms, now + signed.expires_ms - signed.sent_ms + context.skew_ms) + context.skew_ms
    window.record(parsed.sender, MessageId(signed.id), signed.sent_ms, until, now)
    if signed.is_gossip and not context.take(parsed.sender, KindClass.GOSSIP_AUTHORED, now):
        return _refused(parsed, (RefusalCode.RATE, "the author gossips too much"), is_proven=True)
    return _opened(parsed)


def read_frame(frame: bytes) -> Envelope | RefusedFrame:
    """What a frame shown later says, to whomever it was sent and whenever: the proof that its sender did say it. Never raises.

    Its structure, kind, signature and message are checked as in `open_frame`. Whether it was new, in time and for its receiver is not: that is
    for who knows the circumstances.
    """
    parsed = _parse(frame, frame_limit(is_gossip=False))
    if isinstance(parsed, RefusedFrame):
        return parsed
    refusal = _kind_refusal(parsed) or _signature_refusal(parsed)
    return _refused(parsed, refusal) if refusal is not None else _opened(parsed)


def _opened(parsed: _Parsed) -> Envelope | RefusedFrame:
    message = encoding.decode_body(parsed.signed.kind, parsed.signed.body)
    if isinstance(message, Malformed):
        return _refused(parsed, (RefusalCode.BAD_BODY, message.why), is_proven=True)
    return _envelope(parsed, cast("AnyMessage", message))


def answer_to(refused: RefusedFrame, context: OpeningContext, now: int) -> Refusal | None:
    """What to tell the peer from whose stream a refused frame came, or None.

    Gossip is not answered, since who handed it on is not to blame; nor are refusals, so that two nodes do not argue forever. What could not be
    read may have been a refusal too: therefore answers to one peer are limited (`KindClass.ANSWER`).
    """
    if context.topic or refused.kind == Refusal.__name__ or not RULES[refused.code].is_answered:
        return None
    if not context.take(context.via, KindClass.ANSWER, now):
        return None
    if not context.take_from_source(context.via, KindClass.ANSWER, now):
        return None
    return Refusal(code=refused.code.value, about=refused.id.hex(), detail=refused.detail)


def refuse_unopened(frame: bytes, context: OpeningContext, now: int) -> RefusedFrame | None:
    """Why a frame is none for us, as far as it shows without memory and without its signature; None if it may be one.

    The part of `open_frame` that costs microseconds: with it nodes check gossip before they hand it on.
    """
    parsed = _parse(frame, frame_limit(is_gossip=context.topic != ""))
    return parsed if isinstance(parsed, RefusedFrame) else _first_refusal(_MEMORYLESS_CHECKS, parsed, context, now)


def misdeed(refused: RefusedFrame, context: OpeningContext) -> tuple[PeerId, Offence] | None:
    """Who is to blame for a refused frame, and for what; None if nobody is.

    What is proven is its author's doing; else who sent a direct frame is to blame. Who handed gossip on is not: before it comes
    here it was checked as far as honest forwarders check it. A bid request comes directly and by gossip, so its repeat is no replay.
    """
    offence = RULES[refused.code].offence
    if offence is None or (offence is Offence.REPLAYED and refused.kind in GOSSIPED):
        return None
    if refused.is_proven:
        return refused.sender, offence
    return None if context.topic else (context.via, offence)


_Refusal: TypeAlias = tuple[RefusalCode, str]


def _parse(frame: bytes, limit: int) -> _Parsed | RefusedFrame:
    if len(frame) > limit:
        return RefusedFrame(RefusalCode.TOO_LARGE, f"{format_count(len(frame), 'byte')}; at most {limit} are read")
    outer = encoding.unpack(frame)
    match outer:
        case [bytes() as data, bytes() as signature] if len(signature) == SIGNATURE_BYTES:
            newer = _newer_version(data)
            return newer or _parse_signed(data, signature, len(frame))
        case Malformed(why=why):
            return RefusedFrame(RefusalCode.MALFORMED, why)
        case _:
            return RefusedFrame(RefusalCode.MALFORMED, "not a pair of signed bytes and signature")


def _newer_version(data: bytes) -> RefusedFrame | None:
    """The refusal if `data` begins like an envelope of a version after ours; what follows may have any form."""
    if len(data) < 2 or data[0] & 0xF0 != 0x90 or not VERSION < data[1] <= 0x7F:
        return None
    has_id = data[2:4] == bytes((0xC4, ID_BYTES)) and len(data) >= 4 + ID_BYTES
    id_ = MessageId(data[4 : 4 + ID_BYTES]) if has_id else NO_ID
    return RefusedFrame(RefusalCode.NEWER_VERSION, f"version {data[1]}; this node speaks {VERSION}", id_)


def _parse_signed(data: bytes, signature: bytes, size: int) -> _Parsed | RefusedFrame:
    tree = encoding.unpack(data)
    signed = tree if isinstance(tree, Malformed) else encoding.typed(tree, Signed)
    if isinstance(signed, Malformed):
        return RefusedFrame(RefusalCode.MALFORMED, signed.why)
    parsed = _Parsed(signed, _sender_of(signed.key), data, signature, size)
    if (signed.to == "") == (signed.topic == ""):
        return _refused(parsed, (RefusalCode.MALFORMED, "names a receiver or a topic, and not both"))
    return parsed


def _check_kind(parsed: _Parsed, _context: OpeningContext, _now: int) -> _Refusal | None:
    return _kind_refusal(parsed)


def _kind_refusal(parsed: _Parsed) -> _Refusal | None:
    signed = parsed.signed
    if signed.kind not in KINDS:
        return RefusalCode.UNKNOWN_KIND, printable(f"kind {signed.kind}")
    if signed.is_gossip and signed.kind not in GOSSIPED:
        return RefusalCode.NOT_GOSSIP, f"a {signed.kind} travels directly only"
    return None


def _check_addressed(parsed: _Parsed, context: OpeningContext, _now: int) -> _Refusal | None:
    signed = parsed.signed
    if signed.is_gossip:
        expected = signed.topic == context.topic if context.topic else signed.topic in context.topics
        if not expected:
            return RefusalCode.NOT_FOR_US, printable(f"for topic {signed.topic}")
        limit = frame_limit(is_gossip=True)  # gossip handed on by a stream was measured against the larger limit so far
        return (
            (RefusalCode.TOO_LARGE, f"{format_count(parsed.size, 'byte')} of gossip") if parsed.size > limit else None
        )
    if context.topic or signed.to != context.me:
        return RefusalCode.NOT_FOR_US, printable(f"for {signed.to}")
    return None


def _check_sender(parsed: _Parsed, context: OpeningContext, _now: int) -> _Refusal | None:
    if parsed.signed.is_gossip:
        return (RefusalCode.ECHO, "written by this node") if parsed.sender == context.me else None
    if parsed.sender != context.via:
        return RefusalCode.WRONG_SENDER, f"written by {parsed.sender}, came from {context.via}"
    return None


def _check_time(parsed: _Parsed, context: OpeningContext, now: int) -> _Refusal | None:
    signed = parsed.signed
    lifetime = signed.expires_ms - signed.sent_ms
    limit = lifetime_limit(is_gossip=signed.is_gossip)
    if not 0 < lifetime <= limit:
        return RefusalCode.LIFETIME, f"lives {lifetime} ms; allowed are 1 to {limit}"
    if signed.kind == Hello.__name__ and not signed.is_gossip:
        return None  # it says what its sender's clock shows; membership judges that, in words both sides can read
    if signed.sent_ms > now + context.skew_ms:
        return RefusalCode.FROM_FUTURE, f"sent {signed.sent_ms - now} ms from now"
    if signed.expires_ms < now - context.skew_ms:
        return RefusalCode.EXPIRED, f"expired {now - signed.expires_ms} ms ago"
    return None


_SEEN: Final[dict[Seen, _Refusal | None]] = {
    Seen.NEW: None,
    Seen.DUPLICATE: (RefusalCode.DUPLICATE, "accepted before"),
    Seen.STALE: (RefusalCode.STALE, "older than what is remembered of its sender"),
    Seen.NO_ROOM: (RefusalCode.WINDOW_FULL, "too many senders at once"),
}


def _check_replay(parsed: _Parsed, context: OpeningContext, now: int) -> _Refusal | None:
    signed = parsed.signed
    return _SEEN[context.window(signed).check(parsed.sender, MessageId(signed.id), signed.sent_ms, now)]


def _check_rate(parsed: _Parsed, context: OpeningContext, now: int) -> _Refusal | None:
    if not parsed.signed.is_gossip:
        paid_from = kind_class(parsed.signed.kind)
    elif context.gossip_replay.knows(parsed.sender):
        paid_from = KindClass.GOSSIP_FORWARDED
    else:
        paid_from = KindClass.INTRODUCTION
    if not context.take(context.via, paid_from, now):
        return RefusalCode.RATE, f"no token left for {paid_from}"
    if not context.take_from_source(context.via, paid_from, now):
        return RefusalCode.SOURCE_RATE, f"no token left for {paid_from} from where the sender is"
    return None


def _check_signature(parsed: _Parsed, _context: OpeningContext, _now: int) -> _Refusal | None:
    return _signature_refusal(parsed)


def _signature_refusal(parsed: _Parsed) -> _Refusal | None:
    if verify(parsed.signed.key, DOMAIN + parsed.data, parsed.signature):
        return None
    return RefusalCode.BAD_SIGNATURE, "not the sender's signature over these bytes"


_Check: TypeAlias = Callable[[_Parsed, OpeningContext, int], _Refusal | None]

_MEMORYLESS_CHECKS: Final[tuple[_Check, ...]] = (_check_kind, _check_addressed, _check_sender, _check_time)
_CHECKS: Final[tuple[_Check, ...]] = (*_MEMORYLESS_CHECKS, _check_replay, _check_rate, _check_signature)
"""In the order they are made, after size, structure and version."""


def _first_refusal(
    checks: tuple[_Check, ...], parsed: _Parsed, context: OpeningContext, now: int
) -> RefusedFrame | None:
    for check in checks:
        refusal = check(parsed, context, now)
        if refusal is not None:
            return _refused(parsed, refusal)
    return None


def _refused(parsed: _Parsed, refusal: _Refusal, *, is_proven: bool = False) -> RefusedFrame:
    code, detail = refusal
    return RefusedFrame(code, detail, MessageId(parsed.signed.id), parsed.signed.kind, parsed.sender, is_proven)


def _envelope(parsed: _Parsed, message: AnyMessage) -> Envelope:
    signed = parsed.signed
    return Envelope(
        version=signed.version,
        id=MessageId(signed.id),
        kind=signed.kind,
        sender=parsed.sender,
        to=PeerId(signed.to),
        topic=signed.topic,
        cause=signed.cause,
        sent_ms=signed.sent_ms,
        expires_ms=signed.expires_ms,
        body=signed.body,
        auth=signed.auth,
        message=message,
    )
