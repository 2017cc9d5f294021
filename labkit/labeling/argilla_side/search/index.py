"""Search over everything the server has. One thread owns an `Index`; it has no locks.

Every question first works in what was committed since the last one (`catch_up`), which costs one look at the log's last number where
nothing was. Then text comes from FTS5, conditions and orders from columns in memory, similarity from a matrix.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from argilla_side.search import columns, conditions, queries
from argilla_side.search.fuzzy import Vocabulary
from argilla_side.search.mirror import Mirror
from argilla_side.search.upkeep import Upkeep

RANKED = 20_000  # matches; among more, how well each one matches is not reckoned (BM25 takes 2 µs a match), and says little


@dataclass(frozen=True)
class Found:
    """A page of an answer: (record, score), best first; score None where the order is another. `total` counts beyond the page."""

    items: list[tuple[str, float | None]]
    total: int


class Index(Upkeep):
    """Answers about the server's database at `server`, with its side database at `side`."""

    def search(self, dataset: str, text: str | None = None, field: str | None = None, where: Iterable[conditions.Condition] = (),
               orders: Iterable[conditions.Order] = (), offset: int = 0, limit: int = 100, user: str | None = None) -> Found:
        """The records that a query finds and all conditions allow.

        In the order that is asked for; without one the best matches first, or for a `user` an order that mixes this with chance, another
        one for each user and always the same for one. What is equal stands in the order in which it was added.

        Raises:
            ValueError: there is no such field, condition or order.
        """
        self.catch_up()
        mirror = self.mirror(dataset)
        node = self._asked(dataset, text, field)
        chosen = self._chosen(mirror, node, field, where)
        rows = np.flatnonzero(chosen)
        keys = [conditions.keys(mirror, order)[rows] for order in orders]
        scores = None
        if not keys:
            scores = self._scores(mirror, queries.ranked(node), field, rows)
            if user is not None:
                scores = scores * mirror.chance(rows, user)
            keys = [-scores]
        page = columns.first(keys, rows, offset + limit)[offset:]
        return Found([(mirror.ids[row].decode(), None if scores is None else float(scores[place]))
                      for place, row in zip(page, rows[page], strict=True)], len(rows))

    def similar(self, dataset: str, settings: str, value: list[float], without: str | None = None, text: str | None = None,
                field: str | None = None, where: Iterable[conditions.Condition] = (), limit: int = 100, opposite: bool = False,
                threshold: float | None = None) -> Found:
        """The records nearest to a vector (`opposite`: to the vector that points the other way), of those that the query finds and all
        conditions allow; `without` one of them. The score is (1 + cosine) / 2.

        Raises:
            ValueError: the vector has the wrong length, or there is no such settings, field or condition.
        """
        self.catch_up()
        mirror = self.mirror(dataset)
        chosen = self._chosen(mirror, self._asked(dataset, text, field), field, where)
        scores = self.matrix(settings).scores(value, mirror.size, opposite)
        chosen &= scores >= (0 if threshold is None else max(0, threshold))
        if without is not None and without.encode() in mirror.rows:
            chosen[mirror.rows[without.encode()]] = False
        rows = np.flatnonzero(chosen)
        page = columns.first([-scores[rows].astype(np.float64)], rows, limit)
        return Found([(mirror.ids[row].decode(), float(scores[row])) for row in rows[page]], len(page))

    def progress(self, dataset: str) -> dict[str, int]:
        """How many records, and how many of each status."""
        self.catch_up()
        return self.mirror(dataset).progress()

    def progress_of(self, dataset: str, user: str) -> dict[str, int]:
        """How many responses of this user, and how many of each status."""
        self.catch_up()
        return self.mirror(dataset).progress_of(user)

    def terms(self, dataset: str, name: str) -> list[tuple[str, int]]:
        """How many records have each term of a metadata property, the most frequent first."""
        self.catch_up()
        mirror = self.mirror(dataset)
        column = mirror.metadata.get(name)
        if not isinstance(column, columns.Codes):
            return []
        counts = column.counts(mirror.alive[:mirror.size])
        return sorted(((str(term), count) for term, count in counts.items()), key=lambda each: (-each[1], each[0]))

    def extremes(self, dataset: str, name: str) -> tuple[float, float] | None:
        """The smallest and the largest number of a metadata property."""
        self.catch_up()
        mirror = self.mirror(dataset)
        column = mirror.metadata.get(name)
        return column.extremes(mirror.alive[:mirror.size]) if isinstance(column, columns.Numbers) else None

    # -- text ---------------------------------------------------------------------------------------------------------------------------
    def _asked(self, dataset: str, text: str | None, field: str | None) -> queries.Node:
        """What a query asks for."""
        if text is None:
            return queries.Constant(True)
        known = self.store.known(dataset)
        if field is not None and field not in [name for name, _ in (known[1] if known else self.store.fields(dataset))]:
            return queries.Constant(False)  # a field without words, or none at all
        node = queries.parse(text)
        if known is None:
            return queries.Constant(False)
        return queries.spelled_out(node, lambda word, edits: self._vocabulary(known[0]).near(word, edits))

    def _vocabulary(self, number: int) -> Vocabulary:
        if number not in self.vocabularies:
            self.vocabularies = {number: Vocabulary(self.store.vocabulary(number))}
        return self.vocabularies[number]

    def _matching(self, number: int, expression: str) -> np.ndarray:
        """int64: the rows that an FTS5 expression finds. The last few are kept: scores, and the next page, ask for the same again."""
        if (number, expression) not in self.matched:
            while len(self.matched) >= 4:
                self.matched.pop(next(iter(self.matched)))
            self.matched[number, expression] = self.store.matching(number, expression)
        return self.matched[number, expression]

    def _chosen(self, mirror: Mirror, node: queries.Node, field: str | None, where: Iterable[conditions.Condition]) -> np.ndarray:
        """bool (rows,)"""
        chosen = mirror.alive[:mirror.size].copy()
        for condition in where:
            chosen &= conditions.fits(mirror, condition)
        if node != queries.Constant(True):
            chosen &= self._holds(mirror, queries.simplified(node), field)
        return chosen

    def _holds(self, mirror: Mirror, node: queries.Node, field: str | None) -> np.ndarray:
        """bool (rows,): for which rows a simplified query is true."""
        if isinstance(node, queries.Text):
            found = np.zeros(mirror.size, dtype=bool)
            number, fields = self.store.known(mirror.dataset)
            rows = self._matching(number, within(node.expression, fields, field))
            found[rows[rows < mirror.size]] = True
            return found
        if isinstance(node, queries.Not):
            return ~self._holds(mirror, node.part, field)
        if isinstance(node, queries.Constant):
            return np.full(mirror.size, node.everything)
        parts = [self._holds(mirror, part, field) for part in node.parts]
        return (np.logical_and if isinstance(node, queries.Both) else np.logical_or).reduce(parts)

    def _scores(self, mirror: Mirror, expression: str | None, field: str | None, rows: np.ndarray) -> np.ndarray:
        """float64 (rows,): how well each of these rows matches; 1 where nothing speaks for one more than for another."""
        if expression is None or not 0 < len(rows) <= RANKED:
            return np.ones(len(rows))
        number, fields = self.store.known(mirror.dataset)
        expression = within(expression, fields, field)
        if len(self._matching(number, expression)) > RANKED:
            return np.ones(len(rows))
        found, relevance = self.store.relevance(number, expression)
        scores = np.zeros(mirror.size)
        inside = found < mirror.size
        scores[found[inside]] = relevance[inside]
        return np.where(scores[rows] > 0, scores[rows], 1e-9)


def within(expression: str, fields: list[tuple[str, str]], field: str | None) -> str:
    """An FTS5 expression kept to one field."""
    if field is None:
        return expression
    return f"t{[name for name, _ in fields].index(field)} : ({expression})"
