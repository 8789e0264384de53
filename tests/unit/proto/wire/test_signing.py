"""Signatures are those of RFC 8032, the same as OpenSSL makes, and the known doubtful ones are refused."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import peer_id_of
from dms_proto.wire import Signer, verify

RFC_8032 = {
    "test 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "test 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "test 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "test SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}
ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = b"\1" + bytes(31)
IDENTITY_NOT_CANONICAL = (2**255 - 19 + 1).to_bytes(32, "little")


@pytest.mark.parametrize("name", RFC_8032)
def test_the_vectors_of_rfc_8032_hold(name: str) -> None:
    seed, public_key, message, signature = (bytes.fromhex(part) for part in RFC_8032[name])
    signer = Signer(seed)
    assert signer.public_key == public_key
    assert signer.sign(message) == signature
    assert verify(public_key, message, signature)


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), bit=st.integers(0, 511))
def test_libsodium_and_openssl_make_and_judge_the_same_signatures(seed: bytes, message: bytes, bit: int) -> None:
    signer, other = Signer(seed), Ed25519PrivateKey.from_private_bytes(seed)
    signature = signer.sign(message)
    assert signature == other.sign(message)
    assert verify(other.public_key().public_bytes_raw(), message, signature)
    damaged = bytearray(signature)
    damaged[bit // 8] ^= 1 << bit % 8
    assert not verify(signer.public_key, message, bytes(damaged))
    assert not openssl_accepts(signer.public_key, message, bytes(damaged))


def test_another_message_or_key_is_refused() -> None:
    signer, other = Signer(bytes(32)), Signer(b"\1" * 32)
    assert not verify(signer.public_key, b"b", signer.sign(b"a"))
    assert not verify(other.public_key, b"a", signer.sign(b"a"))


def test_a_second_spelling_of_a_signature_is_refused() -> None:
    signer = Signer(bytes(32))
    signature = signer.sign(b"a")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(signer.public_key, b"a", signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("key", [IDENTITY, IDENTITY_NOT_CANONICAL], ids=["canonical", "not canonical"])
def test_a_key_of_small_order_whose_signature_fits_any_message_is_refused_though_openssl_accepts_it(key: bytes) -> None:
    fits_all = IDENTITY + bytes(32)
    assert openssl_accepts(key, b"a", fits_all)
    assert openssl_accepts(key, b"b", fits_all)
    assert not verify(key, b"a", fits_all)
    assert not verify(key, b"b", fits_all)


def test_a_signature_with_r_of_small_order_is_refused_though_openssl_accepts_it() -> None:
    seed, message = b"\5" * 32, b"a"
    signer = Signer(seed)
    secret = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & ((1 << 254) - 8) | 1 << 254
    challenge = int.from_bytes(hashlib.sha512(IDENTITY + signer.public_key + message).digest(), "little")
    signature = IDENTITY + (challenge * secret % ORDER).to_bytes(32, "little")
    assert openssl_accepts(signer.public_key, message, signature)
    assert not verify(signer.public_key, message, signature)


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_wrong_lengths_are_refused_before_c_reads_them(key: int, signature: int) -> None:
    assert not verify(bytes(key), b"a", bytes(signature))


def test_bytes_cannot_move_between_signature_and_message() -> None:
    # The C function takes both in one piece, so a wrong split would verify.
    signer = Signer(bytes(32))
    signature = signer.sign(b"abc")
    assert verify(signer.public_key, b"abc", signature)
    assert not verify(signer.public_key, b"bc", signature + b"a")
    assert not verify(signer.public_key, signature[-1:] + b"abc", signature[:-1])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Signer(bytes(length))


def test_a_signer_knows_its_names_and_does_not_show_its_secret() -> None:
    signer = Signer(b"\7" * 32)
    assert signer.peer_id == peer_id_of(signer.public_key)
    assert repr(signer) == f"Signer({signer.peer_id})"


def openssl_accepts(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
