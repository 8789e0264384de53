"""Read models follow the events, survive restarts, and can be dropped at any time."""

import asyncio

import pytest

from dms.store.events import EventStore
from dms.store.projections import Projection, ProjectionRunner
from dms.store.tables import Column, Table
from dms.testing.projections import ALLOCATIONS, PROJECTIONS, ended, forgotten, started
from dms_proto.errors import MachineError, UserError


@pytest.fixture
async def runner(store):
    runner = ProjectionRunner(store, PROJECTIONS)
    await runner.start()
    return runner


async def contents(runner):
    return {table: await runner.query(table) for table in ("allocations", "loads")}


async def test_who_has_seen_an_append_answered_finds_it_in_the_tables(store, runner, clock):
    await store.append([started("a-1", "p1"), started("a-2", "p2"), started("a-3", "p1")])
    clock.now += 1000
    await store.append([ended("a-1")])
    assert await runner.query("allocations", {"state": "ended"}) == [
        {"allocation": "a-1", "state": "ended", "provider": "p1", "started_at": clock.now - 1000, "ended_at": clock.now}
    ]
    running = await runner.query("allocations", {"state": "running", "provider": ["p1", "p2"]}, order=["-allocation"])
    assert [row["allocation"] for row in running] == ["a-3", "a-2"]
    assert await runner.query("loads") == [
        {"provider": "p1", "running": 2, "total": 2},
        {"provider": "p2", "running": 1, "total": 1},
    ]
    assert await runner.count("allocations") == 3
    assert await runner.count("allocations", {"provider": "p1", "state": "running"}) == 1


async def test_a_row_can_go_away_and_come_back(store, runner):
    await store.append([started("a-1", "p1"), started("a-2", "p1"), forgotten("p1")])
    assert await runner.query("loads") == []
    await store.append([started("a-3", "p1"), forgotten("unknown")])
    assert await runner.query("loads") == [{"provider": "p1", "running": 1, "total": 1}]


async def test_rebuilding_gives_the_same_and_leaves_the_others_alone(store, runner):
    await store.append([started(f"a-{n}", f"p{n % 7}") for n in range(1000)])
    await store.append([ended(f"a-{n}") for n in range(0, 1000, 3)])
    before = await contents(runner)
    await runner.rebuild("loads")
    assert await contents(runner) == before
    await runner.rebuild("allocations")
    assert await contents(runner) == before


async def test_who_asks_while_a_table_is_made_anew_never_finds_it_empty(store, runner):
    await store.append([started(f"a-{n}", f"p{n % 7}") for n in range(1000)])
    before = await contents(runner)
    for _ in range(5):
        asking = [
            asyncio.create_task(contents(runner)) for _ in range(50)
        ]  # one after the other, on the reader's thread
        assert not await runner.differs("allocations")
        assert all(found == before for found in await asyncio.gather(*asking))


async def test_after_a_restart_following_goes_on_from_the_checkpoint(path):
    applied = []

    def noted(projection):
        def apply(rows, event):
            applied.append((projection.name, event.seq))
            return projection.apply(rows, event)

        return projection._replace(apply=apply)

    for n in range(3):
        async with await EventStore.open(path) as store:
            runner = ProjectionRunner(store, [noted(projection) for projection in PROJECTIONS])
            await runner.start()
            await store.append([started(f"a-{n}", "p")])
            await runner.catch_up()
            await runner.catch_up()
    assert sorted(applied) == [(name, seq) for name in ("allocations", "loads") for seq in (1, 2, 3)]


async def test_a_new_version_new_columns_or_a_changed_table_are_rebuilt_at_the_start(path):
    async with await EventStore.open(path) as store:
        runner = ProjectionRunner(store, PROJECTIONS)
        await runner.start()
        await store.append([started("a-1", "p1")])
        await runner.catch_up()
        await store.transact(lambda connection: connection.execute("UPDATE p_allocations SET state = 'stale'"))
        await store.transact(lambda connection: connection.execute("UPDATE p_loads SET total = 99"))
        changed = (PROJECTIONS[0]._replace(version=2), PROJECTIONS[1])
        again = ProjectionRunner(store, changed)
        await again.start()
        assert (await again.query("allocations"))[0]["state"] == "running"
        assert (await again.query("loads"))[0]["total"] == 99  # not changed, so not rebuilt


async def test_what_is_no_longer_declared_is_dropped(store, runner):
    await store.append([started("a-1", "p1")])
    await runner.catch_up()
    fewer = ProjectionRunner(store, PROJECTIONS[:1])
    await fewer.start()
    names = await store.reading.run(
        lambda c: {name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE name LIKE 'p\\_%' ESCAPE '\\'")}
    )
    assert names == {"p_allocations", "p_allocations_0"}
    with pytest.raises(UserError, match="there is no table 'loads'; there are allocations"):
        await fewer.query("loads")


async def test_a_table_may_move_to_another_projection(store, runner):
    await store.append([started("a-1", "p1")])
    await runner.catch_up()
    moved = ProjectionRunner(store, [PROJECTIONS[0]._replace(name="work"), PROJECTIONS[1]])
    await moved.start()
    assert await moved.count("allocations") == 1


async def test_queries_and_appends_at_the_same_time_never_see_half_an_append(store, runner):
    async def append():
        for n in range(60):
            await store.append([started(f"a-{n}", "p"), started(f"b-{n}", "p")])

    async def query():
        for _ in range(30):
            (row,) = await runner.query("loads") or [{"total": 0}]
            assert row["total"] % 2 == 0

    await asyncio.gather(append(), query(), query())
    assert await runner.count("allocations") == 120


async def test_a_projection_that_fails_changes_nothing_and_the_store_goes_on(store):
    def apply(rows, event):
        yield from PROJECTIONS[0].apply(rows, event)
        raise ZeroDivisionError

    runner = ProjectionRunner(store, [PROJECTIONS[0]._replace(apply=apply)])
    await runner.start()
    await store.append([started("a-1", "p1")])
    with pytest.raises(ZeroDivisionError):
        await runner.catch_up()
    rows = await store.reading.run(lambda connection: connection.execute("SELECT * FROM p_allocations").fetchall())
    assert rows == []
    assert (await store.append([started("a-2", "p1")]))[0].seq == 2


async def test_an_unknown_projection_cannot_be_rebuilt(runner):
    with pytest.raises(UserError) as refused:
        await runner.rebuild("bids")
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    "projections",
    [
        (PROJECTIONS[0], PROJECTIONS[0]),
        (PROJECTIONS[0], Projection("other", 1, (ALLOCATIONS,), frozenset(), PROJECTIONS[0].apply)),
    ],
)
async def test_names_are_unique(store, projections):
    with pytest.raises(ValueError, match="same name"):
        ProjectionRunner(store, projections)


async def test_a_table_declared_like_one_of_the_stores_own_does_not_meet_it(store):
    table = Table("events", (Column("name"),), key=("name",))
    runner = ProjectionRunner(store, [Projection("odd", 1, (table,), frozenset(), lambda _rows, _event: ())])
    await runner.start()
    await store.append([started("a-1", "p1")])
    assert await runner.count("events") == 0
    assert store.head().seq == 1


async def test_with_a_full_disk_people_see_the_tables_as_they_were(store, clock):
    """Reading needs no room. Whoever decides by the rows is told that they are not of now."""
    room = [True]

    def checkpoint(point):
        if point == "project_before_commit" and not room[0]:
            raise MachineError("disk_full", "no room")

    runner = ProjectionRunner(store, PROJECTIONS, checkpoint=checkpoint)
    await runner.start()
    await store.append([started("a-1", "p1")])
    assert await runner.count("allocations") == 1
    room[0] = False
    await store.append([started("a-2", "p1")])

    assert len(await runner.query("allocations", as_they_are=True)) == 1
    assert await runner.count("allocations", as_they_are=True) == 1
    with pytest.raises(MachineError, match="no room"):
        await runner.query("allocations")

    room[0] = True
    assert await runner.count("allocations", as_they_are=True) == 2
