"""The Pool actor: what a batch of calls comes to is written before any of them is delivered, and a killed node finds all of it again."""

from __future__ import annotations

import msgspec
import pytest

from dms.testing.seeded_world import SeededJournal
from dms_actors.events import from_row
from dms_actors.letters import HeldOnTabs, ShowState, ShowTabs, TellAgain, Told
from dms_actors.pool import PoolActor
from dms_actors.testing.containers import MemoryContainers, free_of_charge
from dms_actors.testing.event_log import MemoryEventLog
from dms_actors.testing.seeded import SeededAddress, SeededLoop, SeededRuntime
from dms_proto.accounts.machine import Posted
from dms_proto.capability import Price, Resources
from dms_proto.errors import MachineError
from dms_proto.ids import PeerId, TabId, tab_id
from dms_proto.messages import TabSigned, TabTerms, TabWanted
from dms_proto.pool.fold import after_restart
from dms_proto.pool.records import CallId, Image, Service
from dms_proto.pool.state import Called, CapacityWished, HitsCounted, Pool, PoolRules, PoolSaved, RulesWished
from dms_proto.sim.pools import check, durable, hits_of
from dms_proto.tabs.kept import SignatureHeard, TabAsked
from dms_proto.tabs.terms import terms_digest
from dms_proto.units import CORE, CREDIT, GIB, HOUR, MINUTE, SECOND

RULES = PoolRules(hot_ms=SECOND, ttl_ms=60 * SECOND, save_every=50)


class Node:
    """A node that has a pool and nothing else; it can be killed and started again."""

    def __init__(self, seed: int, rules: PoolRules = RULES, call_ms: int = 5) -> None:
        self.loop = SeededLoop(seed)
        self.log = MemoryEventLog(lambda: self.loop.now)
        self.containers = MemoryContainers(self.loop.later, call_ms=call_ms)
        self.made: list[CallId] = []
        self.told: list[object] = []
        self.begin()
        self.address.tell(Told(CapacityWished(Resources(8 * CORE, 8 * GIB)), "owner"))
        self.address.tell(Told(RulesWished(rules), "owner"))

    def begin(self) -> None:
        self.runtime = SeededRuntime(self.loop)
        journal = SeededJournal(self.log, self.runtime)
        self.address: SeededAddress = self.runtime.spawn(
            "pool",
            lambda: PoolActor(journal=journal, containers=self.containers, paying=free_of_charge(self.told.append)),
        )
        self.containers.serve(self.address)

    def kill(self) -> None:
        self.runtime.kill()
        self.containers.lose_callers()
        self.begin()

    def call(self, user: int, service: int) -> None:
        self.made.append(CallId(f"call-{len(self.made)}"))
        image = Image("python", f"model-{service}", Resources(CORE, GIB))
        self.containers.call(Called(self.made[-1], PeerId(f"user-{user}"), Service(f"service-{service}", image)))

    def go_on(self, ms: int) -> None:
        until = self.loop.now + ms
        self.loop.later(ms, lambda: None)
        self.loop.run(lambda: self.loop.now >= until, until)

    def state(self) -> Pool:
        pool: Pool = self.address.ask(ShowState(), 10)
        return pool

    def kinds(self) -> list[str]:
        return [row.kind for row in self.log.events]


def test_a_call_is_delivered_answered_and_counted() -> None:
    node = Node(1)
    node.call(1, 1)
    node.go_on(SECOND)
    assert node.containers.outcomes == {node.made[0]: "done"}
    rows = [from_row(row) for row in node.log.events]
    last = [each for each in rows if isinstance(each, HitsCounted)][-1]
    assert (last.virtual[0].tally.hits, last.virtual[0].tally.usage.wall_ms) == (1, 5)
    assert dict(node.containers.hits) == hits_of(node.state())


def test_nothing_is_delivered_that_could_not_be_written_down() -> None:
    node = Node(2)
    node.call(1, 1)
    node.go_on(SECOND)
    node.log.fault = MachineError("disk_full", "no room")
    node.call(1, 1)
    node.go_on(SECOND)
    assert sum(node.containers.hits.values()) == 2  # of the first call: its container, its virtual container
    node.log.fault = None
    node.go_on(5 * SECOND)
    assert node.containers.outcomes[node.made[1]] == "done"
    assert dict(node.containers.hits) == hits_of(node.state())


def test_calls_of_one_batch_are_one_event() -> None:
    node = Node(3)
    for user in range(8):
        node.call(user, 1)
    node.go_on(2 * SECOND)
    before = node.kinds().count("HitsCounted")
    for _ in range(20):
        for user in range(8):
            node.call(user, user)
    node.go_on(10 * SECOND)
    assert set(node.containers.outcomes.values()) == {"done"}
    assert node.kinds().count("HitsCounted") - before < 2 * 160


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_node_that_is_killed_at_any_moment_has_all_its_counters_again(seed: int) -> None:
    node = Node(seed)
    rng = node.loop.rng
    for _ in range(4):
        for _ in range(rng.randrange(20, 60)):
            node.call(rng.randrange(12), rng.randrange(10))
            node.go_on(rng.randrange(40))
            for _ in range(rng.randrange(3)):
                node.loop.step()
        if rng.random() < 0.5:
            for container_id in list(node.containers.alive)[:2]:
                node.containers.die(container_id, "it fell over")
        node.kill()
        known = hits_of(node.state())
        assert known == {name: node.containers.hits[name] for name in known}
        check(node.state())
    node.go_on(HOUR)
    assert node.loop.failures == []
    assert set(node.containers.outcomes) == set(node.made)
    assert "done" in node.containers.outcomes.values()
    pool = node.state()
    assert (dict(pool.containers), dict(pool.virtual), node.containers.alive) == ({}, {}, {})


def test_a_restart_begins_where_all_was_last_written_as_one() -> None:
    node = Node(4)
    for number in range(60):
        node.call(number % 3, number % 2)
        node.go_on(100)
    assert "PoolSaved" in node.kinds()
    live = node.state()
    at = max(at for at, kind in enumerate(node.kinds()) if kind == PoolSaved.__name__)
    node.log = MemoryEventLog(lambda: node.loop.now, node.log.events[at:])  # nothing before it is needed
    node.kill()
    node.go_on(0)
    assert durable(node.state()) == durable(live)
    assert after_restart(node.state(), 0).numbers == live.numbers


AGREED = TabTerms(
    tab_id(bytes(16)),
    "service-1",
    PeerId("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"),
    PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"),
    Resources(CORE, GIB),
    Price(cpu_core_hour=CREDIT),
    CREDIT,
    MINUTE,
)


def agreed(node: Node) -> TabId:
    """A tab is open, for calls of the first service by one peer."""
    wanted = TabWanted(AGREED.tab_id, AGREED.service, AGREED.max_price)
    node.address.tell(Told(TabAsked(AGREED.caller, wanted, AGREED, "", CREDIT)))
    signed = TabSigned(AGREED.tab_id, 0, terms_digest(AGREED), 0)
    node.address.tell(Told(SignatureHeard(AGREED.caller, signed, credit=CREDIT)))
    return AGREED.tab_id


def paid_call(node: Node, tab: TabId) -> CallId:
    node.made.append(CallId(f"call-{len(node.made)}"))
    service = Service(AGREED.service, Image("python", "model-1", AGREED.resources))
    node.containers.call(Called(node.made[-1], AGREED.caller, service, 0, tab))
    return node.made[-1]


def test_what_is_held_for_tabs_is_told_and_told_again_to_a_node_that_is_built_anew() -> None:
    node = Node(10)
    agreed(node)
    node.go_on(SECOND)
    held = HeldOnTabs({AGREED.caller: CREDIT}, 1)
    assert node.told[-1] == held
    del node.told[:]
    node.address.tell(TellAgain())
    node.go_on(SECOND)
    assert node.told == [held]


def test_tabs_that_the_node_has_not_heard_of_are_not_in_the_credit_it_gives() -> None:
    node = Node(11)
    terms = [msgspec.structs.replace(AGREED, tab_id=tab_id(bytes([n] * 16)), service=f"service-{n}") for n in range(3)]
    wanted = [TabWanted(each.tab_id, each.service, each.max_price) for each in terms]
    for each, want in zip(terms, wanted, strict=True):
        node.address.tell(Told(TabAsked(AGREED.caller, want, each, "", CREDIT)))
    for each in terms:
        signed = TabSigned(each.tab_id, 0, terms_digest(each), 0)
        node.address.tell(Told(SignatureHeard(AGREED.caller, signed, b"", 2 * CREDIT - 1, 0)))
    node.go_on(SECOND)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert list(kept.tabs) == [terms[0].tab_id]
    signed = TabSigned(terms[1].tab_id, 0, terms_digest(terms[1]), 0)
    node.address.tell(Told(SignatureHeard(AGREED.caller, signed, b"", CREDIT, 1)))  # beside the first
    node.go_on(SECOND)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert list(kept.tabs) == [each.tab_id for each in terms[:2]]


def test_what_a_paid_call_came_to_is_there_again_after_a_kill() -> None:
    node = Node(6)
    tab = agreed(node)
    paid_call(node, tab)
    node.go_on(SECOND)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert (kept.tabs[tab].calls, kept.tabs[tab].ran_ms, dict(kept.under_way)) == (1, 5, {})
    node.kill()
    again, _ = node.address.ask(ShowTabs(), 10)
    assert again.tabs[tab] == kept.tabs[tab]


def test_a_call_on_no_tab_is_turned_away_and_the_pool_does_not_hear_of_it() -> None:
    node = Node(7)
    call = paid_call(node, AGREED.tab_id)
    node.go_on(SECOND)
    assert node.containers.outcomes == {call: "refused: not_agreed"}
    assert not node.state().virtual


def test_a_call_whose_container_dies_costs_nothing() -> None:
    node = Node(8, call_ms=10 * SECOND)
    tab = agreed(node)
    call = paid_call(node, tab)
    node.go_on(SECOND)
    (container,) = node.containers.alive
    node.containers.die(container, "it fell over")
    node.go_on(SECOND)
    assert node.containers.outcomes[call].startswith("failed")
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert (kept.tabs[tab].calls, dict(kept.under_way)) == (0, {})
    assert [each.count for each in kept.failures.values()] == [1]


def test_a_call_whose_container_dies_as_it_ends_is_taken_back() -> None:
    node = Node(8, call_ms=SECOND)
    tab = agreed(node)
    paid_call(node, tab)
    node.go_on(1_550)  # it takes 500 ms to start one
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert kept.tabs[tab].calls == 1
    (container,) = node.containers.alive
    node.containers.die(container, "it fell over")
    node.go_on(SECOND)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert (kept.tabs[tab].calls, kept.tabs[tab].ran_ms) == (0, 0)


def test_a_container_that_is_stopped_takes_nothing_back() -> None:
    node = Node(9, PoolRules(hot_ms=SECOND, ttl_ms=SECOND, save_every=50), call_ms=SECOND)
    tab = agreed(node)
    paid_call(node, tab)
    node.go_on(4 * SECOND)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert (node.containers.alive, kept.tabs[tab].ran_ms, dict(kept.failures)) == ({}, SECOND, {})


def test_a_virtual_container_that_is_closed_ends_its_tab() -> None:
    node = Node(9)
    tab = agreed(node)
    paid_call(node, tab)
    node.go_on(2 * MINUTE)
    kept, _ = node.address.ask(ShowTabs(), 10)
    assert (kept.tabs[tab].why_over, kept.tabs[tab].stated > 0) == ("it was not used any more", True)
    posted = [event.entry.about for row in node.log.events if isinstance(event := from_row(row), Posted)]
    assert posted == [f"{tab}.1"]


def test_an_actor_that_fails_is_built_anew_and_goes_on() -> None:
    node = Node(5)
    node.call(1, 1)
    node.go_on(SECOND)
    node.call(1, 1)
    node.address.fail_next()
    node.go_on(5 * SECOND)
    assert node.containers.outcomes[node.made[1]] == "done"
    assert hits_of(node.state())["c-1"] == node.containers.hits["c-1"]
