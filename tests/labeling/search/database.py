"""The tables of the server's database that the search engine reads, with the server's types and rules, and a way to write to them.

A plain SQLite file: these tests need no server. That the real server's tables are such is seen by the suites that run it.
"""

import json
import sqlite3
import sys
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import labkit.labeling

PART = Path(labkit.labeling.__file__).parent  # what the server's process has on its path
if str(PART) not in sys.path:
    sys.path.append(str(PART))

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE datasets (id CHAR(32) PRIMARY KEY, name VARCHAR, last_activity_at DATETIME);
CREATE TABLE fields (id CHAR(32) PRIMARY KEY, name VARCHAR, settings JSON, dataset_id CHAR(32) REFERENCES datasets ON DELETE CASCADE,
    inserted_at DATETIME);
CREATE TABLE questions (id CHAR(32) PRIMARY KEY, name VARCHAR, settings JSON, dataset_id CHAR(32) REFERENCES datasets ON DELETE CASCADE);
CREATE TABLE metadata_properties (id CHAR(32) PRIMARY KEY, name VARCHAR, settings JSON,
    dataset_id CHAR(32) REFERENCES datasets ON DELETE CASCADE);
CREATE TABLE vectors_settings (id CHAR(32) PRIMARY KEY, name VARCHAR, dimensions INTEGER,
    dataset_id CHAR(32) REFERENCES datasets ON DELETE CASCADE);
CREATE TABLE users (id CHAR(32) PRIMARY KEY, username VARCHAR);
CREATE TABLE records (id CHAR(32) PRIMARY KEY, fields JSON, metadata JSON, status VARCHAR, external_id VARCHAR,
    dataset_id CHAR(32) REFERENCES datasets ON DELETE CASCADE, inserted_at DATETIME, updated_at DATETIME);
CREATE INDEX ix_records_dataset_id ON records (dataset_id);
CREATE TABLE suggestions (id CHAR(32) PRIMARY KEY, value JSON, score JSON, agent VARCHAR, type VARCHAR,
    record_id CHAR(32) REFERENCES records ON DELETE CASCADE, question_id CHAR(32) REFERENCES questions ON DELETE CASCADE,
    UNIQUE (record_id, question_id));
CREATE INDEX ix_suggestions_question_id ON suggestions (question_id);
CREATE TABLE responses (id CHAR(32) PRIMARY KEY, "values" JSON, status VARCHAR, record_id CHAR(32) REFERENCES records ON DELETE CASCADE,
    user_id CHAR(32) REFERENCES users ON DELETE CASCADE, UNIQUE (record_id, user_id));
CREATE TABLE vectors (id CHAR(32) PRIMARY KEY, value JSON, record_id CHAR(32) REFERENCES records ON DELETE CASCADE,
    vector_settings_id CHAR(32) REFERENCES vectors_settings ON DELETE CASCADE, UNIQUE (record_id, vector_settings_id));
CREATE INDEX ix_vectors_record_id ON vectors (record_id);
"""


class Database:
    """The server's database at `path`. What a method writes is committed when it returns; `with database.together():` commits once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        fresh = not path.exists()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        if fresh:
            self.connection.executescript(TABLES)
        self.clock = datetime(2024, 5, 1, 12)

    def together(self):
        self.connection.execute("BEGIN")
        return self.connection  # as a context it commits, or rolls back

    def put(self, table: str, **values) -> str:
        """A new row; returns its id."""
        values = {"id": uuid.uuid4().hex, **values}
        names = ", ".join(f'"{name}"' for name in values)
        self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))
        return values["id"]

    def now(self) -> str:
        self.clock += timedelta(seconds=1)
        return self.clock.strftime("%Y-%m-%d %H:%M:%S.%f")

    def dataset(self, fields=(("text", "text"),), questions=(), metadata=(), vectors=()) -> str:
        """A dataset with fields, questions and metadata properties as (name, type) and vectors as (name, dimensions)."""
        dataset = self.put("datasets", name="d", last_activity_at=self.now())
        for table, pairs in (("fields", fields), ("questions", questions), ("metadata_properties", metadata)):
            for name, kind in pairs:
                more = {"inserted_at": self.now()} if table == "fields" else {}
                self.put(table, name=name, settings=json.dumps({"type": kind}), dataset_id=dataset, **more)
        for name, dimensions in vectors:
            self.put("vectors_settings", name=name, dimensions=dimensions, dataset_id=dataset)
        return dataset

    def id_of(self, table: str, dataset: str, name: str) -> str:
        return self.connection.execute(f"SELECT id FROM {table} WHERE dataset_id = ? AND name = ?", (dataset, name)).fetchone()[0]

    def record(self, dataset: str, text=None, metadata=None, status="pending", external_id=None, suggestions=None, vectors=None,
               **fields) -> str:
        """A record; `suggestions` by question: a value or (value, score, agent, type); `vectors` by name."""
        now = self.now()
        fields = {"text": text, **fields} if text is not None else fields
        record = self.put("records", fields=json.dumps(fields, ensure_ascii=False), metadata=json.dumps(metadata), status=status,
                          external_id=external_id, dataset_id=dataset, inserted_at=now, updated_at=now)
        for question, said in (suggestions or {}).items():
            self.suggest(record, self.id_of("questions", dataset, question), *(said if isinstance(said, tuple) else (said,)))
        for name, value in (vectors or {}).items():
            self.put("vectors", record_id=record, vector_settings_id=self.id_of("vectors_settings", dataset, name), value=json.dumps(value))
        return record

    def suggest(self, record: str, question: str, value, score=None, agent=None, kind=None) -> None:
        self.put("suggestions", record_id=record, question_id=question, value=json.dumps(value, ensure_ascii=False),
                 score=None if score is None else json.dumps(score), agent=agent, type=kind)

    def user(self, name: str) -> str:
        return self.put("users", username=name)

    def respond(self, record: str, user: str, status="submitted", **values) -> None:
        """A user's response; one that is there is replaced, as the server does it."""
        said = json.dumps({question: {"value": value} for question, value in values.items()}, ensure_ascii=False)
        self.connection.execute('INSERT INTO responses (id, "values", status, record_id, user_id) VALUES (?, ?, ?, ?, ?)'
                                ' ON CONFLICT (record_id, user_id) DO UPDATE SET "values" = excluded."values", status = excluded.status',
                                (uuid.uuid4().hex, said, status, record, user))

    def change(self, table: str, identity: str, **values) -> None:
        names = ", ".join(f'"{name}" = ?' for name in values)
        self.connection.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*values.values(), identity])

    def delete(self, table: str, identity: str) -> None:
        self.connection.execute(f"DELETE FROM {table} WHERE id = ?", (identity,))


def found(index, dataset, *arguments, **options):
    """The records that a search finds, in its order."""
    answer = index.search(dataset, *arguments, **options)
    assert answer.total == len(answer.items)
    return [record for record, _ in answer.items]
