"""Persons' names in English and Chinese texts, found by what they look like and where they stand; offline, without a list of names.

Found: given and family names together or alone, with initials, particles, hyphens and apostrophes, "Family, Given", in capitals or
without any, in either kind of text (Latin names in Chinese sentences, Chinese names in English ones); in Chinese two to four
characters, compound surnames, names with a middle dot, 小王 and 老李 whole, 王某; of 王先生 the surname alone (王), as of "Dr. Smith"
the name without its title. Not found: Chinese given names alone (建国), transliterations without a dot (约翰), nicknames, user
names, names inside email addresses. Companies, places, brands and diseases named after persons are told apart by their
surroundings where these say so ("Parkinson's", "Morgan Stanley", 平安银行).

How well, by exact place, on Faker's names of odd hash, which training never saw: in `tests/data/privacy/test_names.py` precision
0.97 and recall 0.93 in English, 0.98 and 0.92 in Chinese (names that are ordinary words too, such as Day or Mark, among them; recall
without those 0.99 and 0.94); on templates held out from training as well, which put halves of sentences together at random, 0.85 and
0.83, 0.90 and 0.89 (by overlap 0.91 and 0.88, 0.94 and 0.93). In 3,080 banking questions without a name it finds five. Weakest at:
Chinese surnames that are rare and common characters (但, 位), a lone given name that opens a sentence, names of words (Paul Day),
names in capitals, medical prose with foreign place names (one false name in some 700 words).

40 to 80 µs for an English text of 45 words, 45 to 120 µs for a Chinese one of 64 characters; loads in 0.2 s. The models are in
`name_model/` (see its `train.py`).
"""

import math
import re
from functools import cache

from labkit.data.privacy.finding import Finding
from labkit.data.privacy.name_model import store

KIND = "name"
_HAN = re.compile("[一-鿿]")
_LATIN = re.compile("[A-ZÀ-Þ][a-zß-ÿ'’.]|[a-z]{2}")


def find(text: str, language: str) -> list[Finding]:
    """The names in a text, in their order and without overlaps; scores are how sure the model is, 0.5 and more.

    Args:
        text: any length; places are those of its characters.
        language: `en` or `zh`, the text's main language; names of the other script are found as well.
    """
    found: list[tuple[int, int, float]] = []
    plain = text.isascii()
    if not plain and _HAN.search(text):
        found = store.read("zh").find(text)
        if language == "zh" and not _LATIN.search(text):
            return _findings(found)
    if plain or _LATIN.search(text):
        found += store.read("en").find(text)  # no token of it is Chinese: the two cannot overlap
        found.sort()
    return _findings(found)


def find_all(texts: list[str], languages: list[str]) -> list[list[Finding]]:
    """`find` for each text with its language."""
    return [find(text, language) for text, language in zip(texts, languages, strict=True)]


@cache
def known_parts() -> frozenset[str]:
    """Every part of a name that the detector has seen: Faker's of an even hash, and the capitalised words of its templates.

    Needs Faker, which only training and benchmarks have.
    """
    from labkit.data.privacy.name_model import train

    return train.known_parts()


def _findings(found: list[tuple[int, int, float]]) -> list[Finding]:
    return [Finding(KIND, start, end, _sureness(total)) for start, end, total in found]


def _sureness(total: float) -> float:
    """The log odds over the threshold as 0.5 to 1."""
    return round(1 / (1 + math.exp(-min(30.0, max(0.0, total)))), 3)
