"""Dates of birth: a date that a word of birth stands beside. Every other date stays.

Each such word claims one date, the first that follows it closely, else the one that it follows closely; so in
"born 3 May 1979, seen on 4 June 2024" only the first is found.
"""

import re
from collections.abc import Iterator

from labkit.data.privacy.finding import Finding

_MONTH = (r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
          r"|dec(?:ember)?)(?![a-z])")
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_YEAR = r"(?:(?:18|19|20)[0-9]{2})"
_HAN_DIGIT = "〇零一二三四五六七八九"
_HAN_NUMBER = "[一二三四五六七八九十廿]{1,3}"
_DATE = re.compile(
    rf"(?<![0-9a-z])(?:{_YEAR}\s?[-/.]\s?(?:0?[1-9]|1[0-2])\s?[-/.]\s?{_DAY}(?![0-9])"
    rf"|{_DAY}\s?[-/.]\s?{_DAY}\s?[-/.]\s?'?(?:{_YEAR}|[0-9]{{2}})(?![0-9])"
    rf"|{_DAY}(?:st|nd|rd|th)?[\s\-.]?(?:\s?of\s)?\s?{_MONTH}\.?[\s\-,.']{{0,3}}(?:{_YEAR}|[0-9]{{2}}(?![0-9]))?"
    rf"|{_MONTH}\.?\s(?:{_DAY}(?:st|nd|rd|th)?(?![0-9])(?:,?\s(?:{_YEAR}|'[0-9]{{2}}))?|{_YEAR})"
    rf"|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
    rf"|(?:{_YEAR}|[0-9]{{2}})\s?年\s?(?:1[0-2]|0?[1-9])\s?月(?:份|\s?{_DAY}\s?[日号])?"
    rf"|(?:1[0-2]|0?[1-9])\s?月\s?{_DAY}\s?[日号]?"
    rf"|[{_HAN_DIGIT}]{{4}}年{_HAN_NUMBER}月(?:{_HAN_NUMBER}[日号])?"
    rf"|{_HAN_NUMBER}月{_HAN_NUMBER}[日号])")
_WORD = re.compile(r"(?<![a-z])(?:born(?![a-z])|d\.?o\.?b(?![a-z])\.?|date\sof\sbirth|birth\s?-?da(?:te|y)|b-?day(?![a-z]))|出生日期"
                   r"|出生年月日?|出生|生日|生于|诞生"
                   r"|(?<=[日号0-9月])生(?![产效活成鲜病长意命])")
_RANGE = re.compile(r"[!?。]|after|before|between|since|until|之前|之后|以前|以后")  # "born after June 2010" is about a group
_BEFORE, _BEHIND = 28, 14  # characters between word and date


def find(small: str) -> Iterator[Finding]:
    """The dates of birth in a levelled, lower-cased text."""
    if not ("born" in small or "birth" in small or "dob" in small or "o.b" in small or "bday" in small or "b-day" in small
            or "生" in small):
        return
    words = list(_WORD.finditer(small))
    if not words:
        return
    dates = [match.span() for match in _DATE.finditer(small)]
    for word in words:
        follows = next((span for span in dates if word.end() <= span[0] <= word.end() + _BEFORE), None)
        precedes = next((span for span in reversed(dates) if word.start() - _BEHIND <= span[1] <= word.start()), None)
        if precedes and (not follows or word.start() - precedes[1] <= 1 < follows[0] - word.end()):
            follows = precedes
        if follows and not _RANGE.search(small, word.end(), follows[0]):
            start, end = follows
            while small[end - 1] in " -,.'":
                end -= 1
            yield Finding("date_of_birth", start, end, 0.9)
