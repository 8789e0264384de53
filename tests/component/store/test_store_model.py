"""Random operations on the store, against a dictionary; its read models dropped and rebuilt at random give what following gave."""

import asyncio
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dms.store.events import EventStore
from dms.store.projections import ProjectionRunner
from dms.store.verify import verify_file
from dms.testing.event_log_contract import StepClock, event
from dms.testing.projections import PROJECTIONS, ended, forgotten, started
from dms_actors.ports import StoredEvent

names = st.sampled_from(["node", "r-1", "r-2", "a-1", "a-2", "ä"])
providers = st.sampled_from(["p1", "p2", "p3"])
events = st.one_of(
    st.builds(
        event,
        stream=names,
        kind=st.sampled_from(["x", "y"]),
        cause_id=st.sampled_from(["", "c1", "c2"]),
        body=st.binary(max_size=40),
    ),
    st.builds(started, names, providers),
    st.builds(ended, names),
    st.builds(forgotten, providers),
)
appends = st.lists(events, max_size=5)


class StoreModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "events.db"
        self.clock = StepClock()
        self.expected = []
        self.versions = Counter()
        self.heads = []

    def run(self, awaitable):
        return self.runner.run(awaitable)

    @initialize()
    def open(self):
        self.run(self._open())

    async def _open(self):
        self.store = await EventStore.open(self.path, clock=self.clock, relaxed=frozenset({"x"}))
        self.models = ProjectionRunner(self.store, PROJECTIONS)
        await self.models.start()

    @rule(groups=st.lists(appends, min_size=1, max_size=6))
    def append_at_once(self, groups):
        answers = self.run(self._append(groups))
        for group, answer in zip(groups, answers, strict=True):
            for new in group:
                self.versions[new.stream] += 1
                at = max(self.clock.now, self.expected[-1].at if self.expected else 0)
                self.expected.append(
                    StoredEvent(
                        len(self.expected) + 1,
                        new.stream,
                        self.versions[new.stream],
                        new.kind,
                        at,
                        new.cause_id,
                        new.body,
                    )
                )
            assert list(answer) == self.expected[len(self.expected) - len(group) :]

    async def _append(self, groups):
        return await asyncio.gather(*(self.store.append(group) for group in groups))

    @rule(step=st.integers(-5000, 5000))
    def time_steps(self, step):
        self.clock.now += step

    @rule()
    def restart(self):
        self.run(self.store.close())
        assert verify_file(self.path).checked == len(self.expected)
        self.run(self._open())

    @rule(stream=names, after=st.integers(0, 10))
    def read_a_stream(self, stream, after):
        found = self.run(self.store.read_stream(stream, after))
        assert list(found) == [e for e in self.expected if e.stream == stream and e.version > after]

    @rule(
        kinds=st.lists(st.sampled_from(["x", "y", "alloc_started", "none"]), max_size=2),
        stream=st.one_of(st.just(""), names),
        cause_id=st.sampled_from(["", "c1", "c2"]),
        window=st.tuples(st.integers(-6000, 6000), st.integers(-6000, 6000)),
        after_seq=st.integers(0, 30),
        limit=st.integers(1, 20),
    )
    def query(self, kinds, stream, cause_id, window, after_seq, limit):
        since, until = (self.clock.now + offset for offset in window)
        found = self.run(
            self.store.query(
                kinds=kinds,
                stream=stream,
                cause_id=cause_id,
                since=since,
                until=until,
                after_seq=after_seq,
                limit=limit,
            )
        )
        assert (
            list(found)
            == [
                e
                for e in self.expected[after_seq:]
                if (not kinds or e.kind in kinds)
                and stream in ("", e.stream)
                and cause_id in ("", e.cause_id)
                and since <= e.at <= until
            ][:limit]
        )

    @rule(name=st.sampled_from(["allocations", "loads"]))
    def rebuild(self, name):
        before = self.run(self.models.query(name))
        self.run(self.models.rebuild(name))
        assert self.run(self.models.query(name)) == before

    @rule()
    def drop_everything_that_can_be_rebuilt(self):
        self.run(self._drop())

    async def _drop(self):
        before = [await self.models.query(table) for table in ("allocations", "loads")]
        none = ProjectionRunner(self.store, ())
        await none.start()
        self.models = ProjectionRunner(self.store, PROJECTIONS)
        await self.models.start()
        assert [await self.models.query(table) for table in ("allocations", "loads")] == before

    @precondition(lambda self: self.expected)
    @rule()
    def note_the_head(self):
        self.heads.append(self.store.head())

    @rule()
    def read_models_equal_a_fold_of_the_dictionary(self):
        rows = {row["allocation"]: row for row in self.run(self.models.query("allocations"))}
        folded = defaultdict(dict)
        for e in self.expected:
            if e.kind == "alloc_started":
                folded[e.stream] |= {"state": "running", "started_at": e.at}
            elif e.kind == "alloc_ended":
                folded[e.stream] |= {"state": "ended", "ended_at": e.at}
        assert {key: row["state"] for key, row in rows.items()} == {key: row["state"] for key, row in folded.items()}
        assert {key: row["started_at"] for key, row in rows.items()} == {
            key: row.get("started_at") for key, row in folded.items()
        }

    @invariant()
    def the_whole_history_is_as_expected(self):
        if hasattr(self, "store"):
            assert self.store.head().seq == len(self.expected)
            assert self.run(self._everything()) == self.expected

    async def _everything(self):
        return [e async for e in self.store.read_all()]

    def teardown(self):
        if hasattr(self, "store"):
            for head in self.heads:
                assert self.run(self.store.verify(head)).is_sound
            self.run(self.store.close())
        self.runner.close()
        self.directory.cleanup()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=40, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)
