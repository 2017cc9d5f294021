"""Phone numbers: international, North American, British, Chinese (landlines, and mobiles as a kind of their own).

libphonenumber's metadata decide about international numbers and where a number without separators could be anything. Numbers kept
free for films and samples (01632 960…, 555-01…) are phone numbers too, so form decides where they are written as one.
"""

import re
from collections.abc import Iterator

from labkit.data.privacy.finding import Finding
from labkit.data.privacy.surroundings import Passage

_LEFT = r"(?<![A-Za-z0-9+])(?<![A-Za-z0-9][-_/.])"
_RIGHT = r"(?![A-Za-z0-9])(?![-_/][A-Za-z0-9])(?!\.[0-9])"
_EXTENSION = r"(?:\s?(?:x|ext\.?|extension|转|轉)\s?[0-9]{1,6})?"

_INTERNATIONAL = re.compile(r"(?<![A-Za-z0-9+])(?:\+|00)\s?[1-9](?:[\s.\-/()]{0,3}[0-9]){6,14}" + _EXTENSION + r"(?![A-Za-z0-9])", re.I)
_MOBILE = re.compile(r"(?<![A-Za-z0-9])(?<![A-Za-z0-9][-_/.])(?:(?:\+|00)?86[\s\-]{0,2})?1[3-9][0-9](?:([\s\-]?)[0-9]{4}\1[0-9]{4}"
                     r"|[\s\-][0-9]{3}[\s\-][0-9]{5})"
                     r"(?![A-Za-z0-9])(?![-_/][A-Za-z0-9])(?!\.[0-9])")
_MOBILE_ABROAD = re.compile(r"(?:\+|00)86[\s\-]{0,2}1[3-9][0-9][\s\-]?[0-9]{4}[\s\-]?[0-9]{4}(?![0-9])")
_AMERICAN = re.compile(_LEFT + r"(?:1[\s.\-])?(\(?)[2-9][0-9]{2}\)?([\s.\-]{0,2})[2-9][0-9]{2}([\s.\-]?)[0-9]{4}" + _EXTENSION + _RIGHT,
                       re.I)
_SPACED = re.compile(r"(?<![0-9])(?<![0-9]\s)(?:1(?:[\s\-][0-9]){10}|[2-9](?:[\s\-][0-9]){9})(?![\s\-]?[0-9])")
_SPOKEN = "零〇一幺二三四五六七八九"
_IN_WORDS = re.compile(f"(?<![{_SPOKEN}])[一幺][三四五六七八九][{_SPOKEN}]{{9}}(?![{_SPOKEN}十百])")
_LOCAL = re.compile(_LEFT + r"[2-9][0-9]{2}-[0-9]{4}" + _EXTENSION + _RIGHT, re.I)
_BRITISH = re.compile(_LEFT + r"\(?0[1-9](?:[0-9]{1,4})\)?(?:[\s\-]?[0-9]){5,8}" + _EXTENSION + _RIGHT, re.I)
_LANDLINE = re.compile(_LEFT + r"\(?0(?:10|2[0-9]|[3-9][0-9]{2})\)?[\s\-]{0,2}[2-9](?:[0-9]{6,7}|[0-9]{3}[\s\-][0-9]{4}"
                       r"|[0-9]{2}[\s\-][0-9]{4})"
                       + r"(?:-[0-9]{1,5})?" + _EXTENSION + r"(?![A-Za-z0-9])")
_TAIWANESE = re.compile(_LEFT + r"\(?0[2-9][0-9]?\)?[\s\-]{0,2}[0-9]{3,4}[\s\-]?[0-9]{3,6}" + _RIGHT)
_AMERICAN_ABROAD = re.compile(r"(?:\+|00)\s?1[\s.\-]?\(?[2-9][0-9]{2}\)?[\s.\-]?[2-9][0-9]{2}[\s.\-]?[0-9]{4}" + _EXTENSION, re.I)
_DIGITS = re.compile(r"[0-9]+")
_EXTENDED = re.compile(r"x|ext|转|轉", re.I)
_NOT_PHONES = frozenset(("other", "card", "account", "ssn", "nhs", "medical", "passport", "licence", "id"))


def find(passage: Passage, clusters: list[tuple[int, int, int]], language: str) -> Iterator[Finding]:
    """The phone numbers in a passage with these clusters of digits."""
    text = passage.text
    for start, end, digits in clusters:
        if digits < 7:
            continue
        start, end = max(0, start - 2), min(len(text), end + 14)  # a plus, a bracket; an extension
        if "+" in text[start:end] or "00" in text[start:end]:
            yield from _international(passage, start, end)
        yield from _chinese_mobiles(passage, start, end)
        yield from _american(passage, start, end)
        if "0" in text[start:end]:
            yield from _with_trunk_zero(passage, start, end, language)


def in_words(text: str) -> Iterator[Finding]:
    """Chinese mobile numbers written in Chinese characters."""
    return (Finding("chinese_mobile", *match.span(), 0.8) for match in _IN_WORDS.finditer(text))


def _chinese_mobiles(passage: Passage, start: int, end: int) -> Iterator[Finding]:
    for match in _MOBILE.finditer(passage.text, start, end):
        said = passage.cue(match.start())
        if said != "other" or "86" in match.group()[:4]:
            yield Finding("chinese_mobile", *match.span(), 0.95 if said == "phone" else 0.85)


def _american(passage: Passage, start: int, end: int) -> Iterator[Finding]:
    for match in _AMERICAN.finditer(passage.text, start, end):
        said = passage.cue(match.start())
        written = match[1] or match[2] or match[3]
        if said in _NOT_PHONES and not (match[1] and said != "other"):
            continue
        if written or said == "phone" or passage.phone_follows(match.end()):
            yield Finding("phone", *match.span(), 0.9 if said == "phone" else 0.8)
    for match in _SPACED.finditer(passage.text, start, end):
        if passage.cue(match.start()) in ("phone", ""):
            yield Finding("chinese_mobile" if match.group()[0] == "1" else "phone", *match.span(), 0.7)
    for match in _LOCAL.finditer(passage.text, start, end):
        if passage.cue(match.start(), 20) == "phone":
            yield Finding("phone", *match.span(), 0.7)


def _international(passage: Passage, first: int, last: int) -> Iterator[Finding]:
    text = passage.text
    for match in _INTERNATIONAL.finditer(text, first, last):
        start = match.start()
        mobile = _MOBILE_ABROAD.match(text, start)
        if mobile:
            yield Finding("chinese_mobile", *mobile.span(), 0.98)
            continue
        said = passage.cue(start)
        if text[start] == "0" and said in _NOT_PHONES:
            continue
        end = _longest_number(text, start, match.end(), text[start] == "+" or said == "phone")
        if end:
            yield Finding("phone", start, end, 0.95)


def _longest_number(text: str, start: int, end: int, possible_will_do: bool) -> int:
    """Where the longest number ends that libphonenumber takes for one: other figures may follow it. 0 where there is none."""
    import phonenumbers

    written = text[start:end]
    ends = [each.end() for each in _DIGITS.finditer(written)]
    possible = 0
    for size in reversed(ends):
        head = written[:size]
        digits = _EXTENDED.split(head)[0]
        try:
            number = phonenumbers.parse(head if head[0] == "+" else "+" + head[2:].lstrip(), None)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return start + size
        if not possible and phonenumbers.is_possible_number(number) and sum(each.isdigit() for each in digits) >= 9:
            possible = start + size
    american = _AMERICAN_ABROAD.match(written)
    if american:
        return start + american.end()
    return possible if possible_will_do else 0


def _with_trunk_zero(passage: Passage, start: int, end: int, language: str) -> Iterator[Finding]:
    """Numbers as dialled inside a country where they begin with 0."""
    for match in _LANDLINE.finditer(passage.text, start, end):
        said = passage.cue(match.start())
        separated = not match.group().isdigit()
        if said == "phone" or (separated and said not in _NOT_PHONES):
            yield Finding("phone", *match.span(), 0.9)
    for match in (_TAIWANESE if language == "zh" else _BRITISH).finditer(passage.text, start, end):
        said = passage.cue(match.start())
        if said in _NOT_PHONES:
            continue
        size = sum(each.isdigit() for each in _EXTENDED.split(match.group())[0])
        if not (9 if language == "zh" else 10) <= size <= 11:
            continue
        separated = not match.group().isdigit()
        if said == "phone" or separated or passage.phone_follows(match.end()) or (language == "en" and _is_british(match.group())):
            yield Finding("phone", *match.span(), 0.85)


def _is_british(written: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(written, "GB"))
    except phonenumbers.NumberParseException:
        return False
