"""The lab database: a SQLite file, or any other database by its SQLAlchemy URL (`places.database_url()`).

A module that keeps rows has tables of its own (`sqlalchemy.MetaData`) and opens `connection(tables)`: a transaction in a database
that has them. Any number of threads and processes may write at once.
This module knows nothing about what is kept.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from labkit import places
from labkit.errors import LabError

_BUSY_SECONDS = 30


class Time(sa.types.TypeDecorator):
    """A time in UTC, also in databases that keep no time zone (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


@contextmanager
def connection(tables: sa.MetaData) -> Iterator[sa.Connection]:
    """A connection in a transaction, to a database that has the tables; it is committed when the block ends well.

    Raises:
        LabError: the database cannot be used; names it (without a password), the reason and what to do, in both languages.
    """
    url = places.database_url()
    try:
        opened = engine(url, os.getpid())
        if opened.dialect.name == "sqlite" and not opened.url.database.startswith("file:"):
            Path(opened.url.database).parent.mkdir(parents=True, exist_ok=True)
        _make(opened, tables)
        with opened.begin() as transaction:
            yield transaction
    except exc.ArgumentError as error:
        raise LabError(f"LABKIT_DATABASE is not a database's URL: {_first_line(error)}") from error
    except ModuleNotFoundError as error:
        package = {"psycopg": "psycopg[binary]"}.get(error.name, error.name)
        raise LabError(f"LABKIT_DATABASE needs the Python package {error.name}; install it: pip install '{package}'") from error
    except (exc.SQLAlchemyError, OSError) as error:
        reason = _first_line(getattr(error, "orig", None) or error)
        advice, zh = next((advice for words, advice in _ADVICE.items() if words in reason), _NO_ADVICE)
        raise LabError(f"the lab database {_shown(url)} cannot be used: {reason}; {advice}",
                       f"无法使用实验室数据库 {_shown(url)}（{reason}）；{zh}") from error


def upsert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], *, keep: tuple[str, ...] = ()) -> None:
    """Insert rows; where one with its primary key is there, replace it, but for the columns in `keep`. All rows name the same columns."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    changed = [name for name in rows[0] if name not in (*keys, *keep)]
    if connection.dialect.name in ("sqlite", "postgresql"):
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        insert = dialect.insert(table)
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in changed}), rows)
        return
    for row in rows:  # no statement that all other databases share
        where = sa.and_(*(table.c[key] == row[key] for key in keys))
        if connection.execute(sa.select(sa.func.count()).select_from(table).where(where)).scalar():
            connection.execute(sa.update(table).where(where).values({name: row[name] for name in changed}))
        else:
            connection.execute(sa.insert(table).values(row))


_NO_ADVICE = ("see LABKIT_DATABASE", "请检查 LABKIT_DATABASE")
_OTHER_FILE = ("move that file away, or name another one with LABKIT_DATABASE", "请移走该文件，或用 LABKIT_DATABASE 指定其他文件")
_OTHER_FOLDER = ("make its folder writable, or name another file with LABKIT_DATABASE",
                 "请让其文件夹可写，或用 LABKIT_DATABASE 指定其他文件")
_ADVICE = {"not a database": _OTHER_FILE, "malformed": _OTHER_FILE, "readonly": _OTHER_FOLDER, "unable to open": _OTHER_FOLDER,
           "full": ("free some space", "请释放磁盘空间"),
           "locked": ("another program holds it; end that one and try again", "其他程序正在使用，请关闭后重试")}


@lru_cache
def engine(url: str, process: int) -> sa.Engine:
    """The engine of a URL, one a process: connections must not be shared with a forked child.

    Raises:
        LabError: a SQLite database in memory, which would keep nothing.
    """
    parsed = sa.make_url(url)
    plain = {"json_serializer": lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False)}
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, **plain)
    if parsed.database in (None, "", ":memory:"):
        raise LabError("LABKIT_DATABASE names a SQLite database in memory, which would forget every vote and label; "
                       "name a file: sqlite:///FILE")
    # A connection a transaction (1 ms): one that is kept would go on writing into a file that was deleted or replaced.
    opened = sa.create_engine(parsed, poolclass=sa.NullPool, connect_args={"timeout": _BUSY_SECONDS}, **plain)
    event.listen(opened, "connect", _set_up_sqlite)
    return opened


def _make(opened: sa.Engine, tables: sa.MetaData) -> None:
    """Make the tables that are not there; each may be made by another process at the same moment, which is an error here."""
    for _ in tables.tables:
        with suppress(exc.DBAPIError):
            return tables.create_all(opened)
    tables.create_all(opened)


def _set_up_sqlite(opened, _record) -> None:
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        opened.execute(f"PRAGMA {setting}").close()


def _shown(url: str) -> str:
    """The file, or the URL without its password."""
    parsed = sa.make_url(url)
    return parsed.database if parsed.get_backend_name() == "sqlite" else parsed.render_as_string(hide_password=True)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
