from __future__ import annotations

import base64
import hashlib
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dms_proto import ids

keys = st.binary(min_size=32, max_size=32)
KEY = bytes(range(32))
PEER = ids.peer_id_of(KEY)


def libp2p_peer_id(public_key: bytes) -> str:
    """What libp2p itself calls the holder of this key."""
    ed25519 = pytest.importorskip("libp2p.crypto.ed25519", reason="libp2p is not installed")
    peer = pytest.importorskip("libp2p.peer.id", reason="libp2p is not installed")
    return str(peer.ID.from_pubkey(ed25519.Ed25519PublicKey.from_bytes(public_key)))


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_spelled_in_base32_as_rfc_4648_says(raw: bytes) -> None:
    spelled = ids.request_id(raw).removeprefix("r-")
    assert base64.b32decode(spelled.upper() + "======") == raw
    assert spelled == base64.b32encode(raw).decode().lower().rstrip("=")


@given(keys)
def test_the_public_key_comes_back_out_of_the_peer_id(key: bytes) -> None:
    assert ids.public_key_of(ids.peer_id_of(key)) == key


@pytest.mark.parametrize("seed", range(20))
def test_peer_id_equals_the_one_libp2p_computes(seed: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(str(seed).encode()).digest())
    key = private.public_key().public_bytes_raw()
    assert ids.peer_id_of(key) == libp2p_peer_id(key)


def test_cid_decodes_to_the_peer_id_under_the_libp2p_key_codec() -> None:
    cid = pytest.importorskip("cid", reason="py-cid is not installed")
    decoded = cid.from_string(ids.cid_of(PEER))
    assert decoded.version == 1
    assert decoded.codec == "libp2p-key"
    import base58

    assert base58.b58encode(decoded.multihash).decode() == PEER


@pytest.mark.parametrize(
    ("peer", "cid"),
    [  # pairs published by other implementations of the libp2p peer-ids specification (the second is in go-multiaddr's tests)
        (
            "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
            "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l",
        ),
        (
            "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV",
            "bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u",
        ),
    ],
)
def test_peer_id_and_cid_agree_with_other_implementations(peer: str, cid: str) -> None:
    assert ids.cid_of(ids.PeerId(peer)) == cid


def test_peer_id_of_a_published_key_is_the_published_one() -> None:
    key = bytes.fromhex("2ffa35a99d3a3cfbb17bb7c1dc5561b18a8dcca4df38dc613ea859c37eb1336b")
    assert ids.peer_id_of(key) == "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def test_peer_id_of_the_key_in_the_libp2p_specification_is_the_one_its_implementations_compute() -> None:
    """The Ed25519 test vector of the libp2p peer-ids specification; rust-libp2p gives this name to it."""
    key = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert ids.peer_id_of(key) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


@pytest.mark.parametrize(
    ("seed", "did"),
    [
        (0, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        (1, "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"),
        (2, "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf"),
    ],
)
def test_did_key_is_the_published_one(seed: int, did: str) -> None:
    """The first of the Ed25519 test vectors of the W3C did:key method; their seeds are numbers in 32 bytes."""
    private = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
    assert ids.did_of(private.public_key().public_bytes_raw()) == did


def test_a_uuid_is_one_of_rfc_9562() -> None:
    parsed = uuid.UUID(ids.uuid_of(KEY))
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


def test_did_key_is_multibase_of_the_ed25519_multicodec_and_the_key() -> None:
    multibase = pytest.importorskip("multibase", reason="py-multibase is not installed")
    did = ids.did_of(KEY)
    assert did.startswith("did:key:z6Mk")  # W3C did:key: every Ed25519 did begins so
    assert multibase.decode(did.removeprefix("did:key:")) == b"\xed\x01" + KEY


@given(keys)
def test_all_names_of_a_node_follow_from_its_key(key: bytes) -> None:
    node = ids.node_id_of(key, "some-uuid")
    assert node == ids.NodeId("some-uuid", ids.cid_of(node.peer_id), ids.peer_id_of(key), ids.did_of(key))
    assert len({node.cid, node.peer_id, node.did}) == 3


@given(st.binary(max_size=64).filter(lambda raw: len(raw) != 32))
def test_a_key_of_another_length_has_no_peer_id(raw: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ids.peer_id_of(raw)


@given(st.text(max_size=80))
def test_text_that_is_no_peer_id_is_refused_with_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        ids.public_key_of(text)


@pytest.mark.parametrize("change", ["\n", " ", "\t", "\n\n"])
def test_trailing_white_space_is_not_a_second_spelling_of_a_peer(change: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        ids.public_key_of(PEER + change)


def test_a_peer_id_of_another_key_type_is_refused() -> None:
    with pytest.raises(ValueError, match="not an Ed25519 peer id"):
        ids.public_key_of("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")  # an RSA peer


@given(st.binary(min_size=16, max_size=64))
def test_request_ids_have_their_form_and_depend_on_16_bytes_only(entropy: bytes) -> None:
    name = ids.request_id(entropy)
    assert name.startswith("r-")
    assert len(name) == 28
    assert set(name[2:]) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert ids.request_id(entropy[:16] + b"anything") == name


def test_too_little_entropy_makes_no_id() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        ids.request_id(b"short")


def test_derived_ids_never_change_from_one_release_to_the_next() -> None:
    request = ids.request_id(bytes(16))
    bid = ids.bid_id(request, PEER, 1)
    assert request == "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"
    assert bid == "b-hm5lqa3zf3ltwjd6ircfnejryu"
    assert ids.allocation_id(bid, 0) == "a-6i3dlk7rgrmqn2igz5fgq6h7wq"


@given(st.binary(min_size=16, max_size=16), keys, st.integers(0, 9), st.integers(0, 9))
def test_the_same_bid_has_the_same_id_on_both_sides_and_another_bid_another(
    entropy: bytes, key: bytes, round_: int, other: int
) -> None:
    request, peer = ids.request_id(entropy), ids.peer_id_of(key)
    bid = ids.bid_id(request, peer, round_)
    assert (ids.bid_id(request, peer, other) == bid) == (other == round_)
    assert (ids.allocation_id(bid, other) == ids.allocation_id(bid, round_)) == (other == round_)


@given(st.binary(max_size=200))
def test_a_digest_names_the_content(data: bytes) -> None:
    assert ids.digest_of(data) == "sha256:" + hashlib.sha256(data).hexdigest()


def test_people_see_the_end_of_a_peer_id_and_the_start_of_other_ids() -> None:
    assert ids.short(PEER) == "…" + PEER[-8:]
    assert ids.short("r-abcdefghijkl") == "r-abcdef"
