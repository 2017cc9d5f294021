"""The vectors of one vector settings: one float32 matrix, a row of it for each row of the dataset."""

import numpy as np
from argilla_side.search.columns import grown


class Vectors:
    """`units` float32 (rows, dimensions), each of length 1 (or 0, where the vector is); `there` bool (rows,)."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.units = np.zeros((0, dimensions), dtype=np.float32)
        self.there = np.zeros(0, dtype=bool)

    def put(self, rows: list[int], values: np.ndarray) -> None:
        """Set these rows; `values` (rows, dimensions), of length 1 as `unit` makes them."""
        if rows:
            size = max(rows) + 1
            self.units, self.there = grown(self.units, size, 0), grown(self.there, size, False)
            self.units[rows], self.there[rows] = values, True

    def clear(self, rows: list[int]) -> None:
        rows = [row for row in rows if row < len(self.there)]
        self.there[rows] = False
        self.units[rows] = 0

    def scores(self, value: list[float], size: int, opposite: bool) -> np.ndarray:
        """float32 (size,): (1 + cosine) / 2, from 0 to 1; of the opposite vector where that is asked; -1 where a row has no vector.

        Raises:
            ValueError: the vector has another length.
        """
        wanted = unit(np.asarray(value, dtype=np.float32)[None])[0]
        if len(wanted) != self.dimensions:
            raise ValueError(f"a vector of length {self.dimensions} is needed, this one has {len(wanted)}")
        found = np.full(size, -1, dtype=np.float32)
        size = min(size, len(self.there))
        cosines = np.clip(self.units[:size] @ (-wanted if opposite else wanted), -1, 1)
        found[:size] = np.where(self.there[:size], (1 + cosines) / 2, -1)
        return found


def unit(values: np.ndarray) -> np.ndarray:
    """float32 (vectors, dimensions), each brought to length 1; a vector of length 0 stays."""
    values = values.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0).astype(np.float32)
