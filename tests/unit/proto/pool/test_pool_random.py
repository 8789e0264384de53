"""One pool and everything that can happen to it, in any order, the node's death included."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dms_proto.capability import Resources
from dms_proto.pool.replacement import Strategy
from dms_proto.pool.state import CallerGone, CapacityWished, CloseWished, PoolRules, RulesWished
from dms_proto.sim.chance import chance
from dms_proto.sim.pools import Plan, PoolWorld
from dms_proto.units import CORE, GIB, MINUTE, SECOND

RULES = PoolRules(
    virtual=2, calls=3, ttl_ms=30 * SECOND, hot_ms=2 * SECOND, recreations=3, start_ms=20 * SECOND, save_every=10
)


class AnyPool(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 999), strategy=st.sampled_from(Strategy), paid=st.integers(0, 4), every=st.booleans()
    )
    def begin(self, seed: int, strategy: Strategy, paid: int, every: bool) -> None:
        rules = msgspec.structs.replace(
            RULES, strategy=strategy, reserved={1: Resources(0, paid * GIB)}, count_ms=0 if every else SECOND
        )
        plan = Plan(users=5, services=5, faults=0.1, rules=rules, capacity=Resources(4 * CORE, 8 * GIB))
        self.world = PoolWorld(plan, chance("any pool", seed))

    @rule(times=st.integers(1, 6))
    def called(self, times: int) -> None:
        for _ in range(times):
            self.world.tell(self.world.call())

    @rule(span=st.sampled_from([1, 50, SECOND, 5 * SECOND, MINUTE]))
    def time_passes(self, span: int) -> None:
        self.world.wait(span)

    @rule()
    def a_caller_goes(self) -> None:
        waiting = [each.call_id for each in self.world.pool.calls.values()]
        if waiting:
            self.world.tell(CallerGone(waiting[-1]))

    @rule(gib=st.integers(0, 12))
    def it_is_resized(self, gib: int) -> None:
        self.world.tell(CapacityWished(Resources(4 * CORE, gib * GIB)))

    @rule(virtual=st.integers(1, 4), ttl_ms=st.sampled_from([SECOND, MINUTE]))
    def rules_change(self, virtual: int, ttl_ms: int) -> None:
        rules = self.world.pool.rules
        self.world.tell(RulesWished(msgspec.structs.replace(rules, virtual=max(virtual, rules.virtual), ttl_ms=ttl_ms)))

    @rule(opens=st.booleans())
    def it_closes_or_opens(self, opens: bool) -> None:
        self.world.tell(CloseWished(open=opens))

    @rule(done=st.integers(0, 3))
    def the_node_is_killed(self, done: int) -> None:
        self.world.tell(self.world.call(), effects=done)
        self.world.kill()

    @invariant()
    def the_log_gives_the_state(self) -> None:
        if self.world.pool.rules.count_ms == 0:
            self.world.log_gives_the_state()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.at_the_end()
            self.world.log_gives_the_state()


TestAnyPool = AnyPool.TestCase
TestAnyPool.settings = settings(max_examples=40, stateful_step_count=20, suppress_health_check=list(HealthCheck))
