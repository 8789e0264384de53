"""The names of things: nodes, requests, bids, allocations, messages.

A node is known by its Ed25519 public key. The libp2p PeerID, the `did:key` and the CID are spellings of that key and can
each be computed and checked from it by anyone (`peer_id_of`, `did_of`, `cid_of`). The UUID follows from the node's *first* key
(`uuid_of`) and stays when the key is replaced; `dms_proto.lineage` checks it.

Ids of what follows from a request are *derived*, not drawn: the same bid for the same request always has the same id, on both
sides and after a restart. That makes handlers idempotent without a table of what was done.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Final, NewType

import base58
import msgspec

PeerId = NewType("PeerId", str)
"""libp2p PeerID in base58btc, e.g. ``12D3KooW…``: the one key by which nodes know each other."""
RequestId = NewType("RequestId", str)
"""``r-`` and 26 base32 characters; drawn by the requester. One request is one job submitted to the market."""
BidId = NewType("BidId", str)
"""``b-`` and 26 base32 characters; derived from request, provider and a number. It also names the capability lock behind the bid."""
AllocationId = NewType("AllocationId", str)
"""``a-`` and 26 base32 characters; derived from the bid and the slot it fills."""
TabId = NewType("TabId", str)
"""``t-`` and 26 base32 characters; drawn by the node that pays for calls."""
GrantId = NewType("GrantId", str)
"""``g-`` and 26 base32 characters; derived from the grant's last signature: a narrower grant made from it has an id of its own."""
MessageId = NewType("MessageId", bytes)
"""16 bytes, unique per sender: what the replay window remembers."""
Digest = NewType("Digest", str)
"""``sha256:`` and 64 hexadecimal digits: the name of a blob by its content."""
NO_DIGESTS: Final = (Digest(""), Digest(""))
"""Of an empty standard output and an empty standard error."""

ID_BYTES: Final = 16
PUBLIC_KEY_BYTES: Final = 32
_PEER_ID_PREFIX: Final = bytes.fromhex("002408011220")
"""Identity multihash (0x00), length 36, protobuf {type: Ed25519 (1), data: 32 bytes}: libp2p peer-ids specification."""
_DID_KEY_PREFIX: Final = bytes.fromhex("ed01")
"""Multicodec ed25519-pub as varint: W3C did:key method."""
_CID_PREFIX: Final = bytes.fromhex("0172")
"""CIDv1 with multicodec libp2p-key: libp2p peer-ids specification."""
_UUID_DOMAIN: Final = b"dms/node-uuid/1\0"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(first + second for first in _LETTERS for second in _LETTERS)
"""Two characters of base32 (RFC 4648) for each ten bits: a dozen ids are spelled for each job, and the library spells in steps of five bytes."""
_SHIFTS: Final = tuple(range(120, -1, -10))


class NodeId(msgspec.Struct, frozen=True):
    """All names of one node. `uuid` follows from its first public key, the others from its present one."""

    uuid: str
    cid: str
    peer_id: PeerId
    did: str


def node_id_of(public_key: bytes, uuid: str) -> NodeId:
    """The four names of the node that holds `public_key` (32 raw bytes)."""
    peer = peer_id_of(public_key)
    return NodeId(uuid=uuid, cid=cid_of(peer), peer_id=peer, did=did_of(public_key))


def peer_id_of(public_key: bytes) -> PeerId:
    """The libp2p PeerID of a raw Ed25519 public key.

    Raises:
        ValueError: the key is not 32 bytes.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, this has {len(public_key)}")
    return PeerId(base58.b58encode(_PEER_ID_PREFIX + public_key).decode())


def public_key_of(peer_id: str) -> bytes:
    """The raw Ed25519 public key inside a PeerID.

    Raises:
        ValueError: not base58, not the identity multihash of an Ed25519 key, or not its one canonical spelling.
    """
    if len(peer_id) > 64:
        raise ValueError("not an Ed25519 peer id: too long")
    raw = base58.b58decode(peer_id)
    if len(raw) != len(_PEER_ID_PREFIX) + PUBLIC_KEY_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError(f"not an Ed25519 peer id: {peer_id!r}")
    key = raw[len(_PEER_ID_PREFIX) :]
    if peer_id_of(key) != peer_id:
        # base58.b58decode drops trailing white space; a second spelling would be a second peer to every table and ban.
        raise ValueError(f"not an Ed25519 peer id: {peer_id!r} is not its canonical spelling")
    return key


def did_of(public_key: bytes) -> str:
    """The `did:key` of a raw Ed25519 public key (W3C did:key method, multibase base58btc)."""
    return "did:key:z" + base58.b58encode(_DID_KEY_PREFIX + public_key).decode()


def cid_of(peer_id: PeerId) -> str:
    """The CIDv1 (libp2p-key, base32) spelling of a PeerID."""
    raw = _CID_PREFIX + base58.b58decode(peer_id)
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def uuid_of(first_key: bytes) -> str:
    """The UUID of the node whose first raw Ed25519 public key this is: RFC 9562 version 8, from SHA-256."""
    raw = bytearray(hashlib.sha256(_UUID_DOMAIN + first_key).digest()[:ID_BYTES])
    raw[6] = raw[6] & 0x0F | 0x80  # version 8
    raw[8] = raw[8] & 0x3F | 0x80  # variant 10
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def short(peer_or_id: str) -> str:
    """How ids are shown to people: the last 8 characters of a PeerID, the first 8 of any other id."""
    return "…" + peer_or_id[-8:] if peer_or_id.startswith("12D3Koo") else peer_or_id[:8]


def request_id(entropy: bytes) -> RequestId:
    """A request id from at least 16 random bytes."""
    return RequestId(_spell("r", entropy[:ID_BYTES]))


def tab_id(entropy: bytes) -> TabId:
    """A tab id from at least 16 random bytes."""
    return TabId(_spell("t", entropy[:ID_BYTES]))


def is_tab(given: str) -> bool:
    """Whether an id, or the beginning of one, is a tab's."""
    return given.startswith("t-")


def bid_id(request: RequestId, provider: PeerId, number: int) -> BidId:
    """The id of the `number`-th bid (from 0) that `provider` makes for `request`."""
    return BidId(_derive("b", request, provider, str(number)))


def allocation_id(bid: BidId, slot: int) -> AllocationId:
    """The id of the allocation that fills `slot` (0-based index of the request's count) under `bid`."""
    return AllocationId(_derive("a", bid, str(slot)))


def grant_id(signature: bytes) -> GrantId:
    """The id of the grant, or of the part of one, that ends with this signature."""
    return GrantId(_spell("g", hashlib.sha256(signature).digest()[:ID_BYTES]))


def digest_of(data: bytes) -> Digest:
    """The content address of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


@lru_cache(maxsize=1_024)
def _derive(prefix: str, *parts: str) -> str:
    return _spell(prefix, hashlib.sha256("\0".join((prefix, *parts)).encode()).digest()[:ID_BYTES])


def _spell(prefix: str, raw: bytes) -> str:
    if len(raw) != ID_BYTES:
        raise ValueError(f"an id needs {ID_BYTES} bytes, got {len(raw)}")
    bits = int.from_bytes(raw, "big") << 2  # 26 characters of five bits, the last of them with two zeros
    return f"{prefix}-{''.join([_PAIRS[bits >> shift & 0x3FF] for shift in _SHIFTS])}"
