"""Texts that are the same but for one mistyped word: what word pairs cannot tell in a short text.

In a text of twelve words one wrong letter changes two of the twelve word pairs, as another word would. Here the two words must be the
same but for one letter, so that an other word in its place makes another text. This module knows nothing about records.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

SHORTEST = 5  # letters of a word in which one slip is taken for one
_WORDS = 3, 20  # of a text: below there is too little around the slip; above, word pairs are alike enough with one word replaced
_LONG_ENOUGH = re.compile(f"[A-Za-z]{{{SHORTEST}}}")
_WORD = re.compile(r"\w+")


def links(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts (3 to 20 words, case and punctuation apart) that differ in one word by `one_slip`: two int64 arrays (pairs,) of
    indices, each with the first text of its wording (so that equal texts are no pair, and their others are in none)."""
    keys: list[bytes] = []
    rows: list[int] = []
    places: list[int] = []
    words_of: dict[int, list[str]] = {}
    for row, text in enumerate(texts):
        words = _words(text)
        if not words:
            continue
        words_of[row] = words
        for place, word in enumerate(words):
            if len(word) >= SHORTEST and word.isascii():
                rest = "\0".join((*words[:place], "", *words[place + 1:]))
                keys.append(hashlib.blake2b(f"{word[0]}{rest}".encode(), digest_size=8).digest())
                rows.append(row)
                places.append(place)
    left, right = [], []
    order = np.argsort(np.array(keys, dtype="S8"), kind="stable") if keys else np.zeros(0, np.int64)
    for bucket in _buckets([keys[index] for index in order]):
        members = [(words_of[rows[order[at]]][places[order[at]]], rows[order[at]]) for at in bucket]
        for one, other in _slipped(members):
            left.append(one)
            right.append(other)
    return np.array(left, np.int64), np.array(right, np.int64)


def one_slip(one: str, other: str) -> bool:
    """Whether two texts differ by one letter too many, too few or wrong, or by two neighbours swapped.

    The first letter and all digits must agree: `typical` is no slip of `atypical`, nor `type 1` of `type 2`; nor are Chinese characters
    slips of each other, for each is a word.
    """
    if one == other or abs(len(one) - len(other)) > 1 or one[0] != other[0] or not (one.isascii() and other.isascii()):
        return False
    if [each for each in one if each.isdigit()] != [each for each in other if each.isdigit()]:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    first, second = one[start:], other[start:]
    return (first[1:] == second[1:] or first[1:] == second or first == second[1:]
            or (first[:2] == second[:2][::-1] and first[2:] == second[2:]))


def _words(text: str) -> list[str]:
    """The text's words, folded; none where there are too few or too many."""
    if len(text) > 20 * _WORDS[1] or text.count(" ") >= _WORDS[1] or not _LONG_ENOUGH.search(text):
        return []
    words = _WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text))
    return [word.casefold() for word in words] if _WORDS[0] <= len(words) <= _WORDS[1] else []


def _buckets(keys: list[bytes]) -> Iterator[range]:
    """The runs of equal keys that have two members or more."""
    first = 0
    for at in range(1, len(keys) + 1):
        if at == len(keys) or keys[at] != keys[first]:
            if at - first > 1:
                yield range(first, at)
            first = at


def _slipped(members: list[tuple[str, int]]) -> Iterator[tuple[int, int]]:
    """Rows whose words differ by a slip. Two such words have a spelling in common with one letter left out (or are it): that finds them
    without comparing all with all."""
    first_with: dict[str, int] = {}
    for word, row in members:
        first_with.setdefault(word, row)
    shorter: dict[str, list[str]] = {}
    for word, row in first_with.items():
        tried = set()
        for variant in {word, *(word[:at] + word[at + 1:] for at in range(1, len(word)))}:
            for other in shorter.get(variant, ()):
                if other not in tried:
                    tried.add(other)
                    if one_slip(word, other):
                        yield first_with[other], row
            shorter.setdefault(variant, []).append(word)
