"""Personal data in texts: where it stands and what kind it is.

`find` looks for every kind in `KINDS`: numbers with check digits wherever they stand, others by the words around them, names by a
small model of its own (`labkit.data.privacy.names`). Nothing is sent anywhere and nothing is kept. `labkit.data.privacy.masking`
replaces what was found, `labkit.data.privacy.vault` keeps the way back, encrypted.
"""

import re
from collections.abc import Iterator, Sequence, Set

from labkit.data.privacy import addresses, births, credentials, names, numbers, online, phones
from labkit.data.privacy.finding import KINDS, PLACEHOLDERS, TITLES, Finding, parse_kinds, settle
from labkit.data.privacy.surroundings import Passage

__all__ = ["ALL", "KINDS", "PLACEHOLDERS", "TITLES", "Finding", "find", "find_all", "parse_kinds", "settle"]

ALL = frozenset(KINDS)
_DIGIT = re.compile(r"[0-9]")
_HAN_NUMBER = re.compile(r"[一二三四五六七八九十零〇]")


def find(text: str, language: str = "en", kinds: Set[str] = ALL) -> list[Finding]:
    """What is found in a text, in its order and without overlaps. `language` (`en` or `zh`) settles what could be read two ways;
    all kinds are looked for in both."""
    found = list(_structured(text, language, kinds))
    if "name" in kinds:
        found += names.find(text, language)
    return settle(found) if len(found) > 1 else found


def find_all(texts: Sequence[str], languages: Sequence[str], kinds: Set[str] = ALL) -> list[list[Finding]]:
    """`find` for many texts with their languages; the same results, faster where the names' model takes several at once."""
    found = [list(_structured(text, language, kinds)) for text, language in zip(texts, languages, strict=True)]
    if "name" in kinds:
        for each, more in zip(found, names.find_all(list(texts), list(languages)), strict=True):
            each += more
    return [settle(each) if len(each) > 1 else each for each in found]


def _structured(text: str, language: str, kinds: Set[str]) -> Iterator[Finding]:
    for each in _candidates(text, language):
        if each.kind in kinds:
            yield each


def _candidates(text: str, language: str) -> Iterator[Finding]:
    """All kinds but names. Each detector is asked only where a cheap look says that there can be something."""
    passage = Passage(text)
    text, small = passage.text, passage.small
    yield from online.emails(text, small)
    if "/" in text and ("=" in text or "@" in text):
        yield from online.urls(text)
    yield from credentials.find(text, small)
    if _DIGIT.search(text):
        yield from births.find(small)
        yield from addresses.find(passage)
        yield from online.addresses(text, small)
        clusters = passage.clusters()
        if clusters:
            yield from numbers.find(passage, clusters)
            yield from phones.find(passage, clusters, language)
        else:
            yield from numbers.medical(small)
    elif not text.isascii():
        if _HAN_NUMBER.search(text):
            yield from births.find(small)
        yield from addresses.find(passage)
    if "三" in text or "八" in text or "五" in text or "九" in text or "七" in text:
        yield from phones.in_words(text)
