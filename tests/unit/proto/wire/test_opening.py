"""Opening: what was sealed for us opens, and everything else is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dms.testing.samples import FULL, LEAST, NOW, PROVIDER, REQUESTER, STRANGER, TOPIC
from dms.testing.strategies import messages
from dms_proto.ids import MessageId, PeerId
from dms_proto.messages import AnyMessage, Hello, Probe
from dms_proto.wire import (
    ClassBuckets,
    Envelope,
    KindClass,
    Limit,
    OpeningContext,
    RefusalCode,
    RefusedFrame,
    ReplayWindow,
    Signer,
    encoding,
    open_frame,
    seal,
)
from dms_proto.wire.envelope import DOMAIN

ID = MessageId(b"\x11" * 16)
ASK = LEAST[0]
PROBE = Probe(7)


def sealed(message: AnyMessage = PROBE, *, signer: Signer = REQUESTER, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {"id": ID, "to": PROVIDER.peer_id, "sent": NOW, "ttl_ms": 30_000, **changes}
    return seal(signer, message, **arguments)


def gossiped(message: AnyMessage = ASK, **changes: Any) -> bytes:
    return sealed(message, to="", topic=TOPIC, **changes)


def stream(**changes: Any) -> OpeningContext:
    """A direct stream from the requester to the provider."""
    context = OpeningContext(
        PROVIDER.peer_id, REQUESTER.peer_id, ReplayWindow(), ReplayWindow(), topics=frozenset({TOPIC})
    )
    return msgspec.structs.replace(context, **changes)


def topic(**changes: Any) -> OpeningContext:
    """The gossip topic, a frame handed on by a stranger."""
    return stream(via=STRANGER.peer_id, topic=TOPIC, **changes)


def code_of(opened: Envelope | RefusedFrame) -> RefusalCode | None:
    return opened.code if isinstance(opened, RefusedFrame) else None


def resigned(frame: bytes, place: int, value: object) -> bytes:
    """The frame with one element of the envelope changed, and well signed again."""
    elements = encoding.unpack(encoding.unpack(frame)[0])
    elements[place] = value
    data = encoding.pack(elements)
    return encoding.pack((data, REQUESTER.sign(DOMAIN + data)))


# ------------------------------------------------------------------------------------------------------------------ accepted


@pytest.mark.parametrize("message", [*LEAST, *FULL], ids=lambda message: type(message).__name__)
def test_what_was_sealed_opens_with_all_it_says(message: AnyMessage) -> None:
    opened = open_frame(sealed(message, cause="c-1", auth=b"\1\2"), stream(), NOW)
    assert opened == Envelope(
        version=1,
        id=ID,
        kind=type(message).__name__,
        sender=REQUESTER.peer_id,
        to=PROVIDER.peer_id,
        topic="",
        cause="c-1",
        sent_ms=NOW,
        expires_ms=NOW + 30_000,
        body=encoding.encode_body(message),
        auth=b"\1\2",
        message=message,
    )


@given(message=messages())
def test_every_message_arrives_as_it_was_sent(message: AnyMessage) -> None:
    opened = open_frame(sealed(message), stream(), NOW)
    assert isinstance(opened, Envelope)
    assert opened.message == message


def test_gossip_comes_from_its_author_whoever_hands_it_on() -> None:
    opened = open_frame(gossiped(), topic(), NOW)
    assert isinstance(opened, Envelope)
    assert (opened.sender, opened.topic, opened.to) == (REQUESTER.peer_id, TOPIC, "")


def test_a_bid_request_sent_straight_to_peers_is_one_frame_on_stream_and_topic() -> None:
    frame, windows = gossiped(), {"replay": ReplayWindow(), "gossip_replay": ReplayWindow()}
    assert isinstance(open_frame(frame, stream(**windows), NOW), Envelope)
    assert code_of(open_frame(frame, topic(**windows), NOW)) is RefusalCode.DUPLICATE


@pytest.mark.parametrize("skew", [-30_000, 0, 30_000])
def test_clocks_may_differ_by_half_a_minute(skew: int) -> None:
    assert isinstance(open_frame(sealed(ttl_ms=1), stream(), NOW + skew), Envelope)


# ------------------------------------------------------------------------------------------------------- damage and forgery


@pytest.mark.parametrize("kind", ["Probe", "Bid"])
def test_every_flipped_bit_is_refused(kind: str) -> None:
    frame = sealed(next(each for each in LEAST if type(each).__name__ == kind))
    for place in range(len(frame)):
        for bit in range(8):
            damaged = frame[:place] + bytes((frame[place] ^ 1 << bit,)) + frame[place + 1 :]
            assert isinstance(open_frame(damaged, stream(), NOW), RefusedFrame), (place, bit)


def test_every_truncation_is_malformed() -> None:
    frame = sealed(FULL[1])
    assert {code_of(open_frame(frame[:length], stream(), NOW)) for length in range(len(frame))} == {
        RefusalCode.MALFORMED
    }


@given(more=st.binary(min_size=1, max_size=50))
def test_every_extension_is_malformed(more: bytes) -> None:
    assert code_of(open_frame(sealed() + more, stream(), NOW)) is RefusalCode.MALFORMED


@given(frame=st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_is_raised(frame: bytes) -> None:
    assert isinstance(open_frame(frame, stream(), NOW), RefusedFrame)


ELEMENTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=70),
    st.binary(max_size=70),
)


@example(place=5, value="")
@given(place=st.integers(0, 10), value=ELEMENTS | st.lists(ELEMENTS) | st.dictionaries(st.text(), ELEMENTS))
def test_any_value_in_any_place_of_the_envelope_is_judged_and_nothing_is_raised(place: int, value: object) -> None:
    frame = resigned(sealed(), place, value)
    opened = open_frame(frame, stream(), NOW)
    may_differ = {1, 6, 7, 8, 10}  # id, cause, times and auth may well be others
    assert isinstance(opened, RefusedFrame) or place in may_differ or frame == sealed()


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_a_wrong_length_is_malformed(length: int) -> None:
    data = encoding.unpack(sealed())[0]
    assert code_of(open_frame(encoding.pack((data, bytes(length))), stream(), NOW)) is RefusalCode.MALFORMED


def test_a_signature_by_somebody_else_is_refused() -> None:
    data = encoding.unpack(sealed())[0]
    forged = encoding.pack((data, STRANGER.sign(DOMAIN + data)))
    refused = open_frame(forged, stream(), NOW)
    assert code_of(refused) is RefusalCode.BAD_SIGNATURE
    assert isinstance(refused, RefusedFrame)
    assert not refused.is_proven


def test_a_forged_frame_does_not_burn_the_id_of_the_real_one() -> None:
    context = stream()
    real = sealed()
    assert code_of(open_frame(real[:-1] + bytes((real[-1] ^ 1,)), context, NOW)) is RefusalCode.BAD_SIGNATURE
    assert isinstance(open_frame(real, context, NOW), Envelope)


# ------------------------------------------------------------------------------------------------- addresses, time, replay


def test_a_frame_for_another_node_is_refused() -> None:
    assert code_of(open_frame(sealed(to=STRANGER.peer_id), stream(), NOW)) is RefusalCode.NOT_FOR_US


def test_a_frame_of_another_node_on_a_stream_is_refused() -> None:
    refused = open_frame(sealed(signer=STRANGER), stream(), NOW)
    assert code_of(refused) is RefusalCode.WRONG_SENDER
    assert isinstance(refused, RefusedFrame)
    assert refused.sender == STRANGER.peer_id


def test_a_topic_nobody_here_listens_to_is_refused_on_a_stream_too() -> None:
    frame = sealed(ASK, to="", topic="dms/other/1")
    assert code_of(open_frame(frame, stream(), NOW)) is RefusalCode.NOT_FOR_US
    assert code_of(open_frame(frame, topic(), NOW)) is RefusalCode.NOT_FOR_US


def test_our_own_gossip_coming_back_is_an_echo() -> None:
    assert code_of(open_frame(gossiped(signer=PROVIDER), topic(), NOW)) is RefusalCode.ECHO


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (NOW - 30_001, RefusalCode.FROM_FUTURE),
        (NOW - 30_000, None),
        (NOW + 60_000, None),
        (NOW + 60_001, RefusalCode.EXPIRED),
    ],
)
def test_the_time_of_an_envelope_has_exact_edges(now: int, code: RefusalCode | None) -> None:
    assert code_of(open_frame(sealed(), stream(), now)) is code


@pytest.mark.parametrize("now", [0, NOW - 45_000, NOW + 120_000, NOW + 10**11])
def test_a_hello_is_read_whatever_its_time_is_so_that_it_can_be_told_that_clocks_differ(now: int) -> None:
    hello = next(message for message in FULL if isinstance(message, Hello))
    opened = open_frame(sealed(hello), stream(), now)
    assert code_of(opened) is None


def test_a_hello_from_far_ahead_is_not_remembered_for_longer_than_it_may_live() -> None:
    """A stranger must not keep a place in the window for years."""
    hello = next(message for message in FULL if isinstance(message, Hello))
    context = stream()
    open_frame(sealed(hello), context, 0)
    assert context.replay.sender_count == 1
    context.replay.record(PROVIDER.peer_id, MessageId(bytes(16)), 0, 1, 10 * 60_000 + 60_001)
    context.replay._sweep(10 * 60_000 + 60_001)
    assert not context.replay.knows(REQUESTER.peer_id)


@pytest.mark.parametrize(
    ("lifetime", "code"),
    [
        (-1, RefusalCode.LIFETIME),
        (0, RefusalCode.LIFETIME),
        (1, None),
        (600_000, None),
        (600_001, RefusalCode.LIFETIME),
    ],
)
def test_a_direct_envelope_lives_ten_minutes_at_most(lifetime: int, code: RefusalCode | None) -> None:
    assert code_of(open_frame(resigned(sealed(), 8, NOW + lifetime), stream(), NOW)) is code


def test_gossip_lives_a_minute_at_most() -> None:
    assert isinstance(open_frame(gossiped(ttl_ms=60_000), topic(), NOW), Envelope)
    assert code_of(open_frame(resigned(gossiped(), 8, NOW + 60_001), topic(), NOW)) is RefusalCode.LIFETIME


def test_a_replay_is_refused_until_it_has_expired_anyway() -> None:
    context, frame = stream(), sealed()
    assert isinstance(open_frame(frame, context, NOW), Envelope)
    codes = {now: code_of(open_frame(frame, context, now)) for now in (NOW, NOW + 30_000, NOW + 60_000, NOW + 60_001)}
    assert codes == {
        NOW: RefusalCode.DUPLICATE,
        NOW + 30_000: RefusalCode.DUPLICATE,
        NOW + 60_000: RefusalCode.DUPLICATE,
        NOW + 60_001: RefusalCode.EXPIRED,
    }


def test_an_id_is_remembered_as_long_as_a_slow_clock_would_still_accept_it() -> None:
    context, frame = stream(), sealed()
    assert isinstance(open_frame(frame, context, NOW), Envelope)
    later = NOW + 50_000  # expired for 20 s, which is within the skew
    assert isinstance(open_frame(sealed(id=MessageId(bytes(16)), sent=later), context, later), Envelope)
    assert code_of(open_frame(frame, context, later)) is RefusalCode.DUPLICATE


def test_replays_and_floods_are_refused_before_the_signature_is_looked_at() -> None:
    context, frame = stream(), sealed()
    assert isinstance(open_frame(frame, context, NOW), Envelope)
    assert code_of(open_frame(frame[:-1] + bytes((frame[-1] ^ 1,)), context, NOW)) is RefusalCode.DUPLICATE
    empty = stream(take=ClassBuckets({KindClass.MEMBERSHIP: Limit(1, 1)}).take)
    assert isinstance(open_frame(frame, empty, NOW), Envelope)
    other = sealed(id=MessageId(bytes(16)))
    assert code_of(open_frame(other[:-1] + bytes((other[-1] ^ 1,)), empty, NOW)) is RefusalCode.RATE


def test_a_replay_costs_no_second_verification_even_when_the_body_was_bad() -> None:
    context, frame = stream(), resigned(sealed(), 9, b"\x80")
    refused = open_frame(frame, context, NOW)
    assert code_of(refused) is RefusalCode.BAD_BODY
    assert isinstance(refused, RefusedFrame)
    assert refused.is_proven
    assert code_of(open_frame(frame, context, NOW)) is RefusalCode.DUPLICATE


def test_gossip_from_invented_authors_does_not_crowd_out_peers() -> None:
    windows = {"replay": ReplayWindow(senders=1), "gossip_replay": ReplayWindow(senders=1)}
    assert isinstance(open_frame(gossiped(signer=STRANGER), topic(**windows), NOW), Envelope)
    assert code_of(open_frame(gossiped(), topic(**windows), NOW)) is RefusalCode.WINDOW_FULL
    assert isinstance(open_frame(sealed(), stream(**windows), NOW), Envelope)


# ----------------------------------------------------------------------------------------------------------- size and rate


def test_a_frame_too_large_for_its_way_is_not_even_parsed() -> None:
    assert code_of(open_frame(bytes(2_049), topic(), NOW)) is RefusalCode.TOO_LARGE
    assert code_of(open_frame(bytes(2_048), topic(), NOW)) is RefusalCode.MALFORMED
    assert code_of(open_frame(bytes(256 * 1024 + 1), stream(), NOW)) is RefusalCode.TOO_LARGE
    assert code_of(open_frame(bytes(256 * 1024), stream(), NOW)) is RefusalCode.MALFORMED


def test_gossip_handed_on_by_a_stream_has_the_size_of_gossip() -> None:
    frame = resigned(gossiped(), 10, bytes(2_048))
    assert code_of(open_frame(frame, stream(), NOW)) is RefusalCode.TOO_LARGE


def test_the_deliverer_pays_and_the_author_once_proven() -> None:
    taken: list[tuple[PeerId, KindClass]] = []

    def take(peer: PeerId, kind_class: KindClass, _now: int) -> bool:
        taken.append((peer, kind_class))
        return True

    context = topic(take=take)
    open_frame(gossiped(), context, NOW)
    open_frame(gossiped(id=MessageId(bytes(16))), context, NOW)
    open_frame(sealed(), stream(take=take), NOW)
    assert taken == [
        (STRANGER.peer_id, KindClass.INTRODUCTION),
        (REQUESTER.peer_id, KindClass.GOSSIP_AUTHORED),
        (STRANGER.peer_id, KindClass.GOSSIP_FORWARDED),
        (REQUESTER.peer_id, KindClass.GOSSIP_AUTHORED),
        (REQUESTER.peer_id, KindClass.MEMBERSHIP),
    ]


def test_forged_gossip_does_not_spend_the_tokens_of_the_author_it_names() -> None:
    buckets = ClassBuckets({KindClass.GOSSIP_AUTHORED: Limit(1, 1)})
    context = topic(take=buckets.take)
    frame = gossiped()
    assert code_of(open_frame(frame[:-1] + bytes((frame[-1] ^ 1,)), context, NOW)) is RefusalCode.BAD_SIGNATURE
    assert isinstance(open_frame(frame, context, NOW), Envelope)
    refused = open_frame(gossiped(id=MessageId(bytes(16))), context, NOW)
    assert code_of(refused) is RefusalCode.RATE


def test_an_empty_bucket_refuses_before_the_signature_and_leaves_the_id_free() -> None:
    buckets = ClassBuckets({KindClass.MEMBERSHIP: Limit(1, 1)})
    context = stream(take=buckets.take)
    assert isinstance(open_frame(sealed(id=MessageId(bytes(16))), context, NOW), Envelope)
    assert code_of(open_frame(sealed(), context, NOW)) is RefusalCode.RATE
    assert isinstance(open_frame(sealed(), context, NOW + 1_000), Envelope)


# -------------------------------------------------------------------------------------------------- versions and structure


@given(rest=st.binary(max_size=100), version=st.integers(2, 127), elements=st.integers(1, 15))
def test_any_newer_version_is_refused_by_name_and_with_its_id(rest: bytes, version: int, elements: int) -> None:
    data = bytes((0x90 | elements, version)) + b"\xc4\x10" + ID + rest
    refused = open_frame(encoding.pack((data, bytes(64))), stream(), NOW)
    assert isinstance(refused, RefusedFrame)
    assert (refused.code, refused.id) == (RefusalCode.NEWER_VERSION, ID)


def test_an_unknown_kind_is_refused_by_name() -> None:
    refused = open_frame(resigned(sealed(), 2, "Greeting"), stream(), NOW)
    assert isinstance(refused, RefusedFrame)
    assert (refused.code, refused.kind, refused.id) == (RefusalCode.UNKNOWN_KIND, "Greeting", ID)


@pytest.mark.parametrize(
    "kind", [each for each in LEAST if type(each).__name__ != "BidRequest"], ids=lambda each: type(each).__name__
)
def test_only_bid_requests_travel_by_gossip(kind: AnyMessage) -> None:
    frame = resigned(resigned(sealed(kind), 4, ""), 5, TOPIC)
    assert code_of(open_frame(frame, topic(), NOW)) is RefusalCode.NOT_GOSSIP
    assert code_of(open_frame(frame, stream(), NOW)) is RefusalCode.NOT_GOSSIP


def test_explanations_never_carry_what_could_break_a_log() -> None:
    refused = open_frame(resigned(sealed(), 2, "\x1b[2J\n\u202e"), stream(), NOW)
    assert isinstance(refused, RefusedFrame)
    assert refused.detail.isprintable()
