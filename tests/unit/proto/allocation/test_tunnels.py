"""Who is let in to what runs here."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.allocation.machine import Allocation, LifePhase
from dms_proto.allocation.tunnels import admitted
from dms_proto.capability import Price, Resources
from dms_proto.errors import CODES, UserError
from dms_proto.ids import BidId, PeerId, allocation_id, bid_id, request_id
from dms_proto.market.ledger import Reservation
from dms_proto.tunnels import (
    FINAL,
    MAX_OPENING,
    REFUSALS,
    Opening,
    Target,
    ToCalls,
    ToPort,
    read_opening,
    read_target,
    refused,
    write_opening,
    write_target,
)
from dms_proto.work import Task

REQUESTER, STRANGER = PeerId("requester"), PeerId("stranger")
REQUEST = request_id(bytes(16))
ID = allocation_id(bid_id(REQUEST, REQUESTER, 0), 0)
RUNNING = Allocation(
    Reservation(ID, BidId("b"), REQUEST, REQUESTER, 0, Resources(), Price(), 0, 1_000),
    LifePhase.RUNNING,
    Task("sandbox", ("serve",), ports=(8080, 9090)),
)
WANTED = Opening(ID, "port:8080")


def refusal(allocation: Allocation | None, peer: PeerId = REQUESTER, opening: Opening = WANTED) -> UserError:
    with pytest.raises(UserError) as caught:
        admitted(allocation, peer, opening)
    return caught.value


def test_the_requester_is_let_in_to_a_declared_port_while_it_runs() -> None:
    assert admitted(RUNNING, REQUESTER, WANTED) == ToPort(8080)
    assert admitted(RUNNING, REQUESTER, Opening(ID, "port:9090")) == ToPort(9090)


def test_a_stranger_hears_the_same_whatever_there_is() -> None:
    heard = {
        (error.code, error.message, error.hint)
        for opening in (WANTED, Opening(ID, "port:1"))
        for error in (
            refusal(None, STRANGER, opening),
            refusal(RUNNING, STRANGER, opening),
            refusal(None, REQUESTER, opening),
        )
    }
    assert [code for code, _, _ in heard] == ["not_found"]


@pytest.mark.parametrize("phase", [phase for phase in LifePhase if phase is not LifePhase.RUNNING])
def test_what_does_not_run_lets_nobody_in(phase: LifePhase) -> None:
    assert refusal(msgspec.structs.replace(RUNNING, phase=phase)).code == "not_running"


def test_what_is_not_declared_is_refused_and_what_is_is_said() -> None:
    error = refusal(RUNNING, opening=Opening(ID, "port:22"))
    assert error.code == "bad_argument"
    assert "declares 8080, 9090" in error.message


@pytest.mark.parametrize(
    "target", ["", "port:", "port:http", "port:-1", "port:٨", "port:123456", "exec:sh", "8080", "port:8080 ", "calls"]
)
def test_what_is_no_target_leads_nowhere(target: str) -> None:
    with pytest.raises(UserError):
        read_target(target)
    assert refusal(RUNNING, opening=Opening(ID, target)).code == "bad_argument"


@pytest.mark.parametrize("target", [ToPort(65_535), ToCalls()])
def test_a_target_is_read_as_it_was_written(target: Target) -> None:
    assert read_target(write_target(target)) == target


def test_calls_are_let_in_to_what_takes_them_only() -> None:
    call = Opening(ID, "call")
    worker = msgspec.structs.replace(RUNNING, task=Task("python"))
    assert admitted(worker, REQUESTER, call) == ToCalls()
    assert refusal(RUNNING, opening=call).code == "bad_argument"
    assert (
        refusal(msgspec.structs.replace(RUNNING, task=Task("python", ("a.py",))), opening=call).code == "bad_argument"
    )
    assert refusal(worker).code == "bad_argument", "it declares no port"


def test_an_opening_is_read_as_it_was_written_and_garbage_is_an_error() -> None:
    assert read_opening(write_opening(WANTED)) == WANTED
    for data in (b"", b"\xc1", msgspec.msgpack.encode({"allocation_id": "../x", "target": ""}), bytes(MAX_OPENING)):
        with pytest.raises(UserError):
            read_opening(data)


def test_what_a_stranger_refuses_with_is_a_known_code_and_bounded() -> None:
    assert CODES.keys() >= REFUSALS
    assert FINAL <= REFUSALS
    assert refused("not_running", "x").code == "not_running"
    error = refused("made up", "x" * 100_000)
    assert error.code == "peer_unreachable"
    assert error.retryable
    assert len(error.message) < 1_000
