"""What a text query is meant to find, said by hand for each case: `word("refund") & ~phrase("lost card")`.

A text's words are its runs of letters and digits in lower case, and every Chinese character by itself. A phrase is words that follow each
other within one field or one message.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

Words = list[str]


def split(text: str) -> Words:
    return re.findall(r"[\u3400-\u9fff]|(?:(?![\u3400-\u9fff])\w)+", unicodedata.normalize("NFC", text).lower())


def parts(fields: dict[str, Any], name: str | None = None) -> list[Words]:
    """The words of each text: one a text field, one a message of a chat; of one field or of all."""
    texts = []
    for field, value in fields.items():
        if value is not None and name in (None, field):
            texts += [message["content"] for message in value] if isinstance(value, list) else [value]
    return [split(text) for text in texts]


class Wanted:
    """A condition on a record's words; `&`, `|` and `~` are what they look like."""

    def __init__(self, test: Callable[[list[Words]], bool]) -> None:
        self.test = test

    def __call__(self, texts: list[Words]) -> bool:
        return self.test(texts)

    def __and__(self, other: "Wanted") -> "Wanted":
        return Wanted(lambda texts: self(texts) and other(texts))

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(lambda texts: self(texts) or other(texts))

    def __invert__(self) -> "Wanted":
        return Wanted(lambda texts: not self(texts))


def word(text: str) -> Wanted:
    return Wanted(lambda texts: any(text in words for words in texts))


def prefix(text: str) -> Wanted:
    return Wanted(lambda texts: any(each.startswith(text) for words in texts for each in words))


def phrase(text: str) -> Wanted:
    """The words of `text`, one right after the other."""
    wanted = split(text)
    return Wanted(lambda texts: any(words[start:start + len(wanted)] == wanted for words in texts for start in range(len(words))))


def apart(one: str, other: str, most: int) -> Wanted:
    """`one`, at most so many words, then `other`."""
    def test(texts: list[Words]) -> bool:
        return any(_ends(words, one, start) and _begins(words, other, start + 1 + gap)
                   for words in texts for start in range(len(words)) for gap in range(most + 1))
    return Wanted(test)


def _begins(words: Words, text: str, start: int) -> bool:
    return words[start:start + len(split(text))] == split(text)


def _ends(words: Words, text: str, last: int) -> bool:
    first = last + 1 - len(split(text))
    return first >= 0 and words[first:last + 1] == split(text)


def like(text: str, edits: int) -> Wanted:
    """A word that is at most so many insertions, deletions and replacements away."""
    return Wanted(lambda texts: any(_distance(text, each) <= edits for words in texts for each in words))


everything = Wanted(lambda texts: True)
nothing = Wanted(lambda texts: False)


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for number, left in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, right in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (left != right))
    return row[-1]
