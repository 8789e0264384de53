"""Bytes and trees: one spelling each, strict limits, nothing raised."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.testing.samples import FULL, LEAST
from dms.testing.strategies import messages
from dms_proto.capability import Capability
from dms_proto.messages import KINDS, AllocationMessage, Message, Probe
from dms_proto.wire import encoding
from dms_proto.wire.encoding import Malformed

BROKEN = {
    "nothing": b"",
    "the byte msgpack never uses": b"\xc1",
    "two values": b"\x01\x02",
    "truncated text": b"\xa5abc",
    "announced array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "announced map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "announced text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "announced bytes of 4 GB": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xd4\x01\x00",
    "empty extension": b"\xc7\x00\x01",
    "timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "2,000 levels": b"\x91" * 2_000 + b"\xc0",
    "100,000 levels": b"\x91" * 100_000 + b"\xc0",
    "repeated key": b"\x82\xa1a\x01\xa1a\x02",
    "integer key": b"\x81\x01\x01",
    "array as key": b"\x81\x90\x01",
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "surrogate": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "one in two bytes": b"\xcc\x01",
    "one in nine bytes": b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
    "minus one in two bytes": b"\xd0\xff",
    "one as signed": b"\xd0\x01",
    "long header for short text": b"\xd9\x01a",
    "long header for short array": b"\xdc\x00\x01\x01",
    "long header for short map": b"\xde\x00\x01\xa1a\x01",
    "long header for short bytes": b"\xc5\x00\x01a",
    "a float of four bytes": b"\xca\x3f\x80\x00\x00",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_or_second_spellings_are_malformed(data: bytes) -> None:
    assert isinstance(encoding.unpack(data), Malformed)


@pytest.mark.parametrize("length", [encoding.MAX_STRING, encoding.MAX_STRING + 1])
def test_text_is_limited(length: int) -> None:
    assert isinstance(encoding.unpack(encoding.pack("x" * length)), str) == (length <= encoding.MAX_STRING)


@pytest.mark.parametrize("length", [encoding.MAX_ITEMS, encoding.MAX_ITEMS + 1])
def test_arrays_are_limited(length: int) -> None:
    assert isinstance(encoding.unpack(encoding.pack([0] * length)), list) == (length <= encoding.MAX_ITEMS)


@pytest.mark.parametrize("length", [encoding.MAX_KEYS, encoding.MAX_KEYS + 1])
def test_maps_are_limited(length: int) -> None:
    tree = {str(number): 0 for number in range(length)}
    assert isinstance(encoding.unpack(encoding.pack(tree)), dict) == (length <= encoding.MAX_KEYS)


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_tree_that_spells_them_or_malformed(data: bytes) -> None:
    tree = encoding.unpack(data)
    assert isinstance(tree, Malformed) or encoding.pack(tree) == data


@given(message=messages())
def test_every_message_survives_the_way_there_and_back(message: Message) -> None:
    body = encoding.encode_body(message)
    assert encoding.decode_body(type(message).__name__, body) == message
    assert encoding.encode_body(message) == body


@pytest.mark.parametrize("kind", KINDS)
def test_the_strategies_reach_every_kind(kind: str) -> None:
    @given(message=messages(KINDS[kind]))
    def survives(message: Message) -> None:
        assert encoding.decode_body(kind, encoding.encode_body(message)) == message

    survives()


@given(message=messages())
def test_the_bytes_are_those_of_msgspec_without_the_kind(message: Message) -> None:
    # A second implementation of msgpack agrees on every byte.
    tree = msgspec.msgpack.decode(msgspec.msgpack.encode(message, order="deterministic"))
    assert tree.pop("kind") == type(message).__name__
    assert msgspec.msgpack.encode(tree) == encoding.encode_body(message)


def test_the_order_in_which_a_mapping_was_filled_does_not_show() -> None:
    one, other = Capability(labels={"a": "1", "b": "2"}), Capability(labels={"b": "2", "a": "1"})
    assert body_of(one) == body_of(other)


def body_of(needs: Capability) -> bytes:
    return encoding.encode_body(msgspec.structs.replace(LEAST[0], needs=needs))


@pytest.mark.parametrize("message", [*LEAST, *FULL], ids=lambda message: type(message).__name__)
def test_a_field_of_a_later_minor_release_is_skipped(message: Message) -> None:
    tree = encoding.unpack(encoding.encode_body(message))
    later = encoding.pack({"field_of_tomorrow": [1, {"a": 0.5}], **tree})
    assert encoding.decode_body(type(message).__name__, later) == message


def test_keys_may_come_in_any_order() -> None:
    assert encoding.decode_body("Probe", encoding.pack({"reply": True, "nonce": 7})) == Probe(7, reply=True)


def test_a_body_may_repeat_its_kind_but_not_name_another() -> None:
    assert encoding.decode_body("Probe", encoding.pack({"kind": "Probe", "nonce": 7})) == Probe(7)
    assert isinstance(encoding.decode_body("Probe", encoding.pack({"kind": "Bid", "nonce": 7})), Malformed)


@pytest.mark.parametrize("nonce", [True, 1.0, "1", b"1", None, -1, 2**53 + 1, 2**64 - 1, [1]], ids=repr)
def test_nothing_is_taken_for_an_integer_but_one_in_range(nonce: object) -> None:
    assert isinstance(encoding.decode_body("Probe", msgpack.packb({"nonce": nonce})), Malformed)


def test_text_is_not_taken_for_bytes() -> None:
    message = next(each for each in LEAST if isinstance(each, AllocationMessage))
    tree = encoding.unpack(encoding.encode_body(message))
    assert isinstance(encoding.decode_body("AllocationMessage", encoding.pack({**tree, "data": "AAAA"})), Malformed)


def test_a_message_that_breaks_its_rules_cannot_be_encoded() -> None:
    with pytest.raises(msgspec.ValidationError, match="nonce"):
        encoding.encode_body(Probe(-1))


def test_explanations_are_short_and_printable() -> None:
    assert encoding.printable("a\n\x1b[31m\u202eb") == "a??[31m?b"
    assert len(encoding.printable("x" * 1_000)) == encoding.MAX_DETAIL
