"""Who is let in to what runs here."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.tunnels import admitted, asks_as_sibling
from dms_proto.capability import Price, Resources
from dms_proto.errors import CODES, UserError
from dms_proto.grants.access import NOTHING_SHOWN, Credential
from dms_proto.grants.rights import Rights
from dms_proto.ids import BidId, PeerId, allocation_id, bid_id, request_id
from dms_proto.market.ledger import Reservation
from dms_proto.siblings import Names
from dms_proto.tunnels import (
    FINAL,
    MAX_OPENING,
    REFUSALS,
    Opening,
    Order,
    Target,
    ToCalls,
    ToCommand,
    ToPort,
    asking_for_roll,
    read_opening,
    read_target,
    refused,
    roll_asked,
    write_opening,
    write_target,
)
from dms_proto.work import ExecBy, Task

REQUESTER, STRANGER = PeerId("requester"), PeerId("stranger")
REQUEST = request_id(bytes(16))
ID = allocation_id(bid_id(REQUEST, REQUESTER, 0), 0)
CALLER = allocation_id(bid_id(REQUEST, STRANGER, 0), 1)
RUNNING = Allocation(
    Reservation(ID, BidId("b"), REQUEST, REQUESTER, 0, Resources(), Price(), 0, 1_000),
    LifePhase.RUNNING,
    Task("sandbox", ("serve",), ports=(8080, 9090)),
)
WANTED = Opening(ID, "port:8080")
ORDER = Order(("sh",))
COMMAND = Opening(ID, "exec", ORDER)


def refusal(allocation: Allocation | None, peer: PeerId = REQUESTER, opening: Opening = WANTED) -> UserError:
    with pytest.raises(UserError) as caught:
        admitted(allocation, peer, opening)
    return caught.value


def with_exec(entry: ExecBy) -> Allocation:
    task = RUNNING.task
    assert task is not None
    return msgspec.structs.replace(RUNNING, task=msgspec.structs.replace(task, exec=entry))


def test_commands_run_beside_a_task_that_lets_them_and_no_other() -> None:
    for entry in (ExecBy.REQUESTER, ExecBy.GRANTED):
        assert admitted(with_exec(entry), REQUESTER, COMMAND) == ToCommand(ORDER)
    assert refusal(RUNNING, REQUESTER, COMMAND).code == "bad_argument"
    assert "exec: requester" in str(refusal(RUNNING, REQUESTER, COMMAND).hint)
    assert refusal(with_exec(ExecBy.GRANTED), REQUESTER, Opening(ID, "exec")).code == "bad_argument"


@pytest.mark.parametrize("entry", list(ExecBy))
@pytest.mark.parametrize(
    ("shown", "counts"),
    [
        (None, True),
        (Credential(Rights(), ""), True),
        (Credential(Rights(one_of={"kind": ("exec",)}), ""), True),
        (Credential(Rights(one_of={"kind": ("commit", "logs")}), ""), False),
        (NOTHING_SHOWN, False),
    ],
)
def test_another_runs_commands_with_the_right_to_it_where_the_task_allows_that(
    entry: ExecBy, shown: Credential | None, counts: bool
) -> None:
    allocation = with_exec(entry)
    if counts and entry is ExecBy.GRANTED:
        assert admitted(allocation, STRANGER, COMMAND, shown) == ToCommand(ORDER)
    else:
        with pytest.raises(UserError) as caught:
            admitted(allocation, STRANGER, COMMAND, shown)
        assert caught.value.code == "not_found"
    for target in ("port:8080", "call"):
        with pytest.raises(UserError) as caught:
            admitted(allocation, STRANGER, Opening(ID, target, ORDER), shown)
        assert caught.value.code == "not_found"


def test_an_order_survives_the_way_and_one_that_could_not_be_started_does_not() -> None:
    opening = Opening(ID, "exec", Order(("sh", "-c", "true"), 24, 80, "xterm"), b"grant")
    assert read_opening(write_opening(opening)) == opening
    assert write_opening(WANTED) == msgspec.msgpack.encode({"allocation_id": ID, "target": "port:8080"})
    for order in (Order(()), Order(("a\0b",)), Order(("sh",), rows=-1), Order(("sh",), term="x" * 65)):
        with pytest.raises(UserError):
            read_opening(write_opening(Opening(ID, "exec", order)))


def test_the_requester_is_let_in_to_a_declared_port_while_it_runs() -> None:
    assert admitted(RUNNING, REQUESTER, WANTED) == ToPort(8080)
    assert admitted(RUNNING, REQUESTER, Opening(ID, "port:9090")) == ToPort(9090)


def test_what_runs_at_a_requester_has_no_right_of_its_requester() -> None:
    """Whoever asked for that allocation says where its siblings are, and may name what its provider itself has asked for."""
    assert refusal(RUNNING, REQUESTER, Opening(ID, "port:8080", caller=CALLER)).code == "not_found"


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
    nested = b"\x81\xa1x" + b"\x91" * 4_000 + b"\xc0"
    for data in (
        b"",
        b"\xc1",
        nested,
        msgspec.msgpack.encode({"allocation_id": "../x", "target": ""}),
        bytes(MAX_OPENING),
    ):
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


def named() -> Allocation:
    task = RUNNING.task
    assert task is not None
    return msgspec.structs.replace(RUNNING, task=msgspec.structs.replace(task, names=Names(0, 2)))


def test_a_sibling_is_let_in_to_declared_ports_while_it_runs() -> None:
    asked = msgspec.structs.replace(WANTED, caller=CALLER)
    assert admitted(named(), STRANGER, asked, is_sibling=True) == ToPort(8080)
    for allocation, target, code in (
        (named(), "port:22", "bad_argument"),
        (msgspec.structs.replace(named(), phase=LifePhase.ENDED), "port:8080", "not_running"),
        (None, "port:8080", "not_found"),
    ):
        with pytest.raises(UserError) as caught:
            admitted(allocation, STRANGER, Opening(ID, target, caller=CALLER), is_sibling=True)
        assert caught.value.code == code


def test_it_matters_who_is_a_sibling_for_the_ports_of_a_task_with_names_alone() -> None:
    asked = msgspec.structs.replace(WANTED, caller=CALLER)
    assert asks_as_sibling(named(), asked)
    assert not asks_as_sibling(named(), WANTED)
    assert not asks_as_sibling(RUNNING, asked)
    assert not asks_as_sibling(None, asked)
    for target in ("call", "exec", "service:x/y"):
        assert not asks_as_sibling(named(), Opening(ID, target, ORDER, caller=CALLER))


def test_a_question_for_a_roll_comes_back_as_it_was_asked_and_is_no_target() -> None:
    question = read_opening(write_opening(asking_for_roll(REQUEST, CALLER)))
    assert (roll_asked(question), question.allocation_id) == (REQUEST, CALLER)
    assert roll_asked(WANTED) is None
    with pytest.raises(UserError):
        read_target(question.target)
