"""A restart gives no stranger its log budget back: neither kill -9 nor a stop in good order. A file that cannot be read gives nothing away."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from dms.devnet.network import DevNet, DevNode
from dms.devnet.topology import NodeSpec
from dms.node import spent
from dms.node.spent import Spent
from dms.store.events import EventStore
from dms.testing.attackers import Target, asking, say
from dms.testing.hostile_peer import CLOSED, Visit, visit
from dms_actors.events import to_row
from dms_actors.meter import owed
from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.market.offer_state import RequestDeclined
from dms_proto.messages import BidRequest, Decline
from dms_proto.units import MIB, SECOND
from dms_proto.wire.log_budget import BURSTS_A_DAY, PEER_PART, LogBudget, Used

SHARE = MIB
OF_ONE = SHARE // PEER_PART // BURSTS_A_DAY
NOW = 1_800_000_000_000
STRANGER = PeerId("stranger")


# ------------------------------------------------------------------------------------------------------ a whole node


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[DevNode]:
    with DevNet(tmp_path, [NodeSpec("victim", "provider", {"store.strangers_daily": "1MiB"})]) as net:
        yield net["victim"]


def too_much() -> BidRequest:
    asked = asking()
    labels = {f"label-{n}": "x" * 60 for n in range(10)}
    return msgspec.structs.replace(
        asked, needs=msgspec.structs.replace(asked.needs, resources=Resources(10**6, MIB), labels=labels)
    )


def is_out_of_budget(victim: DevNode, key: bytes, most: int) -> bool:
    """Has a stranger ask for what is declined, until it is told that its log budget is used up, or shown the door."""
    target = Target(victim.address, "devnet", key)

    async def ask(guest: Visit) -> bool:
        stream = await guest.greeted()
        for _ in range(most):
            await say(stream, target, too_much())
            while not isinstance(told := await target.ear.message(), Decline):
                pass
            if any(clause.dimension == "log_budget" for clause in told.clauses):
                return True
        return False

    async def ask_until_closed(guest: Visit) -> bool:
        is_refused = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_closed, guest, nursery.cancel_scope)
                is_refused = await ask(guest)
                nursery.cancel_scope.cancel()
        except* CLOSED:
            pass  # shown the door while it was greeted
        return is_refused

    return trio.run(visit, victim.address, ask_until_closed, key, target.ear.serve)


async def until_closed(guest: Visit, scope: trio.CancelScope) -> None:
    await guest.until_closed()
    scope.cancel()


@pytest.mark.slow
@pytest.mark.libp2p
@pytest.mark.parametrize("end", [DevNode.kill, DevNode.stop])
def test_who_has_used_up_its_budget_is_refused_after_a_restart_and_another_is_not(victim: DevNode, end: object) -> None:
    assert callable(end)
    key = os.urandom(32)
    assert is_out_of_budget(victim, key, 200)
    end(victim)
    victim.launch()
    victim.wait_ready()
    assert is_out_of_budget(victim, key, 1)
    assert not is_out_of_budget(victim, os.urandom(32), 1)


# ------------------------------------------------------------------------------------------------- the file and the log


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventStore]:
    async with await EventStore.open(tmp_path / "events.db", clock=lambda: NOW) as opened:
        yield opened


async def decline(store: EventStore, times: int) -> int:
    """Writes declines of a stranger; gives how many bytes it owes for them."""
    asked = too_much()
    rows = [to_row("market", RequestDeclined(STRANGER, asked, ()), "")] * times
    return sum(owed(row)[1] for row in await store.append(rows))


async def begun(path: Path, store: EventStore, now: int = NOW) -> LogBudget:
    budget = LogBudget(SHARE)
    await spent.begin(path, store, budget, now)
    return budget


async def test_a_home_without_a_file_has_the_whole_budget(tmp_path: Path, store: EventStore) -> None:
    assert (await begun(tmp_path / "log_budget", store)).used(NOW) == Used(NOW)


async def test_what_the_log_has_beyond_the_file_is_paid_by_who_caused_it_and_by_all(
    tmp_path: Path, store: EventStore
) -> None:
    await decline(store, 10)
    path, seq = tmp_path / "log_budget", store.head().seq
    spent._write(path, Spent(seq, Used(NOW, 100, {STRANGER: 70})))
    owes = await decline(store, 20)
    used = (await begun(path, store)).used(NOW)
    assert used == Used(NOW, 100 + owes, {STRANGER: 70 + owes})


async def test_of_a_log_far_beyond_the_file_no_more_is_read_than_empties_the_budget(
    tmp_path: Path, store: EventStore
) -> None:
    path = tmp_path / "log_budget"
    spent._write(path, Spent(0, Used(NOW)))
    owes = await decline(store, 4_000)
    budget = await begun(path, store)
    assert owes > budget.burst
    assert budget.used(NOW).of_all == budget.burst
    assert budget.used(NOW).peers[STRANGER] < owes
    assert not budget.has_room(PeerId("another"), "elsewhere", NOW)


async def test_debt_is_gained_back_while_the_node_is_down(tmp_path: Path, store: EventStore) -> None:
    path = tmp_path / "log_budget"
    spent._write(path, Spent(0, Used(NOW, OF_ONE, {STRANGER: OF_ONE}, {}, ((("here", False), OF_ONE),))))
    assert not (await begun(path, store)).has_room(STRANGER, "here", NOW)
    assert (await begun(path, store)).has_room(STRANGER, "here", NOW + SECOND)


GOOD = msgspec.msgpack.encode(Spent(0, Used(NOW, 1, {STRANGER: 1})))


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\xc1", GOOD[:-1], GOOD + b"x", GOOD.replace(b"stranger", b"\xff" * 8), msgspec.msgpack.encode({"seq": -1})],
)
async def test_a_damaged_file_leaves_nothing_until_it_is_gained_and_the_log_says_so(
    tmp_path: Path, store: EventStore, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log_budget"
    path.write_bytes(damaged)
    budget = await begun(path, store)
    assert not budget.has_room(STRANGER, "here", NOW)
    assert budget.has_room(STRANGER, "here", NOW + SECOND)
    assert str(path) in caplog.text
