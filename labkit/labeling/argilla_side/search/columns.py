"""Columns in memory: one value (or several) for each row of a dataset, compared with all rows at once.

A row is a small whole number; it is the same in the text index, in the vectors and here. Nothing here knows about databases.
"""

from collections.abc import Callable, Iterable

import numpy as np

Value = str | float | int | bool
MISSING = np.inf  # in keys to sort by: what has no value comes last, up or down, as in Elasticsearch


def grown(array: np.ndarray, size: int, fill: Value) -> np.ndarray:
    """`array` with room for at least `size` rows, new ones filled."""
    if len(array) >= size:
        return array
    larger = np.full((max(size, len(array) * 3 // 2, 1024), *array.shape[1:]), fill, dtype=array.dtype)
    larger[:len(array)] = array
    return larger


def number_of(text: Value) -> float | None:
    """A number, where it is one."""
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        return None


class Codes:
    """Words (labels, terms, agents) or ratings, any number a row. Each distinct set of values has a code; a row holds one code.

    `codes` int32 (rows,), -1 where there is none.
    """

    def __init__(self, rows: int = 0) -> None:
        self.codes = np.full(rows, -1, dtype=np.int32)
        self.sets: list[tuple[Value, ...]] = []
        self.code_of: dict[tuple[Value, ...], int] = {}
        self.codes_with: dict[Value, list[int]] = {}

    def code(self, values: tuple[Value, ...] | None) -> int:
        """The code of a set of values, a new one where it is new; -1 for none."""
        if not values:
            return -1
        code = self.code_of.get(values)
        if code is None:
            code = self.code_of[values] = len(self.sets)
            self.sets.append(values)
            for value in dict.fromkeys(values):
                self.codes_with.setdefault(value, []).append(code)
        return code

    def put(self, rows: list[int], values: list[tuple[Value, ...] | None]) -> None:
        """Set these rows."""
        if rows:
            self.codes = grown(self.codes, max(rows) + 1, -1)
            self.codes[rows] = [self.code(each) for each in values]

    def clear(self, rows: list[int]) -> None:
        self.codes[[row for row in rows if row < len(self.codes)]] = -1

    def terms(self, values: Iterable[str], size: int) -> np.ndarray:
        """bool (size,): the rows that have one of these values; a number is given by its digits (`2`, `2.0`)."""
        wanted: dict[Value, None] = {}
        for text in values:
            wanted[text] = None
            number = number_of(text)
            if number is not None:
                wanted[number] = None  # a dictionary finds 2 by 2.0
        return self._rows((value for value in wanted if value in self.codes_with), size)

    def between(self, low: float | None, high: float | None, size: int) -> np.ndarray:
        """bool (size,): the rows that have a number in this range, ends included."""
        floor, ceiling = -np.inf if low is None else low, np.inf if high is None else high
        return self._rows((value for value in self.codes_with if not isinstance(value, str) and floor <= value <= ceiling), size)

    def _rows(self, values: Iterable[Value], size: int) -> np.ndarray:
        allowed = np.zeros(len(self.sets) + 1, dtype=bool)  # the last one is for -1
        for value in values:
            allowed[self.codes_with[value]] = True
        return fitted(allowed[self.codes[:size]], size)

    def keys(self, size: int, descending: bool) -> np.ndarray:
        """float64 (size,): what to sort by, ascending. Of several values the smallest (descending: the largest) counts."""
        order = {value: place for place, value in enumerate(sorted(self.codes_with, key=lambda value: (isinstance(value, str), value)))}
        pick = max if descending else min
        ranks = np.array([pick(order[value] for value in values) for values in self.sets] + [np.nan], dtype=np.float64)
        return placed(ranks[self.codes[:size]], size, descending)

    def counts(self, alive: np.ndarray) -> dict[Value, int]:
        """How many rows have each value."""
        size = min(len(alive), len(self.codes))
        codes = self.codes[:size][alive[:size]]
        found: dict[Value, int] = {}
        for code, count in enumerate(np.bincount(codes[codes >= 0], minlength=len(self.sets))):
            if count:
                for value in dict.fromkeys(self.sets[code]):
                    found[value] = found.get(value, 0) + int(count)
        return found


class Numbers:
    """A number a row, float64 with NaN for none; rows with several have the others in `more`."""

    def __init__(self, rows: int = 0) -> None:
        self.first = np.full(rows, np.nan)
        self.more: dict[int, tuple[float, ...]] = {}
        self._flat: tuple[np.ndarray, np.ndarray] | None = None

    def put(self, rows: list[int], values: list[tuple[float, ...] | None]) -> None:
        """Set these rows."""
        if not rows:
            return
        self.clear(rows)
        self.first = grown(self.first, max(rows) + 1, np.nan)
        self.first[rows] = [each[0] if each else np.nan for each in values]
        for row, each in zip(rows, values, strict=True):
            if each and len(each) > 1:
                self.more[row] = each[1:]
                self._flat = None

    def clear(self, rows: list[int]) -> None:
        self.first[[row for row in rows if row < len(self.first)]] = np.nan
        if self.more:
            for row in rows:
                if self.more.pop(row, None) is not None:
                    self._flat = None

    def _others(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and values of `more`, one after the other."""
        if self._flat is None:
            self._flat = (np.array([row for row, values in self.more.items() for _ in values], dtype=np.int64),
                          np.array([value for values in self.more.values() for value in values], dtype=np.float64))
        return self._flat

    def _any(self, test: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
        found = fitted(test(self.first[:size]), size)
        if self.more:
            rows, values = self._others()
            rows = rows[test(values)]
            found[rows[rows < size]] = True
        return found

    def between(self, low: float | None, high: float | None, size: int) -> np.ndarray:
        """bool (size,): the rows with a number in this range, ends included."""
        floor, ceiling = -np.inf if low is None else low, np.inf if high is None else high
        return self._any(lambda values: (values >= floor) & (values <= ceiling), size)

    def terms(self, values: Iterable[str], size: int) -> np.ndarray:
        """bool (size,): the rows with one of these numbers. What is no number is equal to none."""
        wanted = np.array([number for text in values if (number := number_of(text)) is not None], dtype=np.float64)
        return self._any(lambda numbers: np.isin(numbers, wanted), size)

    def keys(self, size: int, descending: bool) -> np.ndarray:
        """float64 (size,): what to sort by, ascending. Of several numbers the smallest (descending: the largest) counts."""
        best = fitted(self.first[:size], size, np.nan).copy()
        if self.more:
            rows, values = self._others()
            inside = rows < size
            (np.fmax if descending else np.fmin).at(best, rows[inside], values[inside])
        return placed(best, size, descending)

    def extremes(self, alive: np.ndarray) -> tuple[float, float] | None:
        """The smallest and the largest number there is."""
        size = len(alive)
        low = self.keys(size, False)[alive]
        low, high = low[np.isfinite(low)], -self.keys(size, True)[alive]
        high = high[np.isfinite(high)]
        return (float(low.min()), float(high.max())) if len(low) else None


def fitted(array: np.ndarray, size: int, fill: Value = False) -> np.ndarray:
    """The first `size` elements; filled up where the column has not so many."""
    if len(array) >= size:
        return array[:size]
    filled = np.full(size, fill, dtype=array.dtype)
    filled[:len(array)] = array
    return filled


def placed(values: np.ndarray, size: int, descending: bool) -> np.ndarray:
    """Keys for an ascending sort: turned round where the order is descending, and `MISSING` where there is no value (NaN)."""
    keys = fitted(values, size, np.nan)
    keys = -keys if descending else keys
    return np.where(np.isnan(keys), MISSING, keys)


def first(keys: list[np.ndarray], rows: np.ndarray, count: int) -> np.ndarray:
    """Of `rows` the first `count` in the order of their keys (each float64 (rows,), the first counts most), then of their numbers.

    Only what can be among the first is sorted.
    """
    candidates = np.arange(len(rows))
    if keys and 0 < count < len(rows) // 4:
        limit = np.partition(keys[0], count - 1)[count - 1]
        candidates = np.flatnonzero(keys[0] <= limit)
    order = np.lexsort([rows[candidates], *(key[candidates] for key in reversed(keys))])
    return candidates[order[:count]]
