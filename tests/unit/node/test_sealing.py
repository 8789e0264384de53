"""Whoever gets sealed bytes opens them only as the node, in the allocation and for the requester they were sealed for."""

from __future__ import annotations

import msgspec
import pytest

from dms.node.sealing import Sealer
from dms_actors.events import from_row, to_row
from dms_actors.ports import StoredEvent
from dms_proto.allocation.events import AllocationInvoked
from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId, allocation_id, bid_id, request_id
from dms_proto.messages import Commit, Invocation
from dms_proto.secrets import BINDING_BYTES, MAX_VALUE_BYTES, SEAL_BYTES, OpenSecret, Secret
from dms_proto.wire import Signer
from dms_proto.work import Task, shown

REQUEST = request_id(bytes(16))
VALUES = (OpenSecret("KEY", b"\0 of a file"), OpenSecret("TOKEN", b"of a variable", variable=True))


def node(number: int) -> tuple[PeerId, Sealer]:
    seed = bytes([number]) * 32
    return (peer := Signer(seed).peer_id), Sealer(seed, peer)


ME, MINE = node(1)
PROVIDER, THEIRS = node(2)
STRANGER, STRANGERS = node(3)


def kept(values: tuple[OpenSecret, ...] = VALUES, request: RequestId = REQUEST) -> Task:
    return Task("sandbox", ("true",), secrets=MINE.keep(request, values))


def sent(slot: int = 0, task: Task | None = None) -> tuple[Task, AllocationId]:
    bid = bid_id(REQUEST, PROVIDER, 0)
    commit = MINE.address(Commit(REQUEST, bid, (slot,), (task or kept(),)), PROVIDER)
    assert isinstance(commit, Commit)
    return commit.invocations[0], allocation_id(bid, slot)


def test_a_provider_opens_what_was_committed_to_it() -> None:
    task, allocation = sent()
    assert THEIRS.open(task, ME, allocation) == VALUES


def test_an_invocation_carries_them_too() -> None:
    allocation = allocation_id(BidId("b-any"), 3)
    message = MINE.address(Invocation(REQUEST, allocation, kept()), PROVIDER)
    assert isinstance(message, Invocation)
    assert THEIRS.open(message.task, ME, allocation) == VALUES


def test_a_node_provides_for_itself() -> None:
    bid = bid_id(REQUEST, ME, 0)
    commit = MINE.address(Commit(REQUEST, bid, (0,), (kept(),)), ME)
    assert isinstance(commit, Commit)
    assert MINE.open(commit.invocations[0], ME, allocation_id(bid, 0)) == VALUES


def test_messages_without_secrets_pass_as_they_are() -> None:
    commit = Commit(REQUEST, bid_id(REQUEST, PROVIDER, 0), (0, 1))
    assert MINE.address(commit, PROVIDER) is commit
    invocation = Invocation(REQUEST, allocation_id(BidId("b-any"), 3), Task("sandbox"))
    assert MINE.address(invocation, PROVIDER) is invocation


def test_nobody_else_opens_it() -> None:
    task, allocation = sent()
    for sealer in (STRANGERS, MINE):
        with pytest.raises(UserError, match="KEY was not sealed for this node"):
            sealer.open(task, ME, allocation)


def test_it_cannot_be_replayed_into_another_allocation() -> None:
    task, _ = sent(slot=0)
    _, other = sent(slot=1)
    with pytest.raises(UserError, match="this allocation"):
        THEIRS.open(task, ME, other)


def test_another_requester_cannot_have_it_opened_though_it_names_the_same_allocation() -> None:
    task, allocation = sent()
    with pytest.raises(UserError, match="this allocation"):
        THEIRS.open(task, STRANGER, allocation)


def test_it_cannot_be_delivered_under_another_name() -> None:
    task, allocation = sent()
    renamed = tuple(msgspec.structs.replace(secret, name="OTHER") for secret in task.secrets)
    with pytest.raises(UserError, match="OTHER"):
        THEIRS.open(msgspec.structs.replace(task, secrets=renamed), ME, allocation)


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(200)])
def test_what_is_not_sealed_is_refused(sealed: bytes) -> None:
    task = Task("sandbox", secrets=(Secret("KEY", sealed),))
    with pytest.raises(UserError, match="KEY"):
        THEIRS.open(task, ME, AllocationId("a-any"))


@pytest.mark.parametrize("value", [b"a\0--bind\0/\0/host", b"\xff"])
def test_a_stranger_cannot_seal_what_no_variable_can_hold(value: bytes) -> None:
    task, allocation = sent(task=kept((OpenSecret("KEY", value, variable=True),)))
    with pytest.raises(UserError, match="KEY is no text"):
        THEIRS.open(task, ME, allocation)


def test_a_provider_that_restarts_opens_what_its_log_holds() -> None:
    task, allocation = sent()
    row = to_row(allocation, AllocationInvoked(task), "cause")
    read = from_row(StoredEvent(1, row.stream, 1, row.kind, 0, row.cause_id, row.body))
    assert isinstance(read, AllocationInvoked)
    assert node(2)[1].open(read.task, ME, allocation) == VALUES
    assert b"of a file" not in row.body


def test_what_another_request_kept_is_not_sent() -> None:
    """Sealed bytes copied out of the event store into another job of the same node stay closed, at the provider too."""
    task, allocation = sent(task=kept(request=request_id(bytes([1] * 16))))
    with pytest.raises(UserError, match="KEY"):
        THEIRS.open(task, ME, allocation)


def test_each_sealing_differs() -> None:
    assert kept().secrets != kept().secrets


def test_the_longest_value_fits_into_a_message() -> None:
    task, _ = sent(task=kept((OpenSecret("KEY", bytes(MAX_VALUE_BYTES)),)))
    assert len(task.secrets[0].sealed) == MAX_VALUE_BYTES + BINDING_BYTES + SEAL_BYTES
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task) == task


def test_nothing_prints_a_value() -> None:
    assert "of a" not in repr(VALUES)
    assert [secret.sealed for secret in shown(kept()).secrets] == [b"", b""]
