"""The lab database: the engine, its errors are tested with the votes (tests/evaluation/test_votes.py); here what they lack."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from labkit import database, places
from labkit.errors import LabError
from tests import databases

TABLES = sa.MetaData()
THINGS = sa.Table("things", TABLES, sa.Column("name", sa.String(20), primary_key=True), sa.Column("value", sa.JSON, nullable=False),
                  sa.Column("time", database.Time))


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request, monkeypatch):
    """The default SQLite file, and a PostgreSQL database where LABKIT_TEST_POSTGRESQL names one (its things are deleted)."""
    databases.use(request.param, monkeypatch, TABLES)
    return request.param


def put(*rows, **arguments):
    with database.connection(TABLES) as connection:
        database.upsert(connection, THINGS, [{"name": name, "value": value, "time": time} for name, value, time in rows], **arguments)


def everything():
    with database.connection(TABLES) as connection:
        return {row.name: (row.value, row.time) for row in connection.execute(sa.select(THINGS))}


def test_a_row_put_twice_is_there_once_with_its_latest_values(kind):
    put(("a", 1, None), ("b", {"词": [1, None]}, None))
    put(("b", "two", None), ("c", None, None))
    assert everything() == {"a": (1, None), "b": ("two", None), "c": (None, None)}


def test_a_column_that_is_kept_stays_as_it_was(kind):
    put(("a", 1, None))
    now = datetime(2024, 2, 29, 12, tzinfo=UTC)
    put(("a", 2, now), keep=("value",))
    assert everything() == {"a": (1, now)}


def test_no_rows_are_no_statement(kind):
    put()
    assert everything() == {}


def test_a_time_of_any_zone_comes_back_in_utc(kind):
    put(("a", 0, datetime(2024, 5, 1, 8, 30, 1, 250, tzinfo=timezone(timedelta(hours=8)))))
    (_, time), = everything().values()
    assert time == datetime(2024, 5, 1, 0, 30, 1, 250, tzinfo=UTC) and time.tzinfo is UTC


def test_a_block_that_fails_writes_nothing(kind):
    with pytest.raises(RuntimeError), database.connection(TABLES) as connection:
        database.upsert(connection, THINGS, [{"name": "a", "value": 1, "time": None}])
        raise RuntimeError
    assert everything() == {}


def test_threads_that_put_the_same_rows_do_not_stumble(kind):
    def work(value):
        for number in range(20):
            put(*[(f"{number}", value, None)])

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(everything(), key=int) == [str(number) for number in range(20)]


def test_a_database_of_another_kind_gets_plain_statements(monkeypatch):
    """MySQL's way is none of the two that can insert or replace in one statement; SQLite, called by its name, shows what is done there."""
    put(("a", 1, None))
    with database.connection(TABLES) as connection, monkeypatch.context() as patch:
        patch.setattr(connection.dialect, "name", "mysql")
        database.upsert(connection, THINGS, [{"name": "a", "value": 2, "time": None}, {"name": "b", "value": 3, "time": None}])
    assert {name: value for name, (value, _) in everything().items()} == {"a": 2, "b": 3}


def test_tables_of_several_modules_stand_side_by_side(kind):
    from labkit.evaluation import votes
    from labkit.labeling import store

    put(("a", 1, None))
    store.know("side by side", "http://here", "fruit", "small")
    assert "side by side" in [each["id"] for each in store.datasets()] and votes.all_votes("no such scenario") == []
    assert everything() == {"a": (1, None)}


def test_what_cannot_be_kept_as_json_is_an_error():
    with pytest.raises(LabError, match="cannot be used"):
        put(("a", float("nan"), None))
    assert places.database_url().startswith("sqlite:///")
