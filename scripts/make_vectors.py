"""Writes the golden vectors that are missing from proto/vectors, and checks those that are there. Never changes one.

    python scripts/make_vectors.py [FOLDER]

A vector that differs from what this code makes is named and the exit status is 1: a released frame changed its bytes or its meaning, so either the
change is a mistake or it is a new version of the envelope.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dms.testing.samples import (
    CHECKPOINTED,
    CHUNKED,
    CONTAINED,
    DELEGATED,
    FROZEN,
    FULL,
    GUARDED,
    LEADING_OUT,
    LEAST,
    LOGGED,
    MARKED,
    NOW,
    PROVIDER,
    REACHABLE,
    READING,
    RENAMED,
    REQUESTER,
    SEALED,
    STRANGER,
    TOPIC,
)
from dms.testing.vectors import VECTORS, KindVector, RefusalVector, Window
from dms_proto.ids import MessageId, digest_of
from dms_proto.messages import GOSSIPED, AnyMessage, Bid, BidRequest, Probe
from dms_proto.wire import MAX_GOSSIP_FRAME, RefusalCode, Signer, encoding, seal
from dms_proto.wire.envelope import DOMAIN, VERSION, Signed

SEEDS = {signer.peer_id: bytes([number]) * 32 for number, signer in enumerate((REQUESTER, PROVIDER, STRANGER), 1)}
TTL = 30_000


def main(folder: Path) -> int:
    changed = [path for path, content in vectors(folder) if not keep(path, content)]
    for path in changed:
        print(f"{path} is not what this code makes; it was left as it is", file=sys.stderr)
    return 1 if changed else 0


def keep(path: Path, content: bytes) -> bool:
    """Writes a missing file; says whether the file holds `content` now."""
    if path.exists():
        return path.read_bytes() == content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"wrote {path}")
    return True


def vectors(folder: Path) -> Iterator[tuple[Path, bytes]]:
    named = {
        "least": LEAST,
        "full": FULL,
        "guarded": GUARDED,
        "logged": LOGGED,
        "frozen": FROZEN,
        "delegated": DELEGATED,
        "renamed": RENAMED,
        "sealed": SEALED,
        "reachable": REACHABLE,
        "contained": CONTAINED,
        "chunked": CHUNKED,
        "reading": READING,
        "checkpointed": CHECKPOINTED,
        "marked": MARKED,
        "leading_out": LEADING_OUT,
    }
    for name, messages in named.items():
        for message in messages:
            yield folder / "kinds" / f"{type(message).__name__}.{name}.json", pretty(kind_vector(name, message))
    for code, case, vector in refusal_cases():
        yield folder / "refused" / f"{code}.{case}.json", pretty(vector)


def pretty(vector: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(vector), indent=2) + b"\n"


def id_of(name: str) -> MessageId:
    """A fixed envelope id for a vector."""
    return MessageId(bytes.fromhex(digest_of(name.encode()).removeprefix("sha256:"))[:16])


def kind_vector(name: str, message: AnyMessage) -> KindVector:
    kind, is_full = type(message).__name__, name == "full"
    topic = TOPIC if kind in GOSSIPED else ""
    to = "" if topic else PROVIDER.peer_id
    cause, auth = ("c-1", b"\x01\x02") if is_full else ("", b"")
    id_ = id_of(f"{kind}.{name}")
    frame = seal(REQUESTER, message, id=id_, to=to, topic=topic, cause=cause, sent=NOW, ttl_ms=TTL, auth=auth)
    meaning = msgspec.json.decode(msgspec.json.encode(message))
    del meaning["kind"]
    return KindVector(
        kind=kind,
        seed=SEEDS[REQUESTER.peer_id].hex(),
        id=id_.hex(),
        to=to,
        topic=topic,
        cause=cause,
        sent_ms=NOW,
        expires_ms=NOW + TTL,
        auth=auth.hex(),
        message=meaning,
        body=encoding.encode_body(message).hex(),
        frame=frame.hex(),
    )


# ------------------------------------------------------------------------------------------------------------ refused frames

PROBE = Probe(7)
ASK = LEAST[0]
assert isinstance(ASK, BidRequest)


def direct(name: str, message: AnyMessage = PROBE, *, signer: Signer = REQUESTER, sent: int = NOW) -> bytes:
    return seal(signer, message, id=id_of(name), to=PROVIDER.peer_id, sent=sent, ttl_ms=TTL)


def gossip(name: str, *, signer: Signer = REQUESTER, topic: str = TOPIC) -> bytes:
    return seal(signer, ASK, id=id_of(name), topic=topic, sent=NOW, ttl_ms=TTL)


def forged(name: str, change: Callable[[Signed], Signed], *, message: AnyMessage = PROBE) -> bytes:
    """A well-signed frame that `seal` would not make."""
    signed = Signed(
        version=VERSION,
        id=id_of(name),
        kind=type(message).__name__,
        key=REQUESTER.public_key,
        to=PROVIDER.peer_id,
        topic="",
        cause="",
        sent_ms=NOW,
        expires_ms=NOW + TTL,
        body=encoding.encode_body(message),
        auth=b"",
    )
    return framed(encoding.pack(change(signed).as_list()))


def framed(signed: bytes, signer: Signer = REQUESTER) -> bytes:
    return encoding.pack((signed, signer.sign(DOMAIN + signed)))


def changed(**fields: object) -> Callable[[Signed], Signed]:
    return lambda signed: msgspec.structs.replace(signed, **fields)


def refusal(code: RefusalCode, why: str, frame: bytes, **circumstances: object) -> RefusalVector:
    usual = RefusalVector(
        code=code,
        why=why,
        me=PROVIDER.peer_id,
        via=REQUESTER.peer_id,
        topic="",
        topics=(TOPIC,),
        now=NOW,
        has_tokens=True,
        window=Window(),
        before=(),
        frame=frame.hex(),
    )
    return msgspec.structs.replace(usual, **circumstances)


def refusal_cases() -> Iterator[tuple[RefusalCode, str, RefusalVector]]:
    for name, (why, frame, circumstances) in {**structure_cases(), **address_cases(), **state_cases()}.items():
        code, case = name.split(".")
        yield RefusalCode(code), case, refusal(RefusalCode(code), why, frame, **circumstances)


Cases = dict[str, tuple[str, bytes, dict[str, object]]]


def structure_cases() -> Cases:
    good = direct("good")
    newer = encoding.pack([2, id_of("newer"), {"everything": "may differ"}])
    repeated = b"\x82\xa5nonce\x01\xa5nonce\x02"
    longer = b"\x81\xa5nonce\xcf" + (7).to_bytes(8, "big")
    nested = b"\x82\xa5nonce\x01\xa1x" + b"\x91" * 2_000 + b"\xc0"
    return {
        "too_large.gossip": ("one byte more than gossip may have", bytes(MAX_GOSSIP_FRAME + 1), {"topic": TOPIC}),
        "malformed.empty": ("no bytes at all", b"", {}),
        "malformed.truncated": ("the last byte is missing", good[:-1], {}),
        "malformed.extended": ("a byte follows the frame", good + b"\0", {}),
        "malformed.huge_array": ("announces 4,294,967,295 elements", b"\xdd\xff\xff\xff\xff", {}),
        "malformed.no_version": ("version 0", forged("v0", changed(version=0)), {}),
        "malformed.short_id": ("an id of 15 bytes", forged("short", changed(id=bytes(15))), {}),
        "malformed.nowhere": ("names neither receiver nor topic", forged("nowhere", changed(to="")), {}),
        "malformed.both": ("names receiver and topic", forged("both", changed(topic=TOPIC)), {}),
        "malformed.extra_field": (
            "an element more than this version has",
            framed(encoding.pack([*_elements(good), 0])),
            {},
        ),
        "newer_version.two": ("version 2, of unknown form after the id", framed(newer), {}),
        "unknown_kind.greeting": ("no kind of this version", forged("kind", changed(kind="Greeting")), {}),
        "bad_body.field_missing": ("a Probe without nonce", forged("missing", changed(body=b"\x80")), {}),
        "bad_body.wrong_type": ("a nonce of text", forged("type", changed(body=b"\x81\xa5nonce\xa17")), {}),
        "bad_body.repeated_key": ("the nonce twice", forged("repeated", changed(body=repeated)), {}),
        "bad_body.longer_integer": ("7 in nine bytes", forged("longer", changed(body=longer)), {}),
        "bad_body.nested": ("2,000 levels in an unknown field", forged("nested", changed(body=nested)), {}),
        "bad_body.bad_utf8": ("a key that is not UTF-8", forged("utf8", changed(body=b"\x81\xa2\xff\xfe\x01")), {}),
        "bad_body.bad_id": ("a request id that climbs out of a directory", forged("climb", _climbing), {}),
    }


def _elements(frame: bytes) -> list[object]:
    elements: list[object] = encoding.unpack(encoding.unpack(frame)[0])
    return elements


def _climbing(signed: Signed) -> Signed:
    body = encoding.pack({"request_id": "../../../etc/passwd"})
    return msgspec.structs.replace(signed, kind="Release", body=body)


def address_cases() -> Cases:
    bid = next(message for message in LEAST if isinstance(message, Bid))
    to_stranger = seal(REQUESTER, PROBE, id=id_of("elsewhere"), to=STRANGER.peer_id, sent=NOW, ttl_ms=TTL)
    bid_as_gossip = forged("bid", changed(to="", topic=TOPIC), message=bid)
    return {
        "not_gossip.bid": ("bids never travel on a topic", bid_as_gossip, {"topic": TOPIC}),
        "not_for_us.receiver": ("for a third node", to_stranger, {}),
        "not_for_us.topic": ("written for another topic", gossip("other", topic="dms/other/1"), {"topic": TOPIC}),
        "not_for_us.direct_on_topic": ("for this node alone, but on a topic", direct("private"), {"topic": TOPIC}),
        "wrong_sender.relayed": ("another node's words on this stream", direct("relay", signer=STRANGER), {}),
        "echo.gossip": ("the receiver's own words", gossip("echo", signer=PROVIDER), {"topic": TOPIC}),
    }


def state_cases() -> Cases:
    first, second, third = direct("first"), direct("second", sent=NOW + 1), direct("third", sent=NOW)
    other = gossip("other author", signer=STRANGER)
    return {
        "lifetime.reversed": ("expires before it was sent", forged("reversed", changed(expires_ms=NOW - 1)), {}),
        "lifetime.endless": ("ten minutes and one ms", forged("endless", changed(expires_ms=NOW + 600_001)), {}),
        "from_future.skew": ("31 s from now", direct("future", sent=NOW + 31_000), {}),
        "expired.skew": ("expired 31 s ago", direct("expired"), {"now": NOW + TTL + 31_000}),
        "duplicate.replayed": ("the same frame again", first, {"before": (first.hex(),)}),
        "stale.forgotten": (
            "pushed out of a window of one by a later frame; sent no later than what was forgotten",
            third,
            {"before": (first.hex(), second.hex()), "window": Window(per_sender=1)},
        ),
        "window_full.senders": (
            "a second author in a window for one",
            other,
            {"before": (gossip("one author").hex(),), "topic": TOPIC, "window": Window(senders=1)},
        ),
        "rate.deliverer": ("the deliverer has no token left", direct("rate"), {"has_tokens": False}),
        "source_rate.crowd": (
            "the deliverer has a token, all from where it is have none",
            direct("source rate"),
            {"source_has_tokens": False},
        ),
        "bad_signature.flipped": ("one bit of the signature differs", _flip_last_bit(direct("flipped")), {}),
        "bad_signature.domain": ("signed without the domain", _undomained(), {}),
    }


def _flip_last_bit(frame: bytes) -> bytes:
    return frame[:-1] + bytes((frame[-1] ^ 1,))


def _undomained() -> bytes:
    data = encoding.unpack(direct("domain"))[0]
    return encoding.pack((data, REQUESTER.sign(data)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else VECTORS))
