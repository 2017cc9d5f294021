"""One dataset's columns, read from the server's own database: statuses, times, metadata, suggestions and responses of its records.

Filters, sorts, progress and metrics are answered from here. Read whole once (about 4 s for 100,000 records with 6 suggestions), then
only for the records that changed. What it says is never older than the last `refresh`, and what it reads is always the database's present
state, so that reading a record twice does no harm.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from argilla_side.search.columns import Codes, Numbers, Value, fitted, grown, number_of

STATUSES = ("pending", "completed")
COMPARED = {"label_selection", "multi_label_selection", "rating"}  # kinds of questions whose answers can be filtered by
CHUNK = 500  # records a statement

_DAWN = np.int64(np.iinfo(np.int64).min)


class Suggestions:
    """What was suggested for one question, a row a record. `value` is None where the question's kind cannot be filtered by."""

    def __init__(self, compared: bool) -> None:
        self.value = Codes() if compared else None
        self.score, self.agent, self.type = Numbers(), Codes(), Codes()

    def columns(self) -> list[Codes | Numbers]:
        return [column for column in (self.value, self.score, self.agent, self.type) if column is not None]


class Responses:
    """Responses, a place each: `rows` int32 (the record's row, -1 where the place is free), `users` int32 (-1 likewise)."""

    def __init__(self, questions: Iterable[str]) -> None:
        self.size = 0
        self.rows, self.users = np.full(0, -1, dtype=np.int32), np.full(0, -1, dtype=np.int32)
        self.status = Codes()
        self.values = {name: Codes() for name in questions}
        self.user_codes: dict[str, int] = {}
        self.places: dict[int, list[int]] = {}
        self.free: list[int] = []

    def add(self, found: list[tuple[int, str, str, dict[str, Any]]]) -> None:
        """Responses as (row, user, status, values)."""
        if not found:
            return
        places = []
        for row, *_ in found:
            if self.free:
                place = self.free.pop()
            else:
                place, self.size = self.size, self.size + 1
            places.append(place)
            self.places.setdefault(row, []).append(place)
        self.rows, self.users = grown(self.rows, self.size, -1), grown(self.users, self.size, -1)
        self.rows[places] = [row for row, *_ in found]
        self.users[places] = [self.user_codes.setdefault(user, len(self.user_codes)) for _, user, *_ in found]
        self.status.put(places, [(status,) for _, _, status, _ in found])
        for name, column in self.values.items():
            column.put(places, [spread((values.get(name) or {}).get("value")) for *_, values in found])

    def remove(self, rows: Iterable[int]) -> None:
        """Take away all responses of these rows."""
        places = [place for row in rows for place in self.places.pop(row, ())]
        if places:
            self.rows[places] = self.users[places] = -1
            for column in (self.status, *self.values.values()):
                column.clear(places)
            self.free += places

    def by(self, user: str | None) -> np.ndarray:
        """bool (size,): the responses of this user, of everybody for None."""
        users = self.users[:self.size]
        return users >= 0 if user is None else users == self.user_codes.get(user, -2)

    def ratings(self, name: str) -> np.ndarray:
        """float64 (size,): the rating each response gives; NaN for none."""
        column = self.values[name]
        means = np.array([np.mean(values) if not any(isinstance(value, str) for value in values) else np.nan for values in column.sets]
                         + [np.nan])
        return fitted(means[column.codes[:self.size]], self.size, np.nan)


class Mirror:
    """The columns of one dataset (`dataset` is its id, 32 hex digits). `rows` gives the row of a record's id (bytes of its hex digits)."""

    def __init__(self, connection: sqlite3.Connection, dataset: str, rows: list[tuple[str, int]]) -> None:
        self.connection, self.dataset = connection, dataset
        self.size = 0
        self.rows: dict[bytes, int] = {}
        self.ids = np.zeros(0, dtype="S32")
        self.alive = np.zeros(0, dtype=bool)
        self.statuses = np.zeros(0, dtype=np.int8)
        self._times = {name: np.zeros(0, dtype=np.int64) for name in ("inserted_at", "updated_at")}
        self.shuffle = np.zeros(0, dtype=np.uint64)
        self._cached: dict[str, Any] = {}
        self._codes_of_json: dict[str, tuple[Value, ...] | None] = {}
        self.questions: dict[str, tuple[str, str]] = {}
        self.metadata: dict[str, Codes | Numbers] = {}
        self.ratings: set[str] = set()
        self.by_question: dict[str, Suggestions] = {}
        self.configure()
        self.add(rows)
        self._read_records(connection.execute(f"{_RECORDS} WHERE dataset_id = ?", (dataset,)))
        for question in self.by_question:
            self._read_suggestions(connection.execute(f"{_SUGGESTIONS} WHERE question_id = ?", (question,)))
        self._read_responses(connection.execute(f"{_RESPONSES} WHERE record_id IN (SELECT id FROM main_.records WHERE dataset_id = ?)",
                                                (dataset,)))

    def configure(self) -> None:
        """Look up the dataset's questions and metadata properties, and make their columns, empty."""
        ask = lambda table: self.connection.execute(  # noqa: E731
            f"SELECT id, name, json_extract(settings, '$.type') FROM main_.{table} WHERE dataset_id = ?", (self.dataset,)).fetchall()
        questions = ask("questions")
        self.questions = {name: (identity, kind) for identity, name, kind in questions}
        self.ratings = {name for _, name, kind in questions if kind == "rating"}
        self.by_question = {identity: Suggestions(kind in COMPARED) for identity, _, kind in questions}
        self.responses = Responses(name for _, name, kind in questions if kind in COMPARED)
        self.metadata = {name: Codes() if kind == "terms" else Numbers() for _, name, kind in ask("metadata_properties")}

    def suggestion(self, question: str, what: str) -> Codes | Numbers | None:
        """The column of a question's suggestions: their value, score, agent or type."""
        known = self.questions.get(question)
        return getattr(self.by_question[known[0]], what) if known and what in ("value", "score", "agent", "type") else None

    def times(self, name: str) -> np.ndarray:
        """int64 (size,): microseconds since 1970."""
        return self._times[name][:self.size]

    def add(self, rows: Iterable[tuple[str, int]]) -> None:
        """Take in records that have been given a row; they count once they were read."""
        for record, row in rows:
            self.rows[record.encode()] = row
            self.size = max(self.size, row + 1)
        self.ids = grown(self.ids, self.size, b"")
        self.alive = grown(self.alive, self.size, False)
        self.statuses = grown(self.statuses, self.size, 0)
        self.shuffle = grown(self.shuffle, self.size, 0)
        self._times = {name: grown(times, self.size, _DAWN) for name, times in self._times.items()}

    def forget(self, records: Iterable[str]) -> list[int]:
        """Take out records that are gone; returns the rows they had."""
        rows = [row for record in records if (row := self.rows.pop(record.encode(), None)) is not None]
        self.alive[rows] = False
        self._clear_suggestions(rows)
        self.responses.remove(rows)
        for column in self.metadata.values():
            column.clear(rows)
        self._cached.clear()
        return rows

    def refresh(self, kind: str, records: Iterable[str]) -> None:
        """Read again what `kind` says (records, suggestions or responses) of these records."""
        ours = [record for record in records if record.encode() in self.rows]
        for start in range(0, len(ours), CHUNK):
            some = ours[start:start + CHUNK]
            marks = ",".join("?" * len(some))
            if kind == "records":
                self._read_records(self.connection.execute(f"{_RECORDS} WHERE id IN ({marks})", some))
                self._cached.clear()
            elif kind == "suggestions":
                self._clear_suggestions([self.rows[record.encode()] for record in some])
                self._read_suggestions(self.connection.execute(f"{_SUGGESTIONS} WHERE record_id IN ({marks})", some))
            elif kind == "responses":
                self.responses.remove(self.rows[record.encode()] for record in some)
                self._read_responses(self.connection.execute(f"{_RESPONSES} WHERE record_id IN ({marks})", some))

    def _clear_suggestions(self, rows: list[int]) -> None:
        for suggestions in self.by_question.values():
            for column in suggestions.columns():
                column.clear(rows)

    def _read_records(self, cursor: sqlite3.Cursor) -> None:
        for found in self._ours(cursor):
            rows = [row for row, _ in found]
            self.ids[rows] = [each[0].encode() for _, each in found]
            self.shuffle[rows] = [int(each[0][:16], 16) for _, each in found]
            self.statuses[rows] = [STATUSES.index(each[1]) for _, each in found]
            for place, name in enumerate(("inserted_at", "updated_at"), 2):
                self._times[name][rows] = np.array([each[place] for _, each in found], dtype="datetime64[us]").astype(np.int64)
            self.alive[rows] = True
            if self.metadata:
                metadata = [json.loads(each[4]) or {} if each[4] else {} for _, each in found]
                for name, column in self.metadata.items():
                    read = spread if isinstance(column, Codes) else numbers
                    column.put(rows, [read(each.get(name)) for each in metadata])

    def _read_suggestions(self, cursor: sqlite3.Cursor) -> None:
        for found in self._ours(cursor):
            by_question: dict[str, list[tuple[int, tuple]]] = {}
            for row, each in found:
                by_question.setdefault(each[1], []).append((row, each))
            for question, some in by_question.items():
                suggestions = self.by_question.get(question)
                if suggestions is None:
                    continue
                rows = [row for row, _ in some]
                if suggestions.value is not None:
                    suggestions.value.put(rows, [self._decoded(each[2]) for _, each in some])
                suggestions.score.put(rows, [_scores(each[3]) for _, each in some])
                suggestions.agent.put(rows, [each[4] and (each[4],) for _, each in some])
                suggestions.type.put(rows, [each[5] and (each[5],) for _, each in some])

    def _read_responses(self, cursor: sqlite3.Cursor) -> None:
        for found in self._ours(cursor):
            self.responses.add([(row, user, status, json.loads(values or "null") or {}) for row, (_, user, status, values) in found])

    def _ours(self, cursor: sqlite3.Cursor) -> Iterator[list[tuple[int, tuple]]]:
        """What a query gives of the records known here, with their rows, a few thousand at a time."""
        while batch := cursor.fetchmany(5000):
            yield [(row, each) for each in batch if (row := self.rows.get(each[0].encode())) is not None]

    def _decoded(self, text: str | float | None) -> tuple[Value, ...] | None:
        """Values from JSON; the same few come again and again. SQLite has made a number of what reads as one."""
        if not isinstance(text, str):
            return None if text is None else (text,)
        if text not in self._codes_of_json:
            if len(self._codes_of_json) > 10_000:
                self._codes_of_json.clear()
            self._codes_of_json[text] = spread(json.loads(text))
        return self._codes_of_json[text]

    def names(self, what: str) -> list[str | None]:
        """Each row's `id` (hex digits) or `external_id`; None where the row is free."""
        if what not in self._cached:
            names: list[str | None] = [None] * self.size
            for record, row in self.rows.items():
                names[row] = record.decode()
            if what == "external_id":
                by_record = dict(self.connection.execute("SELECT id, external_id FROM main_.records WHERE dataset_id = ?", (self.dataset,)))
                names = [by_record.get(name) for name in names]
            self._cached[what] = names
        return self._cached[what]

    def ranks(self, what: str) -> np.ndarray:
        """float64 (size,): each row's place in the order of its `id` or `external_id`; NaN for none."""
        if f"{what} ranks" not in self._cached:
            names = self.names(what)
            ranks = np.full(self.size, np.nan)
            there = sorted((row for row, name in enumerate(names) if name is not None), key=names.__getitem__)
            ranks[there] = np.arange(len(there))
            self._cached[f"{what} ranks"] = ranks
        return self._cached[f"{what} ranks"]

    def chance(self, rows: np.ndarray, user: str) -> np.ndarray:
        """float64 (rows,) in (0, 1): an order of the rows that is each user's own and always the same (splitmix64 of record and user)."""
        mixed = self.shuffle[rows] ^ np.uint64(int(user[:16], 16) ^ int(user[16:], 16))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed = mixed ^ (mixed >> np.uint64(31))
        return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53

    def progress(self) -> dict[str, int]:
        """How many records there are, and how many of each status that occurs."""
        counts = np.bincount(self.statuses[:self.size][self.alive[:self.size]], minlength=len(STATUSES))
        return {"total": int(counts.sum()), **{name: int(count) for name, count in zip(STATUSES, counts, strict=True) if count}}

    def progress_of(self, user: str) -> dict[str, int]:
        """How many responses this user has given, and how many of each status that occurs."""
        counts = self.responses.status.counts(self.responses.by(user))
        return {"total": sum(counts.values()), **{str(name): count for name, count in counts.items()}}


_RECORDS = "SELECT id, status, inserted_at, updated_at, metadata FROM main_.records"
_SUGGESTIONS = "SELECT record_id, question_id, value, score, agent, type FROM main_.suggestions"
_RESPONSES = 'SELECT record_id, user_id, status, "values" FROM main_.responses'


def spread(value: Any) -> tuple[Value, ...] | None:
    """A value or a list of them as a tuple; None for nothing. What is neither a word nor a number is left out."""
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, str | int | float)) or None


def numbers(value: Any) -> tuple[float, ...] | None:
    """The numbers in a value or a list of them; text that reads as a number is one, as in Elasticsearch (`"007"`)."""
    found = tuple(number for item in spread(value) or () if (number := number_of(item)) is not None)
    return found or None


def _scores(text: str | float | None) -> tuple[float, ...] | None:
    """Scores from JSON: nothing, a number (SQLite has made one of its text) or a list."""
    return numbers(json.loads(text)) if isinstance(text, str) else None if text is None else (float(text),)
