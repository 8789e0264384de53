"""The golden vectors: bytes and meaning agree, in both directions, for every kind and every refusal."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from dms.testing.vectors import KindVector, RefusalVector, kind_vectors, refusal_vectors
from dms_proto.ids import MessageId
from dms_proto.messages import GOSSIPED, KINDS, Message
from dms_proto.wire import Envelope, OpeningContext, RefusalCode, RefusedFrame, ReplayWindow, Signer, open_frame, seal
from dms_proto.wire.encoding import decode_body, encode_body

ACCEPTED, REFUSED = kind_vectors(), refusal_vectors()


def meaning(vector: KindVector) -> Any:
    return msgspec.json.decode(msgspec.json.encode(vector.message), type=KINDS[vector.kind])


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_meaning_gives_the_bytes(name: str) -> None:
    vector = ACCEPTED[name]
    frame = seal(
        Signer(bytes.fromhex(vector.seed)),
        meaning(vector),
        id=MessageId(bytes.fromhex(vector.id)),
        to=vector.to,
        topic=vector.topic,
        cause=vector.cause,
        sent=vector.sent_ms,
        ttl_ms=vector.expires_ms - vector.sent_ms,
        auth=bytes.fromhex(vector.auth),
    )
    assert frame.hex() == vector.frame
    assert encode_body(meaning(vector)).hex() == vector.body


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_bytes_give_the_meaning(name: str) -> None:
    vector = ACCEPTED[name]
    sender = Signer(bytes.fromhex(vector.seed)).peer_id
    me = Signer(b"\x02" * 32).peer_id
    context = OpeningContext(me, sender, ReplayWindow(), ReplayWindow(), topic=vector.topic)
    opened = open_frame(bytes.fromhex(vector.frame), context, vector.sent_ms)
    assert isinstance(opened, Envelope)
    assert opened.message == meaning(vector)
    assert (opened.kind, opened.sender, opened.to, opened.topic) == (vector.kind, sender, vector.to, vector.topic)
    assert (opened.cause, opened.sent_ms, opened.expires_ms) == (vector.cause, vector.sent_ms, vector.expires_ms)
    assert (opened.id.hex(), opened.auth.hex(), opened.body.hex()) == (vector.id, vector.auth, vector.body)
    assert decode_body(vector.kind, opened.body) == meaning(vector)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_vector_is_refused_with_its_code(name: str) -> None:
    vector: RefusalVector = REFUSED[name]
    context = vector.context()
    for earlier in vector.before:
        assert isinstance(open_frame(bytes.fromhex(earlier), context, vector.now), Envelope)
    refused = open_frame(bytes.fromhex(vector.frame), context, vector.now)
    assert isinstance(refused, RefusedFrame)
    assert refused.code is vector.code
    assert name.startswith(f"{vector.code}.")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_vector_and_every_field_is_set_in_one(kind: str) -> None:
    of_kind = [vector for vector in ACCEPTED.values() if vector.kind == kind]
    seen = {field for vector in of_kind for field in vector.message}
    assert seen == set(KINDS[kind].__struct_fields__)
    assert any(vector.message.keys() == required(KINDS[kind]) for vector in of_kind)


def required(kind: type[Message]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind) if field.required}


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_a_vector(code: RefusalCode) -> None:
    assert any(vector.code is code for vector in REFUSED.values())


def test_gossiped_kinds_have_vectors_on_a_topic() -> None:
    assert {vector.kind for vector in ACCEPTED.values() if vector.topic} == GOSSIPED


def test_bytes_in_a_meaning_are_base64() -> None:
    data = ACCEPTED["AllocationMessage.full"].message["data"]
    assert base64.b64decode(data, validate=True) == b"\x00\xffbytes, not text\n"


def script() -> ModuleType:
    path = Path(__file__).parents[4] / "scripts" / "make_vectors.py"
    spec = importlib.util.spec_from_file_location("make_vectors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_writes_what_is_missing_and_never_changes_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = script()
    assert make.main(tmp_path) == 0
    assert kind_vectors(tmp_path) == ACCEPTED
    assert refusal_vectors(tmp_path) == REFUSED
    released = tmp_path / "kinds" / "Probe.full.json"
    released.write_text("released otherwise")
    (tmp_path / "kinds" / "Bid.full.json").unlink()
    assert make.main(tmp_path) == 1
    assert released.read_text() == "released otherwise"
    assert "Probe.full.json" in capsys.readouterr().err
    assert kind_vector_exists(tmp_path, "Bid.full")


def kind_vector_exists(folder: Path, name: str) -> bool:
    return (folder / "kinds" / f"{name}.json").is_file()
