"""Postal addresses: English streets with or without a postcode, Chinese ones from province to room.

An English address begins with a house number (a flat, a box) and ends behind a street's last word or behind a US ZIP code or a UK
postcode. A Chinese address is found at its road and number and followed to both sides; to the left it ends at a word such as 寄到.
A town alone is no address.
"""

import re
from collections.abc import Iterator

from labkit.data.privacy.finding import Finding
from labkit.data.privacy.surroundings import Passage, holds

_STATES = ("A[AEKLPRSZ]|C[AOT]|D[CE]|FL|FM|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]|P[ARW]|RI|S[CD]|T[NX]|UT|V[AIT]"
           "|W[AIVY]")
_US_END = rf"(?:{_STATES}),?\s+[0-9]{{5}}(?:-[0-9]{{4}})?(?![0-9])"
_OTHER_END = r"(?:[A-Z][0-9][A-Z]\s?[0-9][A-Z][0-9]|(?:NSW|VIC|QLD|SA|TAS|ACT|NT),?\s+[0-9]{4})(?![A-Za-z0-9])"  # Canada, Australia
_UK_END = r"[A-Z]{1,2}[0-9][A-Z0-9]?\s?[0-9][A-Z]{2}(?![A-Za-z0-9])"
_WORD = r"(?:[A-Z][A-Za-z'.\-]*|[0-9]+(?:st|nd|rd|th)?[A-Za-z]?(?:-[0-9]+)?|#\s?[A-Za-z0-9]+|of|the|and|upon|on|under|le|de|la)"
_UNIT = r"(?:[Ff]lat|[Aa]pt|[Aa]partment|[Uu]nit|[Ss]tudio|[Ss]uite|[Rr]oom|FLAT|APT|UNIT|STUDIO|SUITE|PSC)\.?\s+[0-9]+[A-Za-z]?"
_START = rf"(?:{_UNIT}|[0-9]{{1,6}}[A-Za-z]?(?:[-/][0-9]{{1,4}})?|P\.?\s?O\.?\s?Box\s+[0-9]+|USS|USNS|USNV|USCGC)"
_FULL = re.compile(rf"(?<![A-Za-z0-9/.$£€#\-]){_START},?\s+(?:{_WORD}[,.]?\s+){{1,12}}?(?:{_US_END}|{_UK_END}|{_OTHER_END})")
_SUFFIX = (r"(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|court|ct|close|crescent|cres|place|pl|terrace|boulevard|blvd|way|square|sq"
           r"|gardens|grove|hill"
           r"|mews|parade|park|row|walk|highway|hwy|parkway|pkwy|circle|cir|trail|quay|rise|view|heights|alley|esplanade|broadway|loop"
           r"|turnpike|path|plaza)")
_STREET = re.compile(
    rf"(?<![A-Za-z0-9/.$£€#\-])(?:{_UNIT},?\s+)?[0-9]{{1,5}}[A-Za-z]?(?:[-/][0-9]{{1,4}})?\s+(?P<words>(?:(?:[A-Za-z][A-Za-z'.\-]*"
    rf"|[0-9]{{1,3}}(?:st|nd|rd|th))\s+){{1,4}}?)"
    rf"(?P<suffix>(?i:{_SUFFIX}))(?![A-Za-z])\.?(?:\s(?:NW|NE|SW|SE|N|S|E|W|North|South|East|West)(?![A-Za-z]))?"
    r"(?P<unit>,?\s(?:(?i:apt|apartment|unit|suite|flat|floor|room|ste)\.?\s?[0-9A-Za-z]{1,5}(?![A-Za-z0-9])|#\s?[0-9A-Za-z]+))?"
    r"(?P<more>(?:,\s?[A-Z][A-Za-z'\-]+(?:\s[A-Z][A-Za-z'\-]+){0,2}(?=[\s.,;]|$)){0,2})")
_BOX = re.compile(r"(?<![A-Za-z])P\.?\s?O\.?\s?Box\s+[0-9]+", re.I)
_LIVES = re.compile(r"(?:liv(?:e|es|ed|ing)\s(?:at|on)|address(?:\sis)?:?|deliver(?:ed)?\sto|ship(?:ped)?\s(?:it\s)?to"
                    r"|sen[dt]\s(?:it\s)?to|mov(?:e|ed|ing)\sto"
                    r"|resid(?:es|ing)\sat|home\sis|house\sat|staying\sat|at)\s*$")
_WEAK_SUFFIXES = frozenset("way place pl row walk view park hill path rise loop circle square close court ct".split())
_STREET_WORDS = ("street", " st", "road", " rd", "ave", "lane", "drive", "close", "court", "crescent", "terrace", "grove", "place",
                 " way", "mews")
_YEAR_BEFORE = re.compile(r"(?:in|since|of|by|from|until|for)\s(?:19|20)[0-9]{2}$")
_NOT_STREETS = frozenset("miles mile km metres meters minutes hours days weeks months years people shops cars times percent of the a an "
                         "in on down up to from and or "
                         "for with per at by is was were are am pm".split())

_NUMBER = r"(?:[甲乙丙丁]?[0-9]{1,5}(?:[-/之][0-9]{1,4})?|[一二三四五六七八九十百零〇]{1,6}|[A-Za-z][0-9]{0,4})"
_ROAD = re.compile(rf"(路|街|大道|巷|弄|胡同|村|里|道|段|镇|园|苑|庄|区|區|坊|营|桥|环|屯)\s?({_NUMBER})\s?(号|號|弄|组|座|栋|幢)|(小区"
                   rf"|花园|苑|公寓|家园|新村)\s?[0-9]{{1,3}}(?:-[0-9]{{1,4}}){{1,2}}(?![0-9])")
_ROAD_ALONE = re.compile("路|大街|街(?!道)|大道|巷|胡同")
_MORE = re.compile(rf"(?:院|楼|樓)?(?:\s?(?:{_NUMBER}(?:号院|号楼|號樓|号|號|栋|棟|幢|座|单元|單元|室|层|楼|樓|组|弄|房"
                   rf"|户)(?:之[0-9]{{1,3}})?|[东西南北中]单元|之[0-9]{{1,3}}"
                   r"|[0-9]{1,4}(?:-[0-9]{1,4}){1,2}(?![0-9])|[A-Za-z]?[0-9]{3,4}(?![0-9年月日元个岁])"
                   r"|[\u4e00-\u9fff]{2,7}?(?:大厦|广场|花园|小区|公寓|中心|大楼|家园|新城|新村|城)(?=[^\u4e00-\u9fff]"
                   r"|[一二三四五六七八九十]|$)))*"
                   r"(?:室)?(?:\s[0-9]{6}(?![0-9]))?")
_LEFTWARD = re.compile(r"[\u4e00-\u9fff0-9]*$")
_PLACE = re.compile("北京|上海|天津|重庆|河北|山西|内蒙古|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|广西|海南"
                    "|四川|贵州|云南|西藏|陕西|甘肃|青海|宁夏|新疆|香港|澳门"
                    "|台湾|臺灣|台北|臺北|广州|深圳|杭州|南京|武汉|成都|西安|苏州|青岛")
_CUT = re.compile(".*(?:地址|住址|户籍地|所在地|搬到|搬去|搬至|寄到|寄往|寄至|寄给|请寄|寄去|送到|送往|送至|发到|发往|位于|改成|改为|改到"
                  "|应为|写的是|写成|家住|现住|居住|租住|住在|换成"
                  "|快递到|收货|[在到去于是为至住寄往和从回])")
_WARD = re.compile(r"[省市县區区州旗盟镇鄉乡]|街道")
_WEAK = frozenset(("里", "道", "段", "镇", "园", "区", "區", "坊", "营", "桥", "环"))
_UNITS = re.compile("[号號座组幢栋弄路街道区县]")
_HOUSE = re.compile(r"[0-9][0-9A-Za-z\-/]{0,8},?\s+[A-Z0-9#]|PSC|USS|USN|USC")
_NO_NAME = re.compile(r"[这那哪条几每]|知$|一$")
_POSTCODE_BEFORE = re.compile(r"(?<![0-9])[0-9]{3,6}\s$")


def find(passage: Passage) -> Iterator[Finding]:
    """The postal addresses in a passage that has a digit or a Chinese number."""
    yield from _english(passage)
    if not passage.text.isascii() and _UNITS.search(passage.text):
        yield from _chinese(passage.text)


def _english(passage: Passage) -> Iterator[Finding]:
    text, small = passage.text, passage.small
    capital_follows = _HOUSE.search(text) is not None
    if capital_follows:
        for match in _FULL.finditer(text):
            yield Finding("address", *match.span(), 0.95)
    if capital_follows or holds(small, _STREET_WORDS):
        yield from _streets(passage)
    if "box" in small:
        for match in _BOX.finditer(text):
            yield Finding("address", *match.span(), 0.8)


def _streets(passage: Passage) -> Iterator[Finding]:
    for match in _STREET.finditer(passage.text):
        words = match["words"].split()
        if any(word.lower() in _NOT_STREETS for word in words):
            continue
        before = max(0, match.start() - 30)
        said = _LIVES.search(passage.small, before, match.start()) is not None
        capital = all(word[0].isupper() or word[0].isdigit() for word in words)
        # "10 Best Way", "in 2019 Wall Street": a title or a year; more is asked of those
        doubtful = match["suffix"].lower() in _WEAK_SUFFIXES or _YEAR_BEFORE.search(passage.small, before, match.start() + 4)
        if said and (capital or len(words) <= 2) or capital and not (doubtful and not match["more"] and not match["unit"]):
            yield Finding("address", *match.span(), 0.85 if capital else 0.7)


def _chinese(text: str) -> Iterator[Finding]:
    behind = 0
    for match in _ROAD.finditer(text):
        if match.start() < behind:
            continue
        begin, said = _leftmost(text, behind, match.start())
        name = text[begin:match.start()]
        zip_code = _POSTCODE_BEFORE.search(text, max(0, begin - 7), begin)
        said = said or zip_code is not None
        ward = _PLACE.search(name) is not None or _WARD.search(name) is not None
        if not name or ((match[1] or match[4]) in _WEAK and not ward and not said) or (not ward and not said and len(name) > 6):
            continue
        if not ward and _NO_NAME.search(name):
            continue
        behind = _MORE.match(text, match.end()).end()
        yield Finding("address", zip_code.start() if zip_code else begin, behind, 0.9)
    for match in _ROAD_ALONE.finditer(text):
        if match.start() >= behind:
            begin, said = _leftmost(text, behind, match.start())
            if said and len(_WARD.findall(text, begin, match.start())) >= 2:
                yield Finding("address", begin, match.end(), 0.7)


def _leftmost(text: str, behind: int, end: int) -> tuple[int, bool]:
    """Where an address begins whose road ends at `end`, and whether a word such as 寄到 stands before it."""
    head = _LEFTWARD.search(text, max(behind, end - 40), end)
    window = head.group()
    cut = _CUT.match(window)
    start = cut.end() if cut else 0
    place = _PLACE.search(window, start)
    if place and not _WARD.search(window, start, place.start()):
        start = place.start()
    return head.start() + start, cut is not None
