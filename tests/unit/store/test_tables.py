import sqlite3

import pytest

from dms.store.tables import MAX_ALTERNATIVES, MAX_ROWS, Column, Table
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
    for request, bid, price, state in rows:
        connection.execute(BIDS.upsert(("price", "state")), (request, bid, price, state))


def found(connection, where=None, order=(), limit=100):
    sql, values = BIDS.select(where or {}, order, limit)
    return [(row[0], row[1]) for row in connection.execute(sql, values)]


def test_an_upsert_keeps_the_columns_it_does_not_name(connection):
    fill(connection)
    connection.execute(BIDS.upsert(("state",)), ("r1", "b1", "won"))
    row = connection.execute(BIDS.get(), ("r1", "b1")).fetchone()
    assert BIDS.row(row) == {"request": "r1", "bid": "b1", "price": 30, "state": "won"}
    connection.execute(BIDS.upsert(()), ("r1", "b1"))
    connection.execute(BIDS.upsert(()), ("r9", "b9"))
    assert connection.execute(BIDS.get(), ("r9", "b9")).fetchone() == ("r9", "b9", None, None)


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
