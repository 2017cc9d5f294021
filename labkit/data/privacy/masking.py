"""What stands in the place of personal data: a placeholder, a numbered one, or an invented value of the same shape.

The same value gets the same replacement all through a record, however it is spelt or spaced. Invented values are drawn by HMAC-SHA256
from a secret key, so that they are the same in every run and nobody without the key can try values out; they come from ranges kept
free for examples, or have check digits that are wrong, so that none belongs to anybody.
"""

import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Protocol

from labkit.data.privacy import inventing
from labkit.data.privacy.finding import PLACEHOLDERS, Finding
from labkit.errors import LabError

MODES = ("mask", "number", "pseudonymise", "flag")
KEY_VARIABLE = "LABKIT_PRIVACY_KEY"
_SHORTEST_KEY = 16
_AT = re.compile(r"\s*(?:\(at\)|\[at\]|\{at\}|艾特|\sat\s)\s*", re.I)
_DOT = re.compile(r"\s*(?:\(dot\)|\[dot\]|\{dot\}|\sdot\s)\s*", re.I)


class Replacer(Protocol):
    """Gives the replacement of one finding's text."""

    def replacement(self, kind: str, written: str) -> str: ...


def replace(text: str, findings: Sequence[Finding], replacer: Replacer) -> str:
    """The text with every finding replaced; findings must be in their order and not overlap, as `privacy.find` gives them."""
    pieces, behind = [], 0
    for each in findings:
        pieces += text[behind:each.start], replacer.replacement(each.kind, text[each.start:each.end])
        behind = each.end
    return "".join(pieces) + text[behind:]


def mask(text: str, findings: Sequence[Finding], language: str = "en") -> str:
    """The text with a placeholder such as `[EMAIL]` or `[邮箱]` for every finding."""
    return replace(text, findings, Placeholders(language))


class Placeholders:
    """`[EMAIL]` for every e-mail address."""

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def replacement(self, kind: str, written: str) -> str:
        return PLACEHOLDERS[kind][self.language]


class Numbered:
    """`[EMAIL 1]`, `[EMAIL 2]`: which of them are the same can still be told. One for each record."""

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self._numbers: dict[tuple[str, str], int] = {}
        self._last: dict[str, int] = {}

    def replacement(self, kind: str, written: str) -> str:
        key = kind, same_value(kind, written)
        if key not in self._numbers:
            self._last[kind] = self._numbers[key] = self._last.get(kind, 0) + 1
        gap = " " if self.language == "en" else ""
        return f"{PLACEHOLDERS[kind][self.language][:-1]}{gap}{self._numbers[key]}]"


class Pseudonyms:
    """Invented values of the same shape, the same for the same value. One for each record, with the record's id as `scope`, keeps a
    person from being followed through the records; an empty scope gives the same value everywhere.

    Raises:
        LabError: the key is too short to keep anything secret.
    """

    def __init__(self, key: str, language: str = "en", scope: str = "") -> None:
        if len(key) < _SHORTEST_KEY:
            raise LabError(f"the key for pseudonyms has {len(key)} characters; use at least {_SHORTEST_KEY}, and keep it secret")
        self._key = hashlib.sha256(key.encode()).digest()
        self._scope = scope
        self._names = inventing.Names(language, self._draws)
        self.language = language

    def replacement(self, kind: str, written: str) -> str:
        if kind == "name":
            return self._names.invent(written)
        return inventing.INVENT[kind](written, self._draws(kind, same_value(kind, written)), self.language)

    def _draws(self, kind: str, value: str) -> "inventing.Draws":
        return inventing.Draws(hmac.new(self._key, f"{self._scope}\0{kind}\0{value}".encode(), hashlib.sha256).digest())


def key_from_environment() -> str:
    """The secret key for pseudonyms.

    Raises:
        LabError: it is not set or too short.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < _SHORTEST_KEY:
        raise LabError(f"mode pseudonymise needs a secret of your own: set {KEY_VARIABLE} to at least {_SHORTEST_KEY} characters and "
                       "keep it away from the data")
    return key


def same_value(kind: str, written: str) -> str:
    """One spelling for a value: width, case, spaces and signs inside numbers do not count, nor does a phone's country code."""
    text = unicodedata.normalize("NFKC", written).casefold().strip()
    if kind == "email":
        return re.sub(r"\s", "", _DOT.sub(".", _AT.sub("@", text)))
    if kind in ("phone", "chinese_mobile"):
        digits = "".join(each for each in re.split(r"x|ext|转|轉", text)[0] if each.isdigit())
        return digits[-10:] if len(digits) > 10 else digits.lstrip("0")
    if kind in ("secret", "url_with_token"):
        return unicodedata.normalize("NFKC", written)
    if kind in ("name", "address"):
        return re.sub(r"[\s,.]+", " ", text).strip()
    return "".join(each for each in text if each.isalnum() or each in ":年月日")
