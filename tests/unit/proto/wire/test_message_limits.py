"""What a stranger can put into a field is bounded: ids and paths cannot climb, amounts cannot be negative, texts cannot be books."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.testing.samples import ALLOCATION, BID, DIGEST, FULL, LEAST, REQUEST, REQUESTER
from dms.testing.strategies import relative_paths
from dms_proto import rules
from dms_proto.messages import KINDS, MAX_CHANGES, Message
from dms_proto.messages.tabs import MAX_SUMS
from dms_proto.wire.encoding import Malformed, decode_body, encode_body, pack, typed, unpack
from dms_proto.work import MAX_MANIFEST

BAD: list[tuple[str, str, object]] = [
    ("BidRequest", "request_id", ""),
    ("BidRequest", "request_id", "../../../etc/passwd"),
    ("BidRequest", "request_id", REQUEST + "\n"),
    ("BidRequest", "request_id", BID),
    ("BidRequest", "request_id", REQUEST.upper()),
    ("BidRequest", "count", 0),
    ("BidRequest", "count", 10_001),
    ("BidRequest", "reach", 2**32 + 1),
    ("BidRequest", "max_price", -1),
    ("BidRequest", "needs", {"resources": {"cpu_millicores": -1}}),
    ("BidRequest", "needs", {"resources": {"memory_bytes": 2**53 + 1}}),
    ("BidRequest", "needs", {"resources": {"gpus": [{"milli": 1_001}]}}),
    ("BidRequest", "needs", {"price": {"start": -1}}),
    ("BidRequest", "needs", {"labels": {str(number): "" for number in range(65)}}),
    ("BidRequest", "needs", {"labels": {"k": "x" * 129}}),
    ("Bid", "bid_id", ""),
    ("Resize", "number", 0),
    ("Resize", "number", MAX_CHANGES + 1),
    ("Resize", "resources", {"cpu_millicores": -1}),
    ("Resize", "resources", {"gpus": [{}] * 257}),
    ("Resize", "price", 2**53 + 1),
    ("Resized", "terms", "sha256:short"),
    ("Resized", "at_ms", -1),
    ("Resized", "clauses", [{"dimension": "d", "wanted": "w", "observed": "o"}] * 33),
    ("Bid", "tariff", {"gpu_hour": -1}),
    ("Bid", "salt", bytes(33)),
    ("BidRequest", "pricing", "third-price"),
    ("SealedBid", "seal", ""),
    ("SealedBid", "max_price", -1),
    ("Closing", "seals", []),
    ("Closing", "seals", [DIGEST] * 65),
    ("Closing", "seals", ["sha256:../a"]),
    ("Commit", "award", {"price": -1}),
    ("Commit", "award", {"price": 1, "rival": {"provider": REQUESTER.peer_id}}),
    ("Decline", "clauses", []),
    ("Decline", "clauses", [{"dimension": "x" * 501, "wanted": "", "observed": ""}]),
    ("Commit", "slots", []),
    ("Commit", "slots", [0, 0]),
    ("Commit", "slots", [10_000]),
    ("Commit", "slots", [-1]),
    ("Commit", "invocations", [{"executor": "sandbox"}, {"executor": "sandbox"}]),
    ("CommitAck", "allocation_ids", []),
    ("CommitAck", "allocation_ids", ["/etc"]),
    ("CommitRefused", "refusal", "because"),
    ("Release", "bid_id", "b-"),
    ("Invocation", "allocation_id", "a-../" + ALLOCATION[5:]),
    ("Invocation", "task", {"executor": "s", "environment": {"A=B": "1"}}),
    ("Invocation", "task", {"executor": "s", "environment": {"A": "\0"}}),
    ("Invocation", "task", {"executor": "s", "command": ["a\0b"]}),
    ("Invocation", "task", {"executor": "s", "limits": {"wall_ms": -1}}),
    ("Invocation", "task", {"executor": "s", "inputs": [{"path": "../a", "digest": DIGEST, "size": 1}]}),
    ("Invocation", "task", {"executor": "s", "inputs": [{"path": "a", "digest": "sha256:../a", "size": 1}]}),
    ("Invocation", "task", {"executor": "s", "inputs": [{"path": "a", "digest": DIGEST, "size": -1}]}),
    ("AllocationStatus", "phase", "ended"),
    ("AllocationStatus", "ending", {"reason": "completed"}),
    ("AllocationStatus", "outputs", [{"path": "/etc/cron.d/x", "digest": DIGEST, "size": 1}]),
    ("AllocationStatus", "log_bytes", [1]),
    ("AllocationStatus", "log_bytes", [1, -1]),
    ("AllocationMessage", "data", bytes(128 * 1024 + 1)),
    ("AllocationMessage", "offset", -1),
    ("Receipt", "usage", {"cpu_us": -1}),
    ("Iou", "amount", -1),
    ("Iou", "signature", bytes(65)),
    ("GrantWanted", "grant", b""),
    ("GrantGiven", "grant", bytes(4097)),
    ("Holders", "holders", [{"peer": REQUESTER.peer_id, "addresses": []}] * 9),
    ("Serve", "reader", "Qm" + REQUESTER.peer_id[2:]),
    ("Serve", "data", []),
    ("Serve", "data", [{"mark": bytes(16), "size": 1}] * 5),
    ("Serve", "data", [{"mark": bytes(17), "size": 1}]),
    ("DatasetWanted", "mark", bytes(15)),
    ("DatasetHeld", "size", MAX_MANIFEST + 1),
    ("TabWanted", "tab_id", "r-" + 26 * "a"),
    ("TabWanted", "service", 129 * "s"),
    ("TabStated", "number", MAX_SUMS + 1),
    ("TabStated", "price", -1),
    ("TabSigned", "terms", ""),
    ("Hello", "peers", [{"peer": REQUESTER.peer_id, "addresses": []}] * 17),
    ("Hello", "peers", [{"peer": "Qm" + REQUESTER.peer_id[2:], "addresses": []}]),
    ("Hello", "addresses", ["x" * 257]),
    ("Hello", "software", "x" * 65),
    ("Refusal", "about", "x" * 33),
]


@pytest.mark.parametrize(("kind", "field", "value"), BAD, ids=lambda value: str(value)[:40])
def test_a_value_out_of_bounds_does_not_become_a_message(kind: str, field: str, value: object) -> None:
    assert isinstance(decode_body(kind, pack({**least(kind), field: value})), Malformed)


def least(kind: str) -> dict[str, Any]:
    tree: dict[str, Any] = unpack(encode_body(next(each for each in LEAST if type(each).__name__ == kind)))
    return tree


def test_every_kind_is_tried() -> None:
    untried = {"InvocationAck", "Cancel", "Probe", "HoldersWanted"}  # ids alone, and numbers tried in test_encoding
    assert {kind for kind, _, _ in BAD} | untried == set(KINDS)


@pytest.mark.parametrize("message", [*LEAST, *FULL], ids=lambda message: type(message).__name__)
def test_a_missing_field_does_not_become_a_message(message: Message) -> None:
    kind, tree = type(message).__name__, unpack(encode_body(message))
    for field in msgspec.structs.fields(type(message)):
        if field.required:
            rest = {name: value for name, value in tree.items() if name != field.name}
            assert isinstance(decode_body(kind, pack(rest)), Malformed)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/.",
        "a\0b",
        "a/..\n/../b",
        "x" * 1_025,
    ],
)
def test_a_path_that_could_leave_its_directory_is_refused(path: str) -> None:
    assert isinstance(typed(path, rules.RelativePath), Malformed)


@pytest.mark.parametrize("path", ["a", ".a", "..a", "a..", "a/b.c/d", "...", "ü/ñ", "a\nb", "-rf"])
def test_an_odd_path_that_stays_inside_is_fine(path: str) -> None:
    assert typed(path, rules.RelativePath) == path


@given(path=st.text(alphabet="./a\0\n", max_size=12) | relative_paths())
def test_a_path_that_is_accepted_never_climbs(path: str) -> None:
    if typed(path, rules.RelativePath) == path:
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\0" not in path


@given(path=relative_paths())
def test_every_path_of_good_parts_is_accepted(path: str) -> None:
    assert typed(path, rules.RelativePath) == path
