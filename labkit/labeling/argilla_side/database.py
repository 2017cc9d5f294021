"""The server's SQLite file: made and migrated whole or not at all, in WAL mode, and settled after a server was killed."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

# A response is committed first and its record's status after it, in a transaction of its own; a server killed in between leaves a record
# pending that has its answers. The same happens to all records of a dataset whose `min_submitted` was changed.
_SETTLE = """
UPDATE records SET updated_at = :now, status = CASE status WHEN 'completed' THEN 'pending' ELSE 'completed' END WHERE id IN (
    SELECT records.id FROM records JOIN datasets ON datasets.id = records.dataset_id
    LEFT JOIN (SELECT record_id, count(*) AS submitted FROM responses WHERE status = 'submitted' GROUP BY record_id) AS answers
        ON answers.record_id = records.id
    WHERE json_extract(datasets.distribution, '$.strategy') = 'overlap'
      AND (records.status = 'completed') <> (coalesce(answers.submitted, 0) >= json_extract(datasets.distribution, '$.min_submitted')))
"""


class Newer(Exception):
    """The database was made by a later version of the server."""


def prepare(path: Path, owner: dict[str, str], workspace: str) -> None:
    """Make the database, with its owner (username, password, api_key) and a workspace; or bring an older one up to date, in a copy that
    takes its place when all went well. Then see that every record's status agrees with its responses.

    Raises:
        Newer: the database's revision is not among this server's migrations.
    """
    revision = revision_of(path) if path.exists() else None
    if revision is None or revision != head():
        part = path.with_name(path.name + ".part")
        for leftover in (part, part.with_name(part.name + "-wal"), part.with_name(part.name + "-shm")):
            leftover.unlink(missing_ok=True)
        if path.exists():
            with closing(sqlite3.connect(path, timeout=60)) as old, closing(sqlite3.connect(part)) as new:
                # So that no log of the old file can be taken for the new one's, which will stand in its place.
                if old.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                    raise RuntimeError(f"{path} is in use by another program")
                old.backup(new)
        migrate(part)
        if not path.exists():
            add_owner(part, owner, workspace)
        part.replace(path)
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file: readers and the writer do not wait for each other
    settle(path)


def revision_of(path: Path) -> str | None:
    """The migration that the database stands at; None where there was none yet."""
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        return (connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,))[0]


def _alembic():
    from alembic.config import Config
    from argilla_server.database import ALEMBIC_CONFIG_FILE

    # By hand and not from the file: that would set up logging anew, and silence every logger there is.
    config = Config()
    config.set_main_option("script_location", str(Path(ALEMBIC_CONFIG_FILE).with_name("alembic")).replace("%", "%%"))
    return config


def head() -> str:
    """This server's last migration."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_alembic()).get_current_head()


def migrate(path: Path) -> None:
    """Run the server's own migrations on this file."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from argilla_server.settings import settings

    revision = revision_of(path) if path.exists() else None
    if revision is not None:
        try:
            ScriptDirectory.from_config(_alembic()).get_revision(revision)
        except CommandError:
            raise Newer(f"the database is of revision {revision}, which this server does not know") from None
    kept = settings.database_url
    settings.database_url = f"sqlite+aiosqlite:///{path}"  # where alembic's environment looks
    try:
        command.upgrade(_alembic(), "head")
    finally:
        settings.database_url = kept


def add_owner(path: Path, owner: dict[str, str], workspace: str) -> None:
    """The first account, in the first workspace."""
    from argilla_server.contexts.accounts import hash_password
    from argilla_server.enums import UserRole
    from argilla_server.models import User, Workspace
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{path}")
    with Session(engine) as session:
        session.add(User(first_name=owner["username"], username=owner["username"], role=UserRole.owner, api_key=owner["api_key"],
                         password_hash=hash_password(owner["password"]), workspaces=[Workspace(name=workspace)]))
        session.commit()
    engine.dispose()


def settle(path: Path) -> int:
    """Give every record the status that its submitted responses ask for; returns how many had another."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        return connection.execute(_SETTLE, {"now": now}).rowcount
