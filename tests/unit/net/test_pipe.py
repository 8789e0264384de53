from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.net import pipe
from dms.net.config import NetConfig
from dms.net.pipe import Credit, Splitter, cost
from dms_proto.scope import Scope

KEY = bytes(range(32))
TO_NETWORK = [
    pipe.Configure(
        NetConfig(private_key=KEY, topics=("a",)),
        (pipe.Redial(("/ip4/127.0.0.1/tcp/1/p2p/x",), Scope.LOCAL),),
        (("peer", 1.5),),
        (("other", 2.5),),
    ),
    pipe.SendFrame("peer", b"frame"),
    pipe.Publish("topic", b"frame"),
    pipe.Dial(1, ("address",)),
    pipe.Fetch(2, ("peer", "other"), "sha256:00", 5, "/tmp/x", "/tmp/list"),
    pipe.BlobAnswer(3, None),
    pipe.BlobAnswer(3, "/tmp/y"),
    pipe.OpenTunnel(5, "peer", b"to what"),
    pipe.RefuseTunnel(-1, "not_found", "message"),
    pipe.AbortTunnel(5),
    pipe.EndFetch(2),
    pipe.Ban("peer", 1.5),
    pipe.Spare("peer", 1.5),
    pipe.AskStats(4),
    pipe.Taken({"peer": 512, "": 256}),
    pipe.Stop(),
]
TO_NODE = [
    pipe.Ready(("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"), ("a", "b")),
    pipe.Failed("port_in_use", "message", "hint"),
    pipe.Up("peer", ("address",)),
    pipe.Down("peer", "lost"),
    pipe.Banned("peer", 60.0),
    pipe.FrameIn("peer", b"frame"),
    pipe.GossipIn("topic", "peer", b"frame"),
    pipe.Found("peer", ("address",)),
    pipe.Rtt("peer", 1200),
    pipe.Sent("peer", 300),
    pipe.Dialled(1, "peer", "code", "message"),
    pipe.Fetched(2, "code", "message", retryable=False, wrong=("peer",)),
    pipe.AskBlob(3, "peer", "sha256:00"),
    pipe.AskTunnel(-1, "peer", b"to what"),
    pipe.TunnelAnswered(5, "not_found", "message"),
    pipe.TunnelOver(5, "why"),
    pipe.Stats(4, {"bans": 1}),
    pipe.Log(30, "dms.net", "line"),
]


@pytest.mark.parametrize("message", TO_NETWORK, ids=lambda m: type(m).__name__)
def test_a_message_to_the_network_survives_the_pipe(message: pipe.ToNetwork) -> None:
    (body,) = Splitter().feed(pipe.encode(message))
    assert pipe.decode_to_network(body) == message


@pytest.mark.parametrize("message", TO_NODE, ids=lambda m: type(m).__name__)
def test_a_message_to_the_node_survives_the_pipe(message: pipe.ToNode) -> None:
    (body,) = Splitter().feed(pipe.encode(message))
    assert pipe.decode_to_node(body) == message


def test_every_message_is_covered_here() -> None:
    covered = {type(m) for m in TO_NETWORK} | {type(m) for m in TO_NODE}
    assert covered == set(pipe.ToNetwork.__args__) | set(pipe.ToNode.__args__)


def test_a_message_for_the_other_side_is_refused() -> None:
    (body,) = Splitter().feed(pipe.encode(pipe.Stop()))
    with pytest.raises(msgspec.ValidationError):
        pipe.decode_to_node(body)


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 400), min_size=1))
def test_bodies_come_out_whole_however_the_bytes_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(b).to_bytes(4, "big") + b for b in bodies)
    splitter, out, position, turn = Splitter(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        out += splitter.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert out == bodies
    assert splitter.pending == 0


def test_an_overlong_body_is_refused_by_its_length_alone() -> None:
    splitter = Splitter(max_body=10)
    assert splitter.feed(b"\0\0\0\x0a" + b"x" * 10) == [b"x" * 10]
    with pytest.raises(ValueError, match="11 bytes"):
        splitter.feed(b"\0\0\0\x0b")


def test_the_node_key_is_not_in_the_text_of_a_configuration() -> None:
    config = NetConfig(private_key=KEY)
    assert repr(KEY) not in repr(config)
    assert "private_key" not in repr(pipe.Configure(config))


@given(st.lists(st.integers(0, 256 * 1024), max_size=200))
def test_credit_bounds_what_is_under_way_and_never_locks_up(sizes: list[int]) -> None:
    limit = 2 * 1024 * 1024
    sender, receiver = Credit(limit), Credit(limit)
    under_way: list[int] = []
    for size in sizes:
        amount = size + cost(b"")
        while not sender.take(amount):
            assert under_way, "credit is used up although the receiver took everything"
            if owed := receiver.owe(under_way.pop(0)):
                sender.give(owed)
        under_way.append(amount)
        assert sum(under_way) <= sender.used <= limit
