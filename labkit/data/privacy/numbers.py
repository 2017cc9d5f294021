"""Numbers that stand for a person: cards, accounts, national ids, passports, licences, medical records.

Check digits come from python-stdnum. A number with a check digit of its own is found wherever it stands, unless the words before it
say that it is an order or the like; one without is found only behind the words that say what it is.
"""

import datetime
import re
from collections.abc import Callable, Iterator

from labkit.data.privacy.finding import Finding
from labkit.data.privacy.surroundings import Passage

_LEFT = r"(?<![A-Za-z0-9])(?<![A-Za-z0-9][-_/.])"  # \b would not do: it sees no border between a Chinese character and a digit
_RIGHT = r"(?![A-Za-z0-9])(?![-_/][A-Za-z0-9])(?!\.[0-9])"
_BY = r"(?:[ \t.\-]|\r?\n)?"

_CARD = re.compile(_LEFT + rf"[0-9](?:{_BY}[0-9]){{11,25}}" + r"(?![A-Za-z0-9])")
_GROUP = re.compile(r"[0-9]+")
_SSN = re.compile(_LEFT + r"([0-8][0-9]{2})([ \-.]?)([0-9]{2})\2([0-9]{4})" + _RIGHT)
_NHS = re.compile(_LEFT + r"([0-9]{3})([ \-]?)([0-9]{3})\2([0-9]{4})" + _RIGHT)
_RESIDENT = re.compile(r"(?<![A-Za-z0-9])[1-9][0-9]{5}[ \-]?(?:18|19|20)[0-9]{2}[ \-]?[01][0-9][0-3][0-9][ "
                       r"\-]?[0-9]{3}[0-9Xx](?![A-Za-z0-9])")
_RESIDENT_OLD = re.compile(_LEFT + r"[1-9][0-9]{7}[01][0-9][0-3][0-9]{4}" + _RIGHT)
_IBAN = re.compile(r"(?<=(?<![A-Za-z0-9])[A-Za-z]{2})[0-9]{2}(?:[ \-]?[A-Za-z0-9]){11,30}")
_NUMBERED = r"\s*(?:no\.?|number|num\.?|nr\.?|id|#|№)?"
_SAYS = r"\s*(?:is\s?:?|was|=|:|#|-)?\s*#?"
_IS = r"(?:\s*(?:是|为|為|:|=))?\s*"
_ACCOUNT = re.compile(
    rf"(?<![a-z])(?:account|acct\.?|a/c){_NUMBERED}{_SAYS}\s*([0-9](?:[ \-]?[0-9]){{5,17}})(?![a-z0-9])"
    rf"|(?:账号|帐号|账户|帐户|帳號|帳戶|户头)(?:号码|号)?{_IS}([0-9](?:[ \-]?[0-9]){{7,24}})(?![a-z0-9])")
_LOGIN = re.compile(r"1[3-9][0-9]{9}")  # a mobile number, which many accounts are opened with
_SORT_CODE = re.compile(r"sort[\s\-]?code[^0-9]{0,12}([0-9]{2}[ \-]?[0-9]{2}[ \-]?[0-9]{2})(?![0-9])")
_ROUTING = re.compile(r"(?<![a-z])(?:routing|aba|rtn)(?![a-z])[^0-9]{0,25}([0-9]{9})(?![0-9])")
_PASSPORT = re.compile(rf"(?:passport(?:\sbook)?{_NUMBERED}{_SAYS}|护照(?:号码|证号|编号"
                       rf"|号)?{_IS})\s*((?:[a-z]{{1,2}}\s)?[a-z0-9]{{6,12}})(?![a-z0-9])")
_LICENCE = re.compile(
    rf"(?:driv(?:er|ing)(?:'?s|s')?\s?licen[cs]e{_NUMBERED}{_SAYS}|(?<![a-z])dl\s?(?:no\.?|number|#|:){_SAYS}"
    rf"|(?:驾驶证|驾照)(?:档案)?(?:编号|号码|号)?{_IS})\s*([a-z9]{{5}}\s[0-9]{{6}}\s[a-z9]{{2}}[0-9a-z]{{3}}"
    rf"|[a-z0-9](?:-?[a-z0-9]){{4,19}})(?![a-z0-9])")
_DVLA = re.compile(r"(?<=(?<![A-Za-z0-9])[A-Za-z9]{5})[0-9][0156][0-9][0-3][0-9][0-9][A-Za-z9]{2}[0-9A-Za-z]{3}(?![A-Za-z0-9])")
_MEDICAL = re.compile(
    rf"(?:(?<![a-z])mrn{_NUMBERED}|(?:medical\srecord|hospital|(?<![a-z])hosp\.?|patient|chart)\s?(?:no\.?|number|num\.?|id|#)){_SAYS}\s*"
    r"([a-z]{0,3}-?[0-9](?:-?[a-z0-9]){2,14})(?![a-z0-9])"
    rf"|(?:病历|病歷|住院|门诊|就诊卡|就诊|病案|患者|病人|诊疗卡|检查)(?:编号|号码|号|號"
    rf"|id){_IS}([a-z]{{0,3}}-?[0-9](?:-?[a-z0-9]){{2,14}})(?![a-z0-9])")
_PROVINCES = frozenset("11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split())


def find(passage: Passage, clusters: list[tuple[int, int, int]]) -> Iterator[Finding]:
    """The numbers in a passage with these clusters of digits."""
    text, small = passage.text, passage.small
    for start, end, digits in clusters:
        if digits >= 9:
            yield from _nationals(passage, start, end + 3)
        if digits >= 12:
            yield from _cards(passage, start, end + 3)
        if digits >= 15:
            yield from _resident_ids(passage, start, end + 3)
    yield from _ibans(text)
    yield from _accounts(small)
    if "passport" in small or "护照" in small or "護照" in small:
        yield from _tokens(small, _PASSPORT, "passport")
    if "licen" in small or "驾" in small or "dl" in small:
        yield from _tokens(small, _LICENCE, "driving_licence")
    for match in _DVLA.finditer(text):
        yield Finding("driving_licence", match.start() - 5, match.end(), 0.8)
    yield from medical(small)


def medical(small: str) -> Iterator[Finding]:
    """Medical record numbers, which may have fewer than six digits."""
    if "mrn" in small or "号" in small or "record" in small or "hosp" in small or "patient" in small or "chart" in small:
        yield from _tokens(small, _MEDICAL, "medical_record", least=3)


def card_is_issued(digits: str) -> bool:
    """Whether a number begins and is as long as cards of a known issuer are (ISO/IEC 7812 ranges as the networks publish them)."""
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return size in (13, 16, 19)  # Visa
    if two in (34, 37):
        return size == 15  # American Express
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return size == 16  # Mastercard
    if two == 62 or four == 9558:
        return 16 <= size <= 19  # UnionPay, and the older cards of ICBC
    if four == 6011 or two == 65 or 644 <= four // 10 <= 649 or 3528 <= four <= 3589:
        return 16 <= size <= 19  # Discover, JCB
    if four in (2131, 1800):
        return size == 15  # older JCB
    if two in (36, 38, 39) or 300 <= four // 10 <= 305:
        return 14 <= size <= 19  # Diners Club
    return (two in (50, 56, 57, 58, 67) or four in (6304, 6390)) and 12 <= size <= 19  # Maestro


def _cards(passage: Passage, start: int, end: int) -> Iterator[Finding]:
    from stdnum import luhn

    text = passage.text
    for match in _CARD.finditer(text, start, end):
        groups = [(each.start() + match.start(), each.end() + match.start()) for each in _GROUP.finditer(match.group())]
        if len(groups) > 1 and max(end - start for start, end in groups) < 3:
            continue  # a row of small numbers
        said = passage.cue(match.start())
        found = _first_card(text, groups, luhn.is_valid, said == "card")
        if found is None:
            continue
        digits = sum(character.isdigit() for character in text[found[0]:found[1]])
        if said in ("other", "medical", "licence", "passport") or (digits < 16 and said in ("phone", "account")):
            continue
        if digits < 14 and said != "card":
            continue  # shorter ones pass by chance too often
        yield Finding("bank_card", *found, 0.95 if said == "card" else 0.85)


def _first_card(text: str, groups: list[tuple[int, int]], is_valid: Callable[[str], bool], called_card: bool) -> tuple[int, int] | None:
    """Where the longest card number stands among groups of digits: an expiry date or a check number may stand beside it. What is
    called a card need not begin as those of a known issuer do."""
    for first in range(len(groups)):
        for last in range(len(groups) - 1, first - 1, -1):
            digits = "".join(text[start:end] for start, end in groups[first:last + 1])
            issued = 12 <= len(digits) <= 19 and (card_is_issued(digits) or (called_card and len(digits) >= 15))
            if issued and is_valid(digits):
                return groups[first][0], groups[last][1]
    return None


def _nationals(passage: Passage, start: int, end: int) -> Iterator[Finding]:
    for match in _SSN.finditer(passage.text, start, end):
        said = passage.cue(match.start())
        if said == "ssn" or (match[2] not in ("", ".") and said not in ("other", "phone", "account", "medical")):
            from stdnum.us import ssn

            if ssn.is_valid(match[1] + match[3] + match[4]):
                yield Finding("us_ssn", *match.span(), 0.95 if said == "ssn" else 0.75)
    for match in _NHS.finditer(passage.text, start, end):
        said = passage.cue(match.start())
        # 3-3-4 is how a North American phone is written too; without a word only a number that no such phone has is taken
        if said == "nhs" or (match[2] and not said and (match[1][0] in "01" or match[3][0] in "01")):
            from stdnum.gb import nhs

            if nhs.is_valid(match[1] + match[3] + match[4]):
                yield Finding("uk_nhs", *match.span(), 0.95 if said == "nhs" else 0.6)


def _resident_ids(passage: Passage, start: int, end: int) -> Iterator[Finding]:
    for match in _RESIDENT.finditer(passage.text, start, end):
        digits = match.group().replace(" ", "").replace("-", "").upper()
        if digits[:2] in _PROVINCES and _is_date(digits[6:14]):
            # stdnum's `validate` also wants a district of its list, which lacks many: only its check digit is asked
            from stdnum.cn import ric

            if ric.calc_check_digit(digits) == digits[-1] and passage.cue(match.start()) != "licence":
                yield Finding("chinese_resident_id", *match.span(), 0.98)
    for match in _RESIDENT_OLD.finditer(passage.text, start, end):
        if match.group()[:2] in _PROVINCES and _is_date("19" + match.group()[6:12]) and passage.cue(match.start()) == "id":
            yield Finding("chinese_resident_id", *match.span(), 0.9)


def _is_date(digits: str) -> bool:
    try:
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) <= datetime.date(2100, 1, 1)
    except ValueError:
        return False


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        from stdnum import iban

        start = match.start() - 2
        written = text[start:match.end()]
        ends = [each.end() for each in re.finditer(r"[A-Za-z0-9]+", written)]
        for end in reversed(ends):  # words may follow the number
            if end >= 15 and iban.is_valid(written[:end]):
                yield Finding("iban", start, start + end, 0.98)
                break


def _accounts(small: str) -> Iterator[Finding]:
    if "acc" in small or "a/c" in small or "号" in small or "户" in small or "號" in small or "戶" in small:
        for match in _ACCOUNT.finditer(small):
            if not _LOGIN.fullmatch(match[match.lastindex]):
                yield Finding("bank_account", *match.span(match.lastindex), 0.9)
    if "sort" in small:
        for match in _SORT_CODE.finditer(small):
            yield Finding("bank_account", *match.span(1), 0.9)
    if "routing" in small or "aba" in small or "rtn" in small:
        from stdnum.us import rtn

        for match in _ROUTING.finditer(small):
            if rtn.is_valid(match[1]):
                yield Finding("bank_account", *match.span(1), 0.9)


def _tokens(small: str, pattern: re.Pattern, kind: str, least: int = 4) -> Iterator[Finding]:
    """What stands behind the words of a pattern, where it has at least so many digits (a word has none)."""
    for match in pattern.finditer(small):
        if sum(character.isdigit() for character in match[match.lastindex]) >= least:
            yield Finding(kind, *match.span(match.lastindex), 0.95)
