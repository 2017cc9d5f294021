"""Keeping the index in step with the server's database: what was committed is worked in, from where the last time ended.

Words and vectors go into the side database, in one transaction with the number of the last change; then what is in memory follows. After
a crash the log has what is missing; where the log does not reach back that far, or the side database is damaged or another one's, all is
indexed anew.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from argilla_side.search import changes
from argilla_side.search.fuzzy import Vocabulary
from argilla_side.search.mirror import Mirror
from argilla_side.search.store import Store, damaged
from argilla_side.search.vectors import Vectors

KEPT_ROWS = 2_000_000  # rows of datasets that are kept in memory; the one not asked for the longest goes first
AT_ONCE = 20_000  # changes a transaction, so that neither memory nor the write-ahead log grows with what was left undone
NOTED = 2_000  # changes that touch no text may be worked in again after a restart; no more than these
BATCH = 2_000  # records a transaction when a whole dataset is indexed

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


class Upkeep:
    """What is known of the server's database at `server`: in the side database at `side`, and in memory."""

    def __init__(self, server: Path, side: Path) -> None:
        self.server, self.side = Path(server), Path(side)
        self.mirrors: dict[str, Mirror] = {}
        self.matrices: dict[str, Vectors] = {}
        self.vocabularies: dict[int, Vocabulary] = {}
        self.matched: dict[tuple[int, str], np.ndarray] = {}
        self._open()

    def _open(self) -> None:
        try:
            self._start()
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self.renew(f"the side database is damaged ({error})")

    def _start(self) -> None:
        self.store = Store(self.server, self.side)
        self._forget_memory()
        noted = self.store.note("position")
        self.position = int(noted) if noted is not None else -1
        self._seen = self._look()
        newest = changes.newest(self.store.connection, "main_")
        if not int(changes.state(self.store.connection, "forgotten", "main_")) <= self.position <= newest:
            self._index_all(newest)
        for dataset in self.store.unfinished():
            self.index_dataset(dataset)
        self.catch_up()

    def _look(self) -> tuple[int, int]:
        """What tells that somebody else wrote to the side database, or changed the server's tables."""
        ask = self.store.connection.execute
        return ask("PRAGMA main.data_version").fetchone()[0], ask("PRAGMA main_.schema_version").fetchone()[0]

    def ask(self, question: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer:
        """`question(index, …)`, once more from a new side database where the present one turns out to be damaged."""
        try:
            return question(self, *arguments, **options)
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self.renew(f"the side database is damaged ({error})")
            return question(self, *arguments, **options)

    def close(self) -> None:
        self.store.close()

    def catch_up(self) -> None:
        """Work in all that was committed until now."""
        seen = self._look()
        if seen != self._seen:
            if seen[1] != self._seen[1] and changes.install(self.server) != self.store.log:
                self.renew("the server's tables were made anew")
                return
            if seen[0] != self._seen[0]:  # another process indexed: what we know of rows may be wrong
                self._forget_memory()
            self._seen = self._look()
        newest = changes.newest(self.store.connection, "main_")
        if newest < self.position:
            self.renew("the server's database is an earlier one")
            return
        while self.position < newest:
            upto = min(newest, self.position + AT_ONCE)
            try:
                self._apply(changes.between(self.store.connection, self.position, upto, "main_"), upto)
            except BaseException:  # what is in memory may be half of it
                self._forget_memory()
                raise

    def renew(self, reason: str) -> None:
        """Throw the side database away and make it anew."""
        _log.warning("%s: indexing everything anew", reason)
        self.store.close()
        self.store.remove()
        self._start()

    def _apply(self, changed: dict[str, dict[str, None]], newest: int) -> None:
        """Work in what changed (targets by kind) up to the change of this number: words and vectors first, then what is in memory."""
        store = self.store
        noted = int(store.note("position") or -1)
        if any(changed[kind] for kind in ("dataset", "text", "vectors")) or newest - noted > NOTED:
            with store.writing():
                for dataset in store.orphans():
                    self.drop(dataset)
                for dataset in changed["dataset"]:
                    self._reconfigure(dataset)
                given, gone = store.index(changed["text"])
                vectors = store.index_vectors({**changed["text"], **changed["vectors"]})
                store.keep("position", str(newest))
            if changed["text"]:
                self._forget_words()
            for dataset, rows in given.items():
                if dataset in self.mirrors:
                    self.mirrors[dataset].add(rows)
            for dataset, records in gone.items():
                if dataset in self.mirrors:
                    self._clear_vectors(dataset, self.mirrors[dataset].forget(records))
            for settings, (cleared, rows, values) in vectors.items():
                if settings in self.matrices:
                    self.matrices[settings].clear(cleared)
                    if len(rows) and values.shape[1] == self.matrices[settings].dimensions:
                        self.matrices[settings].put(rows, values)
            if newest - int(changes.state(store.connection, "forgotten", "main_")) > 5 * NOTED:
                changes.forget(self.server, newest)
        for mirror in self.mirrors.values():
            mirror.refresh("records", {**changed["text"], **changed["records"]})
            mirror.refresh("suggestions", {**changed["text"], **changed["suggestions"]})
            mirror.refresh("responses", {**changed["text"], **changed["responses"]})
        self.position = newest

    def _clear_vectors(self, dataset: str, rows: list[int]) -> None:
        for (settings,) in self.store.connection.execute("SELECT id FROM main_.vectors_settings WHERE dataset_id = ?", (dataset,)):
            if settings in self.matrices:
                self.matrices[settings].clear(rows)

    def _reconfigure(self, dataset: str) -> None:
        """A dataset's fields, questions, metadata properties or vectors changed, or it is gone."""
        self._forget_memory(dataset)
        known = self.store.known(dataset)
        if known is not None and known[1] != self.store.fields(dataset):
            self.index_dataset(dataset)

    def _forget_memory(self, dataset: str | None = None) -> None:
        """Forget what was read of a dataset, or of all; it is read again when it is asked for."""
        if dataset is None:
            self.mirrors.clear()
        self.mirrors.pop(dataset, None)
        self.matrices.clear()  # a matrix is read in a moment, and the settings of a deleted dataset cannot be looked up any more
        self._forget_words()

    def _forget_words(self) -> None:
        self.vocabularies.clear()
        self.matched.clear()

    def _index_all(self, newest: int) -> None:
        """Index every dataset; only then it is noted that this is done."""
        store = self.store
        for (dataset,) in store.connection.execute("SELECT id FROM main.datasets").fetchall():
            store.drop(dataset)
        for (dataset,) in store.connection.execute("SELECT DISTINCT dataset_id FROM main_.records").fetchall():
            self.index_dataset(dataset)
        with store.writing():
            store.keep("position", str(newest))
        self.position = newest

    def index_dataset(self, dataset: str) -> None:
        """Index a dataset anew, from its records in the server's database. If the process ends meanwhile, the next one does it again."""
        self._forget_memory(dataset)
        store = self.store
        with store.writing():
            store.drop(dataset)
            if not store.connection.execute("SELECT 1 FROM main_.datasets WHERE id = ?", (dataset,)).fetchone():
                return
            store.make(dataset)
            store.begin(dataset)
        last = -1
        while True:
            lines = store.connection.execute("SELECT rowid, id FROM main_.records WHERE dataset_id = ? AND rowid > ?"
                                             " ORDER BY rowid LIMIT ?", (dataset, last, BATCH)).fetchall()
            if not lines:
                break
            last = lines[-1][0]
            with store.writing():
                store.index(record for _, record in lines)
                store.index_vectors(record for _, record in lines)
        store.finish(dataset)

    def drop(self, dataset: str) -> None:
        """Forget a dataset."""
        self._forget_memory(dataset)
        self.store.drop(dataset)

    def add(self, records: Iterable[str]) -> None:
        """See that these records are indexed, also where an index without them was asked for before."""
        self.catch_up()
        records = list(records)
        known = {record for _, _, record in self.store.located(records)}
        missing = [record for record in records if record not in known]
        if missing:
            self._apply({kind: dict.fromkeys(missing) if kind == "text" else {} for kind in changes.KINDS}, self.position)

    def remove(self, dataset: str, records: Iterable[str]) -> None:
        """Take records out of the index, also where the server's database still has them."""
        self.catch_up()
        located = self.store.located(records)
        if not located:
            return
        self.store.take_out(located)
        self._forget_memory(dataset)

    def mirror(self, dataset: str) -> Mirror:
        """A dataset's columns, read where they are not in memory."""
        mirror = self.mirrors.pop(dataset, None)
        if mirror is None:
            known = self.store.known(dataset)
            mirror = Mirror(self.store.connection, dataset, self.store.rows(known[0]) if known else [])
        self.mirrors[dataset] = mirror  # now the last one of the dictionary
        while len(self.mirrors) > 1 and sum(each.size for each in self.mirrors.values()) > KEPT_ROWS:
            self._forget_memory(next(iter(self.mirrors)))
        return mirror

    def warm(self) -> None:
        """Read the datasets that were worked on last, so that the first question need not wait for it."""
        self.catch_up()
        for (dataset,) in self.store.connection.execute("SELECT id FROM main_.datasets ORDER BY last_activity_at DESC LIMIT 3").fetchall():
            self.mirror(dataset)

    def matrix(self, settings: str) -> Vectors:
        """The vectors of these settings, read where they are not in memory."""
        if settings not in self.matrices:
            found = self.store.connection.execute("SELECT dimensions FROM main_.vectors_settings WHERE id = ?", (settings,)).fetchone()
            if found is None:
                raise ValueError(f"there are no vector settings {settings}")
            self.matrices[settings] = self.store.vectors(settings, found[0])
        return self.matrices[settings]
