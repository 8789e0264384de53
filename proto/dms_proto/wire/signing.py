"""Ed25519 signatures: `Signer` makes them, `verify` checks them. Signatures of RFC 8032, through libsodium.

libsodium (PyNaCl) takes two thirds of the time of OpenSSL (`cryptography`) for the same work, and this is most of the CPU of a message; `make bench`
shows both. It is also the stricter of the two:

==========================================================  =========  ========
signature or key                                            libsodium  OpenSSL
==========================================================  =========  ========
S not below the group order (a second spelling of S)        refused    refused
public key of small order (signatures that fit any message) refused    accepted
R of small order                                            refused    accepted
public key not in canonical form                            refused    accepted
==========================================================  =========  ========

A signature made by RFC 8032 is accepted by both. Nothing here rests on two nodes agreeing about a signature nobody honest makes: a node decides
for itself what it answers. Keys on disk are kept with `cryptography` (`dms.config.identity`); 32-byte seeds and public keys pass between the two.
"""

from __future__ import annotations

from typing import Final

from nacl import bindings, exceptions

from dms_proto.ids import PUBLIC_KEY_BYTES, PeerId, peer_id_of

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Signer:
    """Signs as one node. Immutable; may be shared between threads.

    Attributes:
        public_key: 32 raw bytes.
        peer_id: the node's name, spelled from the key.
    """

    __slots__ = ("_secret_key", "peer_id", "public_key")

    public_key: bytes
    peer_id: PeerId

    def __init__(self, seed: bytes) -> None:
        """From the 32-byte Ed25519 seed (what RFC 8032 calls the private key).

        Raises:
            ValueError: the seed is not 32 bytes.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, this has {len(seed)}")
        self.public_key, self._secret_key = bindings.crypto_sign_seed_keypair(seed)
        self.peer_id = peer_id_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`. The same message always has the same signature."""
        return bindings.crypto_sign(message, self._secret_key)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Signer({self.peer_id})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of the holder of `public_key` over `message`. False for keys and signatures of a wrong length."""
    # The lengths are checked here because the C function reads 32 and 64 bytes whatever it is given.
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except exceptions.BadSignatureError:
        return False
    return True
