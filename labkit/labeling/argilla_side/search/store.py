"""The side database: one FTS5 table of words a dataset, the vectors as float32, and how far the changes are worked in.

Everything in it comes from the server's database and may be deleted at any time; it is made anew when it is missing, damaged, of another
version, or of another database. Each change and the note that it is worked in are one transaction, so a killed process leaves either
both or neither.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from argilla_side.search import changes, vectors, words

VERSION = 2  # of the tables below and of how texts become words
CHUNK = 500  # records a statement

_TABLES = """
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE datasets (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, fields TEXT NOT NULL);
CREATE TABLE rows (record TEXT PRIMARY KEY, dataset INTEGER NOT NULL, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX rows_by_dataset ON rows (dataset, row);
CREATE TABLE vectors (id INTEGER PRIMARY KEY, settings TEXT NOT NULL, dataset INTEGER NOT NULL, row INTEGER NOT NULL, value BLOB NOT NULL);
CREATE UNIQUE INDEX vectors_by_settings ON vectors (settings, row);
CREATE INDEX vectors_by_row ON vectors (dataset, row);
"""


class Store:
    """The side database at `side`, made where it is missing, beside the server's at `server` (attached as `main_`, never written here)."""

    def __init__(self, server: Path, side: Path) -> None:
        self.server, self.side = server, side
        self.log = changes.install(server)
        try:
            self.connection = self._opened()
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self.remove()
            self.connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{self.side}", uri=True, timeout=60, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 16777216")  # bytes: a write-ahead log that grew is cut back
        connection.execute("PRAGMA cache_size = -32768")  # 32 MB
        connection.execute("ATTACH DATABASE ? AS main_", (f"file:{self.server}?mode=ro",))
        self.connection = connection
        made = connection.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'notes'").fetchone()
        version, log = (self.note("version"), self.note("log")) if made else (None, None)
        if version != str(VERSION) or log != self.log:
            if connection.execute("SELECT 1 FROM main.sqlite_master").fetchone():
                connection.close()
                self.remove()
                return self._opened()
            connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
            with self.writing():
                self.keep("version", str(VERSION))
                self.keep("log", self.log)
        return connection

    def remove(self) -> None:
        """Delete the file; the next `Store` makes it anew."""
        for name in (self.side, *(self.side.with_name(self.side.name + ending) for ending in ("-wal", "-shm", "-journal"))):
            name.unlink(missing_ok=True)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction; inside another one, a part of it."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def note(self, name: str) -> str | None:
        found = self.connection.execute("SELECT value FROM main.notes WHERE name = ?", (name,)).fetchone()
        return found and found[0]

    def keep(self, name: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO main.notes VALUES (?, ?)", (name, value))

    # -- datasets -----------------------------------------------------------------------------------------------------------------------
    def fields(self, dataset: str) -> list[tuple[str, str]]:
        """The fields that have words, as the server has them: (name, kind)."""
        found = self.connection.execute("SELECT name, json_extract(settings, '$.type') FROM main_.fields WHERE dataset_id = ?"
                                        " ORDER BY inserted_at, name", (dataset,)).fetchall()
        return [(name, kind) for name, kind in found if kind != "image"]

    def known(self, dataset: str) -> tuple[int, list[tuple[str, str]]] | None:
        """A dataset's number, and the fields its words come from; None where it is not indexed."""
        found = self.connection.execute("SELECT number, fields FROM main.datasets WHERE id = ?", (dataset,)).fetchone()
        return found and (found[0], [tuple(field) for field in json.loads(found[1])])

    def orphans(self) -> list[str]:
        """Datasets that are indexed here and gone from the server's database."""
        return [dataset for (dataset,) in self.connection.execute(
            "SELECT id FROM main.datasets WHERE id NOT IN (SELECT id FROM main_.datasets)").fetchall()]

    def drop(self, dataset: str) -> None:
        """Forget all of a dataset."""
        known = self.known(dataset)
        if known:
            with self.writing():
                self.connection.execute(f"DROP TABLE main.text_{known[0]}")
                for table, column in (("rows", "dataset"), ("vectors", "dataset"), ("datasets", "number")):
                    self.connection.execute(f"DELETE FROM main.{table} WHERE {column} = ?", (known[0],))
                self.finish(dataset)

    def begin(self, dataset: str) -> None:
        """Note that a dataset is being indexed as a whole."""
        self.keep(f"unfinished {dataset}", dataset)

    def finish(self, dataset: str) -> None:
        """Note that this is done."""
        self.connection.execute("DELETE FROM main.notes WHERE name = ?", (f"unfinished {dataset}",))

    def unfinished(self) -> list[str]:
        """The datasets of which some records may be missing."""
        return [dataset for (dataset,) in self.connection.execute("SELECT value FROM main.notes WHERE name LIKE 'unfinished %'").fetchall()]

    def make(self, dataset: str) -> tuple[int, list[tuple[str, str]]]:
        """An empty index for a dataset; what is known of it then."""
        fields = self.fields(dataset)
        with self.writing():
            number = self.connection.execute("INSERT INTO main.datasets (id, fields) VALUES (?, ?) RETURNING number",
                                             (dataset, json.dumps(fields))).fetchone()[0]
            names = ", ".join(f"t{place}" for place in range(max(1, len(fields))))
            self.connection.execute(f'CREATE VIRTUAL TABLE main.text_{number} USING fts5({names}, tokenize="{words.TOKENIZER}")')
        return number, fields

    def rows(self, number: int) -> list[tuple[str, int]]:
        """(record, row) of all records of a dataset."""
        return self.connection.execute("SELECT record, row FROM main.rows WHERE dataset = ?", (number,)).fetchall()

    # -- records ------------------------------------------------------------------------------------------------------------------------
    def index(self, records: Iterable[str]) -> tuple[dict[str, list[tuple[str, int]]], dict[str, list[str]]]:
        """Work in the words of these records as the server has them now; returns the rows that were given, (record, row) by dataset, and
        the records that are gone, by dataset."""
        given: dict[str, list[tuple[str, int]]] = {}
        gone: dict[str, list[str]] = {}
        records = list(records)
        with self.writing():
            for start in range(0, len(records), CHUNK):
                some = records[start:start + CHUNK]
                marks = ",".join("?" * len(some))
                found = self.connection.execute(f"SELECT dataset_id, id, fields FROM main_.records WHERE id IN ({marks}) ORDER BY rowid",
                                                some).fetchall()
                lost = set(some).difference(record for _, record, _ in found)
                by_dataset: dict[str, list[tuple[str, str]]] = {}
                for dataset, record, fields in found:
                    by_dataset.setdefault(dataset, []).append((record, fields))
                located = self.located(lost)
                self.take_out(located)
                for dataset, _, record in located:
                    gone.setdefault(dataset, []).append(record)
                for dataset, these in by_dataset.items():
                    given.setdefault(dataset, []).extend(self._put_in(dataset, these))
        return given, gone

    def located(self, records: Iterable[str]) -> list[tuple[str, int, str]]:
        """(dataset, row, record) of those records that have a row."""
        found = []
        records = list(records)
        for start in range(0, len(records), CHUNK):
            some = records[start:start + CHUNK]
            found += self.connection.execute("SELECT datasets.id, rows.row, rows.record FROM main.rows JOIN main.datasets"
                                             " ON datasets.number = rows.dataset"
                                             f" WHERE rows.record IN ({','.join('?' * len(some))})", some).fetchall()
        return found

    def take_out(self, located: Iterable[tuple[str, int, str]]) -> None:
        """Delete all there is of these records, given as `located` gives them."""
        by_dataset: dict[str, list[tuple[int, str]]] = {}
        for dataset, row, record in located:
            by_dataset.setdefault(dataset, []).append((row, record))
        with self.writing():
            for dataset, some in by_dataset.items():
                number = self.known(dataset)[0]
                self.connection.executemany(f"DELETE FROM main.text_{number} WHERE rowid = ?", [(row,) for row, _ in some])
                self.connection.executemany("DELETE FROM main.vectors WHERE dataset = ? AND row = ?", [(number, row) for row, _ in some])
                self.connection.executemany("DELETE FROM main.rows WHERE record = ?", [(record,) for _, record in some])

    def _put_in(self, dataset: str, records: list[tuple[str, str]]) -> list[tuple[str, int]]:
        """The words of (record, fields as JSON); returns (record, row) of the new ones."""
        number, fields = self.known(dataset) or self.make(dataset)
        rows = {record: row for _, row, record in self.located(record for record, _ in records)}
        fresh = self.connection.execute("SELECT coalesce(max(row), 0) FROM main.rows WHERE dataset = ?", (number,)).fetchone()[0]
        given = [(record, fresh + place) for place, record in enumerate((record for record, _ in records if record not in rows), 1)]
        self.connection.executemany(f"DELETE FROM main.text_{number} WHERE rowid = ?", [(row,) for row in rows.values()])
        self.connection.executemany("INSERT INTO main.rows VALUES (?, ?, ?)", [(record, number, row) for record, row in given])
        rows.update(given)
        marks = ", ".join("?" * max(1, len(fields)))
        lines = []
        for record, text in records:
            values = json.loads(text) if text else {}
            lines.append((rows[record], *([written(values.get(name)) for name, _ in fields] or [""])))
        names = ", ".join(f"t{place}" for place in range(max(1, len(fields))))
        self.connection.executemany(f"INSERT INTO main.text_{number} (rowid, {names}) VALUES (?, {marks})", lines)
        return given

    def index_vectors(self, records: Iterable[str]) -> dict[str, tuple[list[int], list[int], np.ndarray]]:
        """Work in the vectors of these records as the server has them now; returns by vector settings the rows that lost theirs, the rows
        that have one, and those vectors, float32 (rows, dimensions) of length 1."""
        cleared: dict[str, list[int]] = {}
        found: dict[str, list[tuple[int, np.ndarray]]] = {}
        numbers: dict[str, int] = {}
        records = list(records)
        with self.writing():
            for start in range(0, len(records), CHUNK):
                some, by_number = {}, {}
                for dataset, row, record in self.located(records[start:start + CHUNK]):
                    if dataset not in numbers:
                        numbers[dataset] = self.known(dataset)[0]
                    some[record] = (numbers[dataset], row)
                    by_number.setdefault(numbers[dataset], []).append(row)
                for number, rows in by_number.items():
                    for settings, row in self.connection.execute(
                            f"DELETE FROM main.vectors WHERE dataset = ? AND row IN ({','.join('?' * len(rows))}) RETURNING settings, row",
                            (number, *rows)).fetchall():
                        cleared.setdefault(settings, []).append(row)
                lines = self.connection.execute("SELECT vector_settings_id, record_id, value FROM main_.vectors"
                                                f" WHERE record_id IN ({','.join('?' * len(some))})", list(some)).fetchall()
                by_settings: dict[str, list[tuple[int, int, str]]] = {}
                for settings, record, value in lines:
                    by_settings.setdefault(settings, []).append((*some[record], value))
                for settings, these in by_settings.items():
                    units = unit_rows([value for *_, value in these])
                    pairs = [(number, row, one) for (number, row, _), one in zip(these, units, strict=True)]
                    self.connection.executemany("INSERT INTO main.vectors (settings, dataset, row, value) VALUES (?, ?, ?, ?)",
                                                [(settings, number, row, one.tobytes()) for number, row, one in pairs])
                    found.setdefault(settings, []).extend((row, one) for _, row, one in pairs)
        return {settings: (cleared.get(settings, []), [row for row, _ in found.get(settings, [])],
                           np.array([one for _, one in found.get(settings, [])], dtype=np.float32))
                for settings in cleared.keys() | found.keys()}

    def vectors(self, settings: str, dimensions: int) -> vectors.Vectors:
        """All vectors of these settings; those of another length (the settings were changed) are left out."""
        matrix = vectors.Vectors(dimensions)
        cursor = self.connection.execute("SELECT row, value FROM main.vectors WHERE settings = ? ORDER BY row", (settings,))
        while batch := cursor.fetchmany(10_000):
            batch = [(row, value) for row, value in batch if len(value) == 4 * dimensions]
            units = np.frombuffer(b"".join(value for _, value in batch), dtype="<f4").reshape(-1, dimensions)
            matrix.put([row for row, _ in batch], units)
        return matrix

    # -- words --------------------------------------------------------------------------------------------------------------------------
    def matching(self, number: int, expression: str) -> np.ndarray:
        """int64: the rows that an FTS5 expression finds. One text with all numbers comes four times faster than a row each."""
        found = self.connection.execute(f"SELECT group_concat(rowid) FROM main.text_{number} WHERE text_{number} MATCH ?",
                                        (expression,)).fetchone()[0]
        return np.fromstring(found, dtype=np.int64, sep=",") if found else np.zeros(0, dtype=np.int64)

    def relevance(self, number: int, expression: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64, and how well each matches (BM25, above 0)."""
        found = self.connection.execute(f"SELECT rowid, bm25(text_{number}) FROM main.text_{number} WHERE text_{number} MATCH ?",
                                        (expression,)).fetchall()
        table = np.array(found, dtype=np.float64).reshape(-1, 2)
        return table[:, 0].astype(np.int64), np.maximum(-table[:, 1], 1e-9)

    def vocabulary(self, number: int) -> list[str]:
        """The distinct words of a dataset."""
        self.connection.execute("DROP TABLE IF EXISTS temp.vocabulary")
        self.connection.execute(f"CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab('main', 'text_{number}', 'row')")
        found = [word for (word,) in self.connection.execute("SELECT term FROM temp.vocabulary")]
        self.connection.execute("DROP TABLE temp.vocabulary")
        return found


def written(value: object) -> str:
    """A field's value as text for the index: of a chat what was said, without the roles; of a custom field its JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(message, dict) and "content" in message for message in value):
        return words.BETWEEN.join(words.indexed(str(message["content"])) for message in value)
    return words.indexed(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def unit_rows(values: list[str]) -> list[np.ndarray]:
    """Vectors from JSON, each float32 of length 1. They have one length, but for the moment in which settings change."""
    lists = [json.loads(value) for value in values]
    if len({len(one) for one in lists}) == 1:
        return list(vectors.unit(np.array(lists, dtype=np.float64)))
    return [vectors.unit(np.array([one], dtype=np.float64))[0] for one in lists]


def damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether a file is no database, or a broken one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
