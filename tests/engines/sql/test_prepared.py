"""Statements run by the driver itself give and take the same values as SQLAlchemy does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    func,
    insert,
    select,
    update,
)

from dropmill.engines.sql import prepared
from dropmill.engines.sql.types import JsonText, UtcTime

things = Table(
    "things",
    MetaData(),
    Column("seq", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("at", UtcTime),
    Column("is_good", Boolean),
    Column("value", JsonText),
    Column("count", Integer, server_default="7"),
)
ADD = insert(things)
FIND = select(things).where(things.c.name == bindparam("key"))
CHANGE = update(things).where(things.c.name == bindparam("key"))
AT = datetime(2026, 11, 20, 8, 15, 30, 123000, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'things.sqlite'}")
    things.metadata.create_all(engine)
    with engine.begin() as made:
        yield made
    engine.dispose()


def test_values_come_back_as_they_went_in(connection: Connection) -> None:
    value = {"a": [1, None, "\u00e9"]}
    prepared.run(connection, ADD, [{"name": "x", "at": AT, "is_good": True, "value": value}])
    wanted = {"seq": 1, "name": "x", "at": AT, "is_good": True, "value": value, "count": 7}
    assert prepared.one(connection, FIND, {"key": "x"}) == wanted
    assert dict(connection.execute(FIND, {"key": "x"}).mappings().one()) == wanted


def test_nothing_is_none(connection: Connection) -> None:
    prepared.run(connection, ADD, [{"name": "x", "at": None, "is_good": None, "value": None}])
    found = prepared.one(connection, FIND, {"key": "x"})
    assert found is not None
    assert (found["at"], found["is_good"], found["value"]) == (None, None, None)
    assert prepared.one(connection, FIND, {"key": "y"}) is None


def test_the_same_statement_sets_whatever_columns_it_is_given(connection: Connection) -> None:
    prepared.run(connection, ADD, [{"name": name, "count": 1} for name in ("x", "y")])
    prepared.run(connection, CHANGE, [{"key": "x", "count": 2}])
    prepared.run(connection, CHANGE, [{"key": "x", "at": AT}, {"key": "y", "at": AT}])
    rows = connection.execute(select(things.c.name, things.c.count, things.c.at).order_by(things.c.name)).all()
    assert [tuple(row) for row in rows] == [("x", 2, AT), ("y", 1, AT)]


def test_fixed_values_of_a_statement_stay(connection: Connection) -> None:
    prepared.run(connection, ADD, [{"name": name, "count": 1} for name in ("x", "y", "z")])
    newest = select(func.max(things.c.seq).label("newest")).where(things.c.name != "z")
    assert prepared.one(connection, newest, {}) == {"newest": 2}
    last = select(things.c.name).order_by(things.c.seq.desc()).limit(1)
    assert prepared.one(connection, last, {}) == {"name": "z"}


def test_what_it_does_belongs_to_the_transaction_of_its_connection(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'things.sqlite'}")
    things.metadata.create_all(engine)
    with engine.connect() as one:
        prepared.run(one, ADD, [{"name": "x"}])
        one.connection.rollback()
    with engine.connect() as another:
        assert prepared.one(another, FIND, {"key": "x"}) is None
    engine.dispose()
