"""Invitations survive copying, and nothing that was damaged is taken for one."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.node.invite import PREFIX, make, read, warning
from dms_proto.errors import UserError
from dms_proto.ids import peer_id_of

PEER = peer_id_of(b"\x01" * 32)
OTHER = peer_id_of(b"\x02" * 32)
HOSTS = st.ip_addresses(v=4).map(lambda ip: f"/ip4/{ip}/tcp/4600")


def sealed(value: object) -> str:
    """A well-sealed string around anything."""
    return sealed_bytes(msgspec.msgpack.encode(value))


def sealed_bytes(body: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(body + hashlib.sha256(body).digest()[:4]).decode().rstrip("=")


@given(st.text(min_size=1, max_size=64), st.lists(HOSTS, min_size=1, max_size=12))
def test_what_is_made_can_be_read(topic: str, addresses: list[str]) -> None:
    invitation = read(make(topic, addresses, PEER))
    assert invitation.topic == topic
    assert invitation.addresses == tuple(f"{address}/p2p/{PEER}" for address in addresses[:8])
    assert invitation.peer == PEER


def test_wrapped_lines_and_blanks_do_no_harm() -> None:
    text = make("public", ["/ip4/192.0.2.1/tcp/4600"], PEER)
    assert read(f"  {text[:20]}\n {text[20:]} \n") == read(text)


@given(st.data())
def test_one_changed_character_is_noticed(data: st.DataObject) -> None:
    text = make("public", ["/ip4/192.0.2.1/tcp/4600"], PEER)
    at = data.draw(st.integers(len(PREFIX), len(text) - 2))  # the last character carries unused bits
    other = data.draw(st.sampled_from("ABCxyz019-_"))
    if other == text[at]:
        return
    with pytest.raises(UserError) as refused:
        read(text[:at] + other + text[at + 1 :])
    assert refused.value.code == "bad_invite"


@given(st.text(max_size=200))
def test_anything_else_is_refused_by_name(text: str) -> None:
    for wrong in (text, PREFIX + text):
        with pytest.raises(UserError) as refused:
            read(wrong)
        assert refused.value.code == "bad_invite"
        assert refused.value.hint


@pytest.mark.parametrize(
    "value",
    [
        ["public", ["/ip4/192.0.2.1/tcp/1"]],
        ["public", [f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", f"/ip4/192.0.2.1/tcp/1/p2p/{OTHER}"]],
        ["public", []],
        ["", [f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"]],
        ["public", [f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"], "more"],
        {"topic": "public"},
        7,
    ],
)
def test_well_sealed_nonsense_is_refused(value: object) -> None:
    with pytest.raises(UserError) as refused:
        read(sealed(value))
    assert refused.value.code == "bad_invite"


def test_nonsense_that_is_nested_too_deeply_is_refused_as_well() -> None:
    with pytest.raises(UserError) as refused:
        read(sealed_bytes(b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"))
    assert refused.value.code == "bad_invite"


def test_an_invitation_of_a_newer_form_says_what_to_do() -> None:
    with pytest.raises(UserError) as refused:
        read("dms2:abcdef")
    assert refused.value.hint == "upgrade dms"


def test_a_node_that_listens_nowhere_invites_nobody() -> None:
    with pytest.raises(UserError, match="listens nowhere"):
        make("public", [], PEER)


@pytest.mark.parametrize(
    ("addresses", "says"),
    [
        (["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"], "only this machine"),
        (["/ip4/192.168.1.7/tcp/1", "/ip4/127.0.0.1/tcp/1"], "same network"),
        (["/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/1"], ""),
        (["/dns4/node.example/tcp/1"], ""),
        (["/ip4/nonsense/tcp/1"], ""),
    ],
)
def test_addresses_that_others_cannot_use_are_pointed_out(addresses: list[str], says: str) -> None:
    assert (says in warning(addresses)) if says else warning(addresses) == ""
