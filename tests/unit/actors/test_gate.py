"""The gate: frames in, messages out; refusals counted and, where that helps nobody else, answered."""

from __future__ import annotations

from collections import Counter

import pytest

from dms.testing.samples import ALLOCATION, NOW, PROVIDER, REQUEST, REQUESTER, STRANGER, TOPIC
from dms_actors.gate import Gate, Muted
from dms_proto.capability import Capability
from dms_proto.ids import MessageId, PeerId
from dms_proto.messages import AnyMessage, BidRequest, Cancel, Probe, Refusal
from dms_proto.wire import DEFAULT_LIMITS, SOURCE_LIMITS, Envelope, KindClass, Offence, Scores, Signer, seal
from dms_proto.wire.scores import HALF_LIFE_MS, MUTE_AT, POINTS

CANCEL = Cancel(REQUEST, ALLOCATION)
ASKING = BidRequest(REQUEST, 0, Capability(), 1, 1, 0, 0, 0)


@pytest.fixture
def counted() -> Counter[tuple[str, str]]:
    return Counter()


@pytest.fixture
def gate(counted: Counter[tuple[str, str]]) -> Gate:
    return Gate(PROVIDER.peer_id, TOPIC, lambda name, label: counted.update([(name, label)]))


def frame(
    message: AnyMessage = CANCEL,
    *,
    signer: Signer = REQUESTER,
    number: int = 1,
    sent: int = NOW,
    to: str = PROVIDER.peer_id,
    topic: str = "",
) -> bytes:
    id_ = MessageId(number.to_bytes(16, "big"))
    return seal(signer, message, id=id_, sent=sent, ttl_ms=10_000, to="" if topic else to, topic=topic)


def test_a_good_frame_opens(gate: Gate) -> None:
    opened = gate.open(frame(), REQUESTER.peer_id, "", NOW)
    assert isinstance(opened, Envelope)
    assert opened.sender == REQUESTER.peer_id
    assert opened.message == CANCEL
    assert not gate.refused


def test_the_same_frame_opens_once(gate: Gate) -> None:
    assert isinstance(gate.open(frame(), REQUESTER.peer_id, "", NOW), Envelope)
    assert not isinstance(gate.open(frame(), REQUESTER.peer_id, "", NOW), Envelope)
    assert gate.refused == {"duplicate": 1}


def test_a_gossiped_request_opens_once_whoever_forwards_it(gate: Gate) -> None:
    gossiped = frame(ASKING, topic=TOPIC)
    assert isinstance(gate.open(gossiped, STRANGER.peer_id, TOPIC, NOW), Envelope)
    assert gate.open(gossiped, REQUESTER.peer_id, TOPIC, NOW) is None


def test_garbage_is_counted_by_its_code_and_never_raises(gate: Gate, counted: Counter[tuple[str, str]]) -> None:
    for garbage in (b"", b"\xc1", b"\x00" * 100, frame()[:-1], b"x" * 300_000):
        assert not isinstance(gate.open(garbage, STRANGER.peer_id, "", NOW), Envelope)
    assert sum(gate.refused.values()) == 5
    assert {code: counted["frames_refused", code] for code in gate.refused} == gate.refused


def test_a_peer_we_speak_with_is_told_why_its_message_was_refused(gate: Gate) -> None:
    late = frame(sent=NOW - 300_000)
    answer = gate.open(late, REQUESTER.peer_id, "", NOW)
    assert isinstance(answer, Refusal)
    assert answer.code == "expired"


def test_a_message_for_somebody_else_is_refused(gate: Gate) -> None:
    assert not isinstance(gate.open(frame(to=STRANGER.peer_id), REQUESTER.peer_id, "", NOW), Envelope)
    assert gate.refused == {"not_for_us": 1}


def test_a_forged_signature_is_refused(gate: Gate) -> None:
    good = frame()
    forged = good[:-1] + bytes([good[-1] ^ 1])
    assert not isinstance(gate.open(forged, REQUESTER.peer_id, "", NOW), Envelope)
    assert gate.refused == {"bad_signature": 1}


def test_a_flood_from_one_peer_is_cut_off_and_others_are_not(gate: Gate) -> None:
    for number in range(200):
        gate.open(frame(Probe(number), number=number), REQUESTER.peer_id, "", NOW)
    assert gate.refused["rate"] > 0
    opened = gate.open(frame(Probe(1), signer=STRANGER, number=9_999), STRANGER.peer_id, "", NOW)
    assert isinstance(opened, Envelope)


def test_who_sends_garbage_is_muted_and_not_heard_until_it_is_forgiven(gate: Gate) -> None:
    said = [gate.open(b"\xc1", REQUESTER.peer_id, "", NOW) for _ in range(MUTE_AT // POINTS[Offence.MALFORMED])]
    assert said[-1] == Muted(REQUESTER.peer_id, Offence.MALFORMED)
    assert gate.open(frame(), REQUESTER.peer_id, "", NOW) is None
    assert isinstance(gate.open(frame(signer=STRANGER), STRANGER.peer_id, "", NOW), Envelope)
    later = NOW + HALF_LIFE_MS
    assert isinstance(gate.open(frame(number=2, sent=later), REQUESTER.peer_id, "", later), Envelope)


def test_gossip_of_a_muted_author_goes_no_further_whoever_hands_it_on(gate: Gate) -> None:
    for _ in range(MUTE_AT // POINTS[Offence.MALFORMED]):
        gate.open(b"\xc1", REQUESTER.peer_id, "", NOW)
    assert gate.open(frame(ASKING, topic=TOPIC), STRANGER.peer_id, TOPIC, NOW) is None
    assert gate.refused["rate"] == 1


def test_the_scores_it_is_given_say_how_soon_a_peer_is_forgiven() -> None:
    gate = Gate(PROVIDER.peer_id, TOPIC, lambda _name, _label: None, Scores(half_life_ms=1_000))
    for _ in range(MUTE_AT // POINTS[Offence.MALFORMED]):
        gate.open(b"\xc1", REQUESTER.peer_id, "", NOW)
    assert gate.open(frame(), REQUESTER.peer_id, "", NOW) is None
    assert isinstance(gate.open(frame(sent=NOW + 1_000), REQUESTER.peer_id, "", NOW + 1_000), Envelope)


def from_where(peer: PeerId) -> str:
    """Everybody is at one place, but for the provider and the requester."""
    return "here" if peer in (PROVIDER.peer_id, REQUESTER.peer_id) else "there"


@pytest.fixture(scope="module")
def sybils() -> list[Signer]:
    return [Signer(bytes([100 + number]) * 32) for number in range(100)]


def test_a_hundred_identities_of_one_source_share_one_budget(sybils: list[Signer]) -> None:
    gate = Gate(PROVIDER.peer_id, TOPIC, lambda _name, _label: None, source_of=from_where)
    share = SOURCE_LIMITS[KindClass.MEMBERSHIP].burst
    heard = 0
    for sybil in sybils:
        for number in range(DEFAULT_LIMITS[KindClass.MEMBERSHIP].burst // 10):
            opened = gate.open(frame(Probe(number), signer=sybil, number=number), sybil.peer_id, "", NOW)
            heard += isinstance(opened, Envelope)
    assert heard == share
    assert gate.refused == {"source_rate": 1_000 - share}
    assert isinstance(gate.open(frame(Probe(1)), REQUESTER.peer_id, "", NOW), Envelope)


def test_who_sends_little_is_not_muted_for_what_its_neighbours_send(sybils: list[Signer]) -> None:
    gate = Gate(PROVIDER.peer_id, TOPIC, lambda _name, _label: None, source_of=from_where)
    honest, floods = sybils[0], sybils[1:11]
    for second in range(60):
        now = NOW + second * 1_000
        for sybil in floods:
            for number in range(20):
                gate.open(
                    frame(Probe(number), signer=sybil, number=second * 100 + number, sent=now), sybil.peer_id, "", now
                )
        told = gate.open(frame(Probe(1), signer=honest, number=second, sent=now), honest.peer_id, "", now)
        assert not isinstance(told, Muted)
