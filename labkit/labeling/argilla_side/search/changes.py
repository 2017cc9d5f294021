"""What changed in the server's database: triggers note it, in the same transaction as the change itself.

So nothing that was committed can be missed, whoever wrote it and whenever the process was killed, and nothing is noted that was not
committed. The server's migrations know nothing of the triggers; one that makes a table anew takes them with it, which is seen here, and
then everything is indexed afresh. Only this module writes to the server's database, and only these two tables of its own.
"""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

LOG, STATE = "labkit_changes", "labkit_search"
KINDS = ("dataset", "records", "text", "suggestions", "responses", "vectors")

_TABLES = (
    f"CREATE TABLE IF NOT EXISTS {LOG} (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target TEXT NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {STATE} (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)


def _triggers() -> dict[str, str]:
    """Each trigger's statement by its name."""
    wanted = {}

    def note(name: str, event: str, table: str, kind: str, target: str) -> None:
        wanted[f"labkit_{name}"] = (f"CREATE TRIGGER labkit_{name} AFTER {event} ON {table} BEGIN "
                                    f"INSERT INTO {LOG} (kind, target) VALUES ('{kind}', {target}); END")

    note("records_insert", "INSERT", "records", "text", "NEW.id")
    note("records_delete", "DELETE", "records", "text", "OLD.id")
    note("records_fields", "UPDATE OF fields, dataset_id", "records", "text", "NEW.id")
    note("records_update", "UPDATE OF status, metadata, external_id, inserted_at, updated_at", "records", "records", "NEW.id")
    for table in ("suggestions", "responses", "vectors"):
        note(f"{table}_insert", "INSERT", table, table, "NEW.record_id")
        note(f"{table}_update", "UPDATE", table, table, "NEW.record_id")
        note(f"{table}_delete", "DELETE", table, table, "OLD.record_id")
    for table in ("fields", "questions", "metadata_properties", "vectors_settings"):
        note(f"{table}_insert", "INSERT", table, "dataset", "NEW.dataset_id")
        note(f"{table}_update", "UPDATE OF name, settings" if table != "vectors_settings" else "UPDATE OF dimensions", table, "dataset",
             "NEW.dataset_id")
        note(f"{table}_delete", "DELETE", table, "dataset", "OLD.dataset_id")
    note("datasets_delete", "DELETE", "datasets", "dataset", "OLD.id")
    return wanted


@contextmanager
def _writing(path: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """A connection of its own, for one short transaction."""
    with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def install(path: Path) -> str:
    """See that the triggers are there; returns the name of the log they write, a new one whenever anything may have been missed.

    Raises:
        sqlite3.OperationalError: the server's tables are not there yet, or the database stays locked.
    """
    wanted = _triggers()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
        there = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE 'labkit!_%' ESCAPE '!'"))
        if all(there.get(name) == statement for name, statement in wanted.items()) and {LOG, STATE} <= there.keys():
            return state(connection, "log")
    name = uuid.uuid4().hex
    with _writing(path, 60) as connection:
        for statement in _TABLES:
            connection.execute(statement)
        for trigger, statement in wanted.items():
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.execute(statement)
        connection.execute(f"INSERT OR REPLACE INTO {STATE} VALUES ('log', ?), ('forgotten', ?)", (name, str(newest(connection))))
        connection.execute(f"DELETE FROM {LOG}")
    return name


def state(connection: sqlite3.Connection, name: str, schema: str = "main") -> str:
    """What is noted of the log: its `log` (name), and up to which number it was `forgotten`."""
    return connection.execute(f"SELECT value FROM {schema}.{STATE} WHERE name = ?", (name,)).fetchone()[0]


def newest(connection: sqlite3.Connection, schema: str = "main") -> int:
    """The number of the last change that was committed."""
    found = connection.execute(f"SELECT seq FROM {schema}.sqlite_sequence WHERE name = ?", (LOG,)).fetchone()
    return found[0] if found else 0


def between(connection: sqlite3.Connection, after: int, upto: int, schema: str = "main") -> dict[str, dict[str, None]]:
    """Which datasets and records changed, by kind, in the order of their first change."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for kind, target in connection.execute(f"SELECT kind, target FROM {schema}.{LOG} WHERE number > ? AND number <= ? ORDER BY number",
                                           (after, upto)):
        found[kind][target] = None
    return found


def forget(path: Path, upto: int) -> bool:
    """Delete changes that are worked in for good. False where the database was busy: they stay until another time."""
    try:
        with _writing(path, 0.2) as connection:
            connection.execute(f"DELETE FROM {LOG} WHERE number <= ?", (upto,))
            connection.execute(f"UPDATE {STATE} SET value = ? WHERE name = 'forgotten' AND CAST(value AS INTEGER) < ?", (str(upto), upto))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return False
    return True
