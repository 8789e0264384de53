"""Names and successions: what an honest node makes verifies from public data alone, and nothing else does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import RFC_4122, UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.testing.samples import FULL
from dms_proto.ids import PeerId, uuid_of
from dms_proto.lineage import PublicIdentity, check, identity_of, predecessors, succeed
from dms_proto.messages import Hello
from dms_proto.succession import MAX_SUCCESSIONS, Succession, Successions, signed_bytes
from dms_proto.wire import Signer

SIGNERS = [Signer(bytes([number]) * 32) for number in range(1, MAX_SUCCESSIONS + 3)]
NOW = 1_700_000_000_000


def chain(*signers: Signer) -> Successions:
    """The records of a node that had these keys, one after the other."""
    uuid = uuid_of(signers[0].public_key)
    return tuple(succeed(old, new, uuid, NOW + number) for number, (old, new) in enumerate(pairwise(signers)))


def identity(*signers: Signer) -> PublicIdentity:
    return identity_of(signers[-1].public_key, chain(*signers))


lives = st.lists(st.sampled_from(SIGNERS), min_size=1, max_size=5, unique_by=lambda signer: signer.peer_id)


def test_the_uuid_of_a_key_never_changes_from_one_release_to_the_next() -> None:
    assert uuid_of(bytes(range(32))) == "89943e4b-293f-8d89-97ac-26fa79a2b5d5"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_uuid_is_of_version_8_and_each_key_has_its_own(key: bytes, other: bytes) -> None:
    found = UUID(uuid_of(key))
    assert (str(found), found.version, found.variant) == (uuid_of(key), 8, RFC_4122)
    assert (uuid_of(other) == uuid_of(key)) == (other == key)


@given(lives)
def test_what_a_node_says_of_itself_verifies_and_gives_its_earlier_names(life: list[Signer]) -> None:
    node = identity(*life)
    assert check(node) == tuple(signer.peer_id for signer in life[:-1])
    assert node.uuid == uuid_of(life[0].public_key)
    assert node.peer_id == life[-1].peer_id
    assert msgspec.json.decode(msgspec.json.encode(node), type=PublicIdentity) == node


@given(lives, st.sampled_from(["uuid", "cid", "peer_id", "did"]), st.sampled_from(SIGNERS))
def test_no_name_can_be_another_node_s(life: list[Signer], name: str, other: Signer) -> None:
    node, stranger = identity(*life), identity(other)
    changed = msgspec.structs.replace(node, **{name: getattr(stranger, name)})
    if changed == node:
        return
    with pytest.raises(ValueError, match=r"\S"):
        check(changed)


@given(st.data())
def test_no_bit_of_a_record_can_be_changed(data: st.DataObject) -> None:
    life = SIGNERS[: data.draw(st.integers(2, 4))]
    node = identity(*life)
    index = data.draw(st.integers(0, len(node.successions) - 1))
    field = data.draw(st.sampled_from(Succession.__struct_fields__))
    record = node.successions[index]
    bad = msgspec.structs.replace(record, **{field: changed(getattr(record, field), data)})
    records = (*node.successions[:index], bad, *node.successions[index + 1 :])
    with pytest.raises(ValueError, match=r"\S"):
        predecessors(node.peer_id, node.uuid, records)


def changed(value: Any, data: st.DataObject) -> Any:
    match value:
        case bytes():
            bit = data.draw(st.integers(0, 8 * len(value) - 1))
            return bytes(byte ^ (1 << bit % 8 if bit // 8 == place else 0) for place, byte in enumerate(value))
        case int():
            return value + 1
        case _:
            return SIGNERS[-1].peer_id if value.startswith("12D3") else uuid_of(SIGNERS[-1].public_key)


@pytest.mark.parametrize(
    "pick",
    [
        lambda records: records[1:],
        lambda records: records[:-1],
        lambda records: records[::-1],
        lambda records: (*records, records[-1]),
        lambda records: (records[0], records[2]),
        lambda _records: (),
    ],
    ids=["without the first", "without the last", "reversed", "one twice", "one left out", "none"],
)
def test_records_that_are_missing_or_out_of_order_are_refused(pick: Any) -> None:
    node = identity(*SIGNERS[:4])
    with pytest.raises(ValueError, match=r"\S"):
        predecessors(node.peer_id, node.uuid, pick(node.successions))


def test_a_key_that_comes_back_is_refused() -> None:
    one, other = SIGNERS[:2]
    uuid = uuid_of(one.public_key)
    records = (succeed(one, other, uuid, NOW), succeed(other, one, uuid, NOW))
    with pytest.raises(ValueError, match="comes back"):
        predecessors(one.peer_id, uuid, records)


@pytest.mark.parametrize("thief", ["old", "new"])
def test_neither_key_alone_makes_a_succession(thief: str) -> None:
    victim, other = SIGNERS[:2]
    uuid = uuid_of(victim.public_key)
    signed = signed_bytes(victim.peer_id, other.peer_id, uuid, NOW)
    stolen = (victim if thief == "old" else other).sign(signed)
    record = Succession(victim.peer_id, other.peer_id, uuid, NOW, stolen, stolen)
    with pytest.raises(ValueError, match=r"is not signed by the (old|new) key"):
        predecessors(other.peer_id, uuid, (record,))


def test_a_signature_without_the_domain_is_none() -> None:
    old, new = SIGNERS[:2]
    uuid = uuid_of(old.public_key)
    bare = signed_bytes(old.peer_id, new.peer_id, uuid, NOW).partition(b"\0")[2]
    record = Succession(old.peer_id, new.peer_id, uuid, NOW, old.sign(bare), new.sign(bare))
    with pytest.raises(ValueError, match="not signed"):
        predecessors(new.peer_id, uuid, (record,))


def test_the_length_of_a_chain_is_bounded_where_it_arrives() -> None:
    longest, too_long = (identity(*SIGNERS[: MAX_SUCCESSIONS + more]) for more in (1, 2))
    assert msgspec.json.decode(msgspec.json.encode(longest), type=PublicIdentity) == longest
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(too_long), type=PublicIdentity)


def test_the_golden_hello_proves_its_succession() -> None:
    hello = next(message for message in FULL if isinstance(message, Hello))
    old, new = Signer(b"\x04" * 32), Signer(b"\x01" * 32)
    assert predecessors(new.peer_id, hello.uuid, hello.successions) == (old.peer_id,)


@given(st.text(max_size=60), st.text(max_size=40))
def test_text_that_is_no_name_is_refused_with_value_error(peer: str, uuid: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        predecessors(PeerId(peer), uuid, ())
