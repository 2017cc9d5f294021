"""Words that are a slip of the pen away from another (Levenshtein: insertions, deletions, replacements), many at once."""

import numpy as np


class Vocabulary:
    """The distinct words of an index, by length: int32 code points (words, length)."""

    def __init__(self, words: list[str]) -> None:
        by_length: dict[int, list[str]] = {}
        for word in words:
            by_length.setdefault(len(word), []).append(word)
        self.words = by_length
        self.codes = {length: np.array([[*map(ord, word)] for word in some], dtype=np.int32) for length, some in by_length.items()}

    def near(self, word: str, edits: int, limit: int = 200) -> list[str]:
        """The words at most `edits` away, nearest first; never more than `limit`."""
        found: list[tuple[int, str]] = []
        for length in range(max(1, len(word) - edits), len(word) + edits + 1):
            if length in self.codes:
                distances = _distances(word, self.codes[length])
                found += [(int(distances[place]), self.words[length][place]) for place in np.flatnonzero(distances <= edits)]
        return [each for _, each in sorted(found)[:limit]]


def _distances(word: str, others: np.ndarray) -> np.ndarray:
    """int16 (words,): the edit distance of `word` from each row, by the usual table, a column of it for all rows at once."""
    count, length = others.shape
    row = [np.full(count, place, dtype=np.int16) for place in range(length + 1)]
    for number, letter in enumerate(word, 1):
        differs = others != ord(letter)
        diagonal, row[0] = row[0], np.full(count, number, dtype=np.int16)
        for place in range(1, length + 1):
            best = np.minimum(np.minimum(row[place], row[place - 1]) + 1, diagonal + differs[:, place - 1])
            diagonal, row[place] = row[place], best.astype(np.int16)
    return row[length]
