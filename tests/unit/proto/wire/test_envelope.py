"""Sealing: the bytes are what the contract says, and what a receiver would refuse cannot be sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from dms.testing.samples import FULL, LEAST, NOW, PROVIDER, REQUESTER, TOPIC
from dms_proto.errors import InternalError, UserError
from dms_proto.ids import MessageId
from dms_proto.messages import AllocationMessage, AnyMessage, BidRequest, Commit, Message, Probe, Refusal
from dms_proto.wire import MAX_DIRECT_FRAME, MAX_GOSSIP_FRAME, Signer, seal, verify
from dms_proto.wire.envelope import DOMAIN

ID = MessageId(b"\x11" * 16)
ASK = LEAST[0]
PROBE = Probe(7)


def sealed(message: AnyMessage = PROBE, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {"id": ID, "to": PROVIDER.peer_id, "sent": NOW, "ttl_ms": 30_000, **changes}
    return seal(REQUESTER, message, **arguments)


def test_a_frame_is_the_signed_bytes_and_a_signature_over_them_and_their_domain() -> None:
    data, signature = msgpack.unpackb(sealed())
    assert verify(REQUESTER.public_key, b"dms/envelope/1\0" + data, signature)
    assert not verify(REQUESTER.public_key, data, signature)
    assert DOMAIN == b"dms/envelope/1\0"


def test_the_signed_bytes_are_the_fields_in_order() -> None:
    data, _ = msgpack.unpackb(sealed(cause="c-1", auth=b"\1"))
    assert msgpack.unpackb(data) == [
        1, ID, "Probe", REQUESTER.public_key, PROVIDER.peer_id, "", "c-1", NOW, NOW + 30_000, b"\x81\xa5nonce\x07", b"\1",
    ]  # fmt: skip


def test_the_same_envelope_has_the_same_bytes() -> None:
    assert sealed() == sealed()


def test_another_signer_makes_another_frame() -> None:
    assert sealed() != seal(Signer(b"\x09" * 32), Probe(7), id=ID, to=PROVIDER.peer_id, sent=NOW, ttl_ms=30_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": b"\1" * 15},
        {"id": b"\1" * 17},
        {"to": ""},
        {"topic": TOPIC},
        {"to": "", "topic": TOPIC},
        {"to": "x" * 65},
        {"cause": "x" * 65},
        {"auth": bytes(4 * 1024 + 1)},
        {"ttl_ms": 0},
        {"ttl_ms": -1},
        {"ttl_ms": 600_001},
        {"sent": -1},
        {"sent": 2**53},
        {"message": ASK, "to": "", "topic": TOPIC, "ttl_ms": 60_001},
        {"message": Probe(-1)},
        {"message": Refusal("x" * 33)},
        {"message": Message()},
    ],
    ids=str,
)
def test_what_every_receiver_would_refuse_is_a_defect_of_ours(changes: dict[str, Any]) -> None:
    with pytest.raises(InternalError) as raised:
        sealed(**changes)
    assert raised.value.code == "internal"


def too_long_gossip() -> bytes:
    full = FULL[0]
    assert isinstance(full, BidRequest)
    return sealed(
        BidRequest(full.request_id, 0, full.needs, 1, 1, 0, 0, 0, reply_to=("x" * 256,) * 4),
        to="",
        topic=TOPIC,
        auth=bytes(500),
    )


def too_long_direct() -> bytes:
    commit = next(each for each in FULL if isinstance(each, Commit))
    return sealed(Commit(commit.request_id, commit.bid_id, tuple(range(10_000)), commit.invocations[1:] * 10_000))


@pytest.mark.parametrize("make", [too_long_gossip, too_long_direct])
def test_what_does_not_fit_into_a_frame_is_told_to_the_user(make: Callable[[], bytes]) -> None:
    with pytest.raises(UserError) as raised:
        make()
    assert raised.value.code == "bad_argument"


def test_the_largest_log_piece_fits_into_a_direct_frame() -> None:
    log = next(each for each in LEAST if isinstance(each, AllocationMessage))
    frame = sealed(AllocationMessage(log.request_id, log.allocation_id, "stdout", 0, bytes(128 * 1024)))
    assert 128 * 1024 < len(frame) <= MAX_DIRECT_FRAME


def test_a_full_bid_request_fits_into_gossip() -> None:
    assert len(sealed(FULL[0], to="", topic=TOPIC)) <= MAX_GOSSIP_FRAME // 2
