"""The lab's index, described in the words of Elasticsearch's client, for tests that look into the index.

What is said of an index comes from the engine's own index, as it is at that moment: which datasets there are, which fields have words, what
can be filtered and how, which records have a row, what their columns hold. Where the index holds a thing in another form (words between
spaces, vectors of length 1), it is compared with the server's database, and the database's form is shown. What the index has no use for
(the numbers of responses, answers that are texts) is the database's. What a test writes into the index goes into the server's database,
where the lab's index has everything from.
"""

import json
import sqlite3
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from argilla_side.search.columns import Codes
from argilla_side.search.engine import worker
from argilla_side.search.index import Index
from argilla_side.search.mirror import STATUSES
from argilla_side.search.store import written
from argilla_side.search.vectors import unit
from opensearchpy import JSONSerializer

KEYWORD, DISABLED = {"type": "keyword"}, {"type": "object", "enabled": False}
NOW = "2026-01-01 00:00:00.000000"


def _dataset(index):
    """The dataset's id in an index's name, as the database has it."""
    return uuid.UUID(index.removeprefix("rg.")).hex


def _hex(identity):
    return uuid.UUID(str(identity)).hex


def _dashed(identity):
    return str(uuid.UUID(identity))


def _plain(values):
    """A value as it was given: one by itself, several as a list."""
    return None if values is None else values[0] if len(values) == 1 else list(values)


class Looking:
    """Answers `indices.exists`, `indices.get`, `search`, `get`; takes `update`, `bulk` and `indices.create`."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.indices = Indices(self)
        self.transport = type("Transport", (), {"serializer": JSONSerializer()})

    @staticmethod
    def within(question, *arguments):
        """`question(index, …)`, asked in the thread that owns the index."""
        return worker().submit(question, *arguments).result()

    def ask(self, statement, *values):
        connection = sqlite3.connect(self.database, timeout=60)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def search(self, index, body=None):
        wanted = {_hex(each) for each in body["query"]["ids"]["values"]} if body else None
        sources = self.within(self.sources, _dataset(index), wanted)
        return {"hits": {"hits": [{"_id": source["id"], "_source": source} for source in sources]}}

    def get(self, index, id):
        """One document; a list of responses belongs to it even where it is empty."""
        source = self.within(self.sources, _dataset(index), {_hex(id)})[0]
        return {"_source": {"responses": [], **source}}

    def sources(self, index, dataset, wanted):
        """The documents of the records that have a row in the index, in the order of their rows."""
        known = index.store.known(dataset)
        if known is None:
            raise LookupError(f"no index for {dataset}")
        mirror = index.mirror(dataset)
        rows = sorted((row, record) for record, row in index.store.rows(known[0]) if wanted is None or record in wanted)
        return [self.source(index, mirror, known, record, row) for row, record in rows]

    def source(self, index, mirror, known, record, row):
        """One document, put together from the index's columns, its words and its vectors."""
        number, fields = known
        external, content = self.ask("SELECT external_id, fields FROM records WHERE id = ?", record)[0]
        content = json.loads(content)
        names = ", ".join(f"t{place}" for place in range(max(1, len(fields))))
        held = index.store.connection.execute(f"SELECT {names} FROM main.text_{number} WHERE rowid = ?", (row,)).fetchone()
        assert held, f"no words of {record}"
        for (name, _), words in zip(fields, held, strict=False):  # without any field there is one column all the same
            assert words == written(content.get(name)), f"the index holds other words of {name}: {words!r}"
        source = {"id": _dashed(record), "external_id": external, "status": STATUSES[mirror.statuses[row]],
                  "fields": {name: content.get(name) for name, _ in fields}}
        for name in ("inserted_at", "updated_at"):
            source[name] = (datetime(1970, 1, 1) + timedelta(microseconds=int(mirror.times(name)[row]))).isoformat()
        metadata = {name: value for name, column in mirror.metadata.items() if (value := _plain(_cell(column, row))) is not None}
        if metadata:
            source["metadata"] = metadata
        suggestions = {}
        for question, (identity, _) in mirror.questions.items():
            columns = mirror.by_question[identity]
            if self.ask("SELECT 1 FROM suggestions WHERE record_id = ? AND question_id = ?", record, identity):
                suggestions[question] = {"value": _plain(_cell(columns.value, row)), "score": _plain(_cell(columns.score, row)),
                                         "agent": _plain(_cell(columns.agent, row)), "type": _plain(_cell(columns.type, row))}
        if suggestions:
            source["suggestions"] = suggestions
        vectors = {}
        for settings, value in index.store.connection.execute(
                f"SELECT settings, value FROM main.vectors WHERE dataset = {number} AND row = ?", (row,)).fetchall():
            given = json.loads(self.ask("SELECT value FROM vectors WHERE record_id = ? AND vector_settings_id = ?", record, settings)[0][0])
            assert np.allclose(np.frombuffer(value, "<f4"), unit(np.array([given]))[0], atol=1e-6)
            vectors[_dashed(settings)] = given
        if vectors:
            source["vectors"] = vectors
        responses = self.responses(mirror, record, row)
        if responses:
            source["responses"] = responses
        return source

    def responses(self, mirror, record, row):
        """A record's responses, which must be as many, of the same people and statuses, as the index has."""
        found = self.ask('SELECT id, status, user_id, "values" FROM responses WHERE record_id = ? ORDER BY inserted_at, rowid', record)
        users = {code: user for user, code in mirror.responses.user_codes.items()}
        held = sorted((_plain(_cell(mirror.responses.status, place)), users[mirror.responses.users[place]])
                      for place in mirror.responses.places.get(row, ()))
        assert held == sorted((status, user) for _, status, user, _ in found)
        return [{"id": _dashed(identity), "status": status, "user_id": _dashed(user),
                 **{name: value["value"] for name, value in (json.loads(values) or {}).items()}}
                for identity, status, user, values in found]

    def update(self, index, id, body):
        """Give a record these responses."""
        self.ask("DELETE FROM responses WHERE record_id = ?", _hex(id))
        for each in body["doc"]["responses"]:
            values = {name: {"value": value} for name, value in each.items() if name not in ("id", "status", "user_id")}
            self.ask('INSERT INTO responses (id, "values", status, record_id, user_id, inserted_at, updated_at) '
                     "VALUES (?, ?, ?, ?, ?, ?, ?)",
                     _hex(each["id"]), json.dumps(values), each["status"], _hex(id), _hex(each["user_id"]), NOW, NOW)
        self.within(Index.catch_up)

    def bulk(self, body, **options):
        """Give records these fields; a field that the dataset lacks is added."""
        lines = [json.loads(line) for line in body.splitlines()]
        done = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            dataset = _dataset(action["index"]["_index"])
            for name in document["fields"]:
                if not self.ask("SELECT 1 FROM fields WHERE dataset_id = ? AND name = ?", dataset, name):
                    self.ask("INSERT INTO fields (id, name, title, required, settings, dataset_id, inserted_at, updated_at) "
                             "VALUES (?, ?, ?, 0, ?, ?, ?, ?)", uuid.uuid4().hex, name, name, '{"type": "text"}', dataset, NOW, NOW)
            self.ask("UPDATE records SET fields = ? WHERE id = ?", json.dumps(document["fields"]), _hex(action["index"]["_id"]))
            done.append({"index": {"status": 200, "_id": action["index"]["_id"]}})
        return {"items": done, "errors": False}


def _cell(column, row):
    """A row's values in a column; None where it has none."""
    if column is None:
        return None
    if isinstance(column, Codes):
        code = column.codes[row] if row < len(column.codes) else -1
        return column.sets[code] if code >= 0 else None
    value = column.first[row] if row < len(column.first) else np.nan
    return None if np.isnan(value) else (float(value), *column.more.get(row, ()))


class Indices:
    """What the index is made of, as Elasticsearch's mappings would say it."""

    def __init__(self, looking):
        self.looking = looking

    def refresh(self, index):
        """Nothing: the engine looks before each answer."""

    def create(self, index, body):
        """Nothing: a dataset's index is made with its first record."""

    def delete(self, index):
        """Nothing: a dataset's index goes with the dataset."""

    def exists(self, index):
        return self.looking.within(lambda opened: opened.store.known(_dataset(index)) is not None)

    def get_mapping(self, index):
        return {index: {"mappings": self.looking.within(self.mappings, _dataset(index))}}

    def get(self, index, flat_settings=False):
        return self.get_mapping(index)

    def mappings(self, opened, dataset):
        number, fields = opened.store.known(dataset)
        mirror = opened.mirror(dataset)
        columns = [row[1] for row in opened.store.connection.execute(f"PRAGMA main.table_info(text_{number})")]
        assert columns == [f"t{place}" for place in range(max(1, len(fields)))]
        ask = self.looking.ask
        server = dict(ask("SELECT name, json_extract(settings, '$.type') FROM fields WHERE dataset_id = ?", dataset))
        numeric = dict(ask("SELECT name, json_extract(settings, '$.type') FROM metadata_properties WHERE dataset_id = ?", dataset))
        found = {"id": KEYWORD, "external_id": KEYWORD, "status": KEYWORD, "inserted_at": {"type": "date_nanos"},
                 "updated_at": {"type": "date_nanos"}}
        texts = {name: {"type": "text"} for name, kind in fields if kind != "chat"}
        texts |= {name: DISABLED for name in server if name not in dict(fields)}  # in the dataset, and not in the index
        if texts:
            found["fields"] = {"properties": texts}
        metadata = {name: KEYWORD if isinstance(column, Codes) else {"type": "long" if numeric[name] == "integer" else "float"}
                    for name, column in mirror.metadata.items()}
        found["metadata"] = {"dynamic": "false", **({"properties": metadata} if metadata else {"type": "object"})}
        kinds = {}
        for name in mirror.questions:
            compared = name in mirror.responses.values
            kinds[name] = {"type": "integer"} if name in mirror.ratings else KEYWORD if compared else DISABLED
        found["responses"] = {"type": "nested", "dynamic": "strict", "include_in_root": True,
                              "properties": {"id": KEYWORD, "status": KEYWORD, "user_id": KEYWORD, **kinds}}
        if kinds:
            found["suggestions"] = {"properties": {name: {"properties": self.suggestion(mirror, name, kind)}
                                                   for name, kind in kinds.items()}}
        without = [f"fields.{name}" for name in server if name not in dict(fields)]
        return {"dynamic": "strict", "properties": found, **({"_source": {"excludes": without}} if without else {})}

    def suggestion(self, mirror, name, kind):
        """What of a question's suggestions can be filtered."""
        columns = mirror.by_question[mirror.questions[name][0]]
        assert (columns.value is None) == (kind is DISABLED)
        return {"value": kind, "score": {"type": "float"}, "agent": KEYWORD, "type": KEYWORD}
