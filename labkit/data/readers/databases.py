"""A table or the result of a query, from any database that SQLAlchemy reaches. Only reading: anything but a SELECT is refused, and
where the database can be told so, the connection is read only as well."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.data.readers import Limits, Notes, megabytes
from labkit.data.rows import Row
from labkit.errors import LabError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_CHANGES = re.compile(r"\b(insert|update|delete|merge|drop|alter|create|truncate|grant|revoke|attach|detach|pragma|vacuum|into|call|exec|"
                      r"execute|copy|set|lock)\b", re.IGNORECASE)
_ROWS = 200  # are fetched at a time


def is_url(name: str) -> bool:
    """Whether this is a database's URL, such as `sqlite:///lab.db#table=messages`."""
    return re.match(r"[a-z][a-z0-9+_]*://", name) is not None


def shown(url: str) -> str:
    """The URL without its password."""
    import sqlalchemy as sa

    address, sharp, rest = url.partition("#")
    try:
        parsed = sa.make_url(address)
        return parsed.render_as_string(hide_password=True) + sharp + rest if parsed.password is not None else url
    except (sa.exc.ArgumentError, ValueError):
        return re.sub(r"//[^/@]*@", "//***@", address) + sharp + rest


def check_select(query: str) -> str:
    """The query without what ends it.

    Raises:
        LabError: it is not one SELECT.
    """
    query = query.strip().rstrip(";").strip()
    bare = _QUOTED.sub(" '' ", query).strip()
    if not re.match(r"\(*\s*(select|with|values)\b", bare, re.IGNORECASE):
        raise LabError(f"only a SELECT is run, not {query[:60]!r}")
    if ";" in bare:
        raise LabError("only one statement is run; take the ';' out")
    if change := _CHANGES.search(bare):
        raise LabError(f"only reading is allowed: the query says {change.group().upper()}")
    return query


def rows(name: str, url: str, limits: Limits, notes: Notes, table: str = "", query: str = "") -> Iterator[Row]:
    """The rows of a table or of a query, fetched a few at a time.

    Raises:
        LabError: there is no such database or table, or the query is not one SELECT or fails.
    """
    import sqlalchemy as sa

    if bool(table) == bool(query):
        raise LabError(f"{name}: name a table or a query: URL#table=NAME or URL#query=SELECT …")
    try:
        query = query and check_select(query)
    except LabError as error:
        raise LabError(f"{name}: {error}") from None
    engine = _engine(name, url)
    try:
        with engine.connect() as connection:
            _read_only(connection)
            statement = sa.text(query) if query else _table(name, connection, table)
            result = connection.execution_options(stream_results=True, yield_per=_ROWS).execute(statement)
            columns = list(result.keys())
            if len(set(columns)) < len(columns):
                raise LabError(f"{name}: the query gives two columns the same name; use AS")
            for number, values in enumerate(result, 1):
                long = next((column for column, value in zip(columns, values, strict=True)
                             if isinstance(value, str | bytes) and len(value) > limits.value), None)
                if long is not None:
                    yield Row(name, number, {}, f"{long}: longer than {megabytes(limits.value)}")
                else:
                    yield Row(name, number, dict(zip(columns, values, strict=True)))
    except (sa.exc.SQLAlchemyError, UnicodeError, ValueError, OSError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise LabError(f"{name}: the database says: {(said or [type(error).__name__])[0][:200]}") from None
    finally:
        engine.dispose()


def _engine(name: str, url: str) -> "Engine":
    import sqlalchemy as sa

    try:
        address = sa.make_url(url)
        if address.get_backend_name() == "sqlite":
            file = address.database or ""
            if not file or file == ":memory:" or file.startswith("file:"):
                raise LabError(f"{name}: name the database's file, as in sqlite:///messages.db#table=NAME")
            if not Path(file).is_file():
                raise LabError(f"{name}: {file} does not exist")  # SQLite would make an empty one
        engine = sa.create_engine(address)
    except ModuleNotFoundError as error:
        raise LabError(f"{name}: the driver {error.name!r} is not installed") from None
    except (sa.exc.SQLAlchemyError, ValueError) as error:
        raise LabError(f"{name}: is not a database's URL: {str(error).splitlines()[0][:200]}") from None
    return engine


def _read_only(connection: "Connection") -> None:
    import sqlalchemy as sa

    kind = connection.dialect.name
    if kind == "sqlite":
        connection.execute(sa.text("PRAGMA query_only = ON"))
        # one text that is not UTF-8 would end the whole query; so it is its row's problem
        connection.connection.dbapi_connection.text_factory = lambda data: data.decode("utf-8", "labkit-mark")
    elif kind in ("postgresql", "mysql", "mariadb"):
        connection.execute(sa.text("SET TRANSACTION READ ONLY" if kind == "postgresql" else "SET SESSION TRANSACTION READ ONLY"))


def _table(name: str, connection: "Connection", table: str) -> Any:
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    known = [*inspector.get_table_names(), *inspector.get_view_names()]
    schema, dot, short = table.rpartition(".")
    if table in known:
        return sa.select(sa.text("*")).select_from(sa.table(table))
    if dot and inspector.has_table(short, schema=schema):
        return sa.select(sa.text("*")).select_from(sa.table(short, schema=schema))
    raise LabError(f"{name}: has no table {table!r}; there are: {', '.join(sorted(known)[:20]) or 'none'}")
