import sqlite3

import pytest

from dms.store.projections import Rows
from dms.store.tables import MAX_ALTERNATIVES, MAX_ROWS, Above, Column, Delete, Table, Upsert
from dms_proto.errors import UserError

BIDS = Table(
    "bids",
    (Column("request"), Column("bid"), Column("price", "INTEGER"), Column("state")),
    key=("request", "bid"),
    indexes=(("price",), ("state", "price")),
)


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in BIDS.ddl():
        connection.execute(statement)
    yield connection
    connection.close()


def fill(connection):
    rows = [("r1", "b1", 30, "open"), ("r1", "b2", 10, "open"), ("r2", "b1", 20, "lost"), ("r2", "b3", None, "open")]
    connection.executemany(BIDS.put(), rows)


def found(connection, where=None, order=(), limit=100):
    sql, values = BIDS.select(where or {}, order, limit)
    return [(row[0], row[1]) for row in connection.execute(sql, values)]


def change(rows, request, bid, **values):
    rows.change(Upsert("bids", (request, bid), values))


def test_an_upsert_keeps_the_columns_it_does_not_name(connection):
    fill(connection)
    rows = Rows(connection, {"bids": BIDS})
    change(rows, "r1", "b1", state="won")
    change(rows, "r1", "b1")
    change(rows, "r9", "b9")
    rows.write()
    assert connection.execute(BIDS.get(), ("r1", "b1")).fetchone() == ("r1", "b1", 30, "won")
    assert connection.execute(BIDS.get(), ("r9", "b9")).fetchone() == ("r9", "b9", None, None)


def test_what_was_changed_is_read_before_it_is_written(connection):
    fill(connection)
    rows = Rows(connection, {"bids": BIDS})
    change(rows, "r1", "b1", state="won")
    rows.change(Delete("bids", ("r1", "b2")))
    assert rows.get("bids", ("r1", "b1")) == {"request": "r1", "bid": "b1", "price": 30, "state": "won"}
    assert rows.get("bids", ("r1", "b2")) is None
    assert connection.execute(BIDS.get(), ("r1", "b2")).fetchone() == ("r1", "b2", 10, "open")
    change(rows, "r1", "b2", price=5)
    rows.write()
    assert connection.execute(BIDS.get(), ("r1", "b2")).fetchone() == ("r1", "b2", 5, None)


def test_a_row_that_was_read_is_not_changed_by_whoever_holds_it(connection):
    fill(connection)
    rows = Rows(connection, {"bids": BIDS})
    rows.get("bids", ("r1", "b1"))["state"] = "spoiled"
    assert rows.get("bids", ("r1", "b1"))["state"] == "open"


def test_conditions_combine_and_nothing_matches_an_empty_choice(connection):
    fill(connection)
    assert found(connection, {"request": "r1", "price": 10}) == [("r1", "b2")]
    assert found(connection, {"price": [10, 20]}) == [("r1", "b2"), ("r2", "b1")]
    assert found(connection, {"price": None}) == [("r2", "b3")]
    assert found(connection, {"price": []}) == []


def test_order_is_total_and_may_descend(connection):
    fill(connection)
    assert found(connection, {"price": [10, 20, 30]}, ["-price"]) == [("r1", "b1"), ("r2", "b1"), ("r1", "b2")]
    assert found(connection, order=["state"], limit=2) == [("r2", "b1"), ("r1", "b1")]


def test_values_are_never_read_as_sql(connection):
    fill(connection)
    assert found(connection, {"state": "open' OR '1'='1"}) == []


@pytest.mark.parametrize(
    ("where", "order", "limit", "named"),
    [
        ({"prise": 1}, (), 1, "no column 'prise'"),
        ({}, ("-prise",), 1, "no column 'prise'"),
        ({'price" OR 1': 1}, (), 1, "no column"),
        ({}, (), 0, "limit is 0"),
        ({}, (), MAX_ROWS + 1, "limit is"),
        ({"price": range(MAX_ALTERNATIVES + 1)}, (), 1, "501 values for price"),
    ],
)
def test_a_bad_question_is_refused_by_name(where, order, limit, named):
    with pytest.raises(UserError, match=named):
        BIDS.select(where, order, limit)


@pytest.mark.parametrize("name", ["Bids", "bids; DROP TABLE events", 'b"', "", "_x", "1x"])
def test_names_that_would_have_to_be_quoted_cannot_be_declared(name):
    with pytest.raises(ValueError, match="is not a name"):
        Column(name)
    with pytest.raises(ValueError, match="is not a name"):
        Table(name, (Column("a"),), key=("a",))


def test_a_key_or_index_of_an_unknown_column_cannot_be_declared():
    with pytest.raises(ValueError, match="no column"):
        Table("t", (Column("a"),), key=("b",))
    with pytest.raises(ValueError, match="no column"):
        Table("t", (Column("a"),), key=("a",), indexes=(("c",),))
    with pytest.raises(ValueError, match="empty key"):
        Table("t", (Column("a"),), key=())


def test_a_page_goes_on_above_where_the_one_before_ended(connection):
    fill(connection)
    sql, values = BIDS.select({"price": Above(10)}, ("price",), 10)
    assert [row[2] for row in connection.execute(sql, values)] == [20, 30]
    assert connection.execute(*BIDS.count({"price": Above(20)})).fetchone() == (1,)
