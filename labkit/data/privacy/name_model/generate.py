"""Texts with and without names to train and to check the detector on, drawn from the templates.

Names are Faker's, and of those only parts with an even hash (`even`); a benchmark draws from the odd ones. Deterministic: everything is
drawn from the `random.Random` that is given.
"""

import hashlib
import importlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from labkit.data.privacy.name_model import chinese, english, lists

LATIN = ("en_US", "en_GB", "en_IE", "en_IN", "en_NZ", "en_KE", "en_NG", "de_DE", "fr_FR", "es_ES", "es_MX", "it_IT", "nl_NL", "pl_PL",
         "pt_BR", "sv_SE", "no_NO", "da_DK", "fi_FI", "cs_CZ", "tr_TR", "hr_HR", "hu_HU", "ro_RO", "vi_VN", "id_ID", "zu_ZA")
CHINESE = ("zh_CN", "zh_TW")
COMMON_LATIN = ("en_US", "en_GB", "en_IN", "en_US", "en_GB", "en_IN", "en_US", "en_IE", "en_NZ")  # half of the names are from these
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
TITLES = ("Mr", "Mrs", "Ms", "Mr.", "Mrs.", "Ms.", "Dr", "Dr.", "Miss", "Prof.", "Sir", "Mx")
BEFORE_FAMILY = frozenset("mr mrs ms miss dr prof judge justice captain sgt nurse officer".split())
LETTERS = "ABCDEFGHIJKLMNOPRSTVW"
SLOT = re.compile(r"\{(\w+)\}")
PERSON = {"en": {"n", "f", "l", "lf"}, "zh": {"n", "s", "k", "m", "d"}}
THINGS = ("org", "org", "place", "place", "product", "job", "disease", "event")
PIECES = re.compile(r"[\s-]")
SIGNED = re.compile("(Yours|Kind|Best|Regards|Cheers|Thanks|Many thanks|Love|Sincerely|Warm)[^{]*, [{]|祝好|此致")
SIMPLE_NAME = re.compile(rf"[{english.LETTER}'’ -]+")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and where its names stand."""

    text: str
    spans: tuple[tuple[int, int], ...]


def even(part: str) -> bool:
    """Whether a part of a name has an even hash; the detector may see those only, the others are left to whoever checks it."""
    return hashlib.sha256(part.encode()).digest()[0] % 2 == 0


def seen(part: str) -> bool:
    """Whether the detector may see this part: it and what it is made of (Hans-Albert, de la Torre; but for particles) are even, and no
    name of Faker's that differs by capitals only is odd."""
    pieces = {part, *(each for each in PIECES.split(part) if each and each not in english.PARTICLES)}
    return all(even(each) and each.lower() not in _odd_small() for each in pieces)


@cache
def _odd_small() -> frozenset[str]:
    """Faker's names of odd hash, in small letters."""
    return frozenset(part.lower() for locale in LATIN for sort in parts(locale) for part in sort if not even(part))


@cache
def parts(locale: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Faker's given and family names of a locale, sorted, of either hash."""
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    given, family = set(), set()
    for name in dir(provider):
        values = getattr(provider, name)
        if not isinstance(values, (list, tuple, set, dict)):
            continue
        if re.fullmatch(r"first_names(_(fe)?male|_nonbinary|_unisex)?", name):
            given |= set(values)
        elif re.fullmatch(r"last_names(_(fe)?male|_nonbinary)?", name):
            family |= set(values)
    return tuple(sorted(given)), tuple(sorted(family))


class Names:
    """Names to draw: of the parts that `keep` says."""

    def __init__(self, keep) -> None:
        self.latin = {}
        for locale in LATIN:
            given, family = ([each for each in sort if keep(each) and SIMPLE_NAME.fullmatch(each) and len(each) > 1]
                             for sort in parts(locale))
            if locale == "pl_PL":  # Faker inflects its family names, they are not in a list
                family = [each for each in parts("cs_CZ")[1] if keep(each)]
            if given and family:
                self.latin[locale] = (given, family)
        self.locales = sorted(self.latin)
        known = lists.characters()
        faker = {chinese.simplify(each) for locale in CHINESE for each in parts(locale)[0]}
        originals = {each for locale in CHINESE for each in parts(locale)[0]}
        odd = {chinese.simplify(each) for each in originals if not keep(each)}
        self.keep_chinese = lambda each: each not in odd and keep(each)
        self.given = sorted(each for each in faker if self.keep_chinese(each))
        self.characters = sorted(set(known["given"]))
        self.surnames = known["surnames"]
        self.compound = known["compound"].split()
        self.foreign = known["foreign"]
        self.keep = keep
        self.words: list[str] = []  # ordinary words with a capital, now and then a family name (Day, Wood)
        self.things: list[str] = []  # words of look-alikes, now and then a part of a name (Paris, Ford)

    def locale(self, draw: random.Random) -> str:
        """A locale; English ones more often."""
        while True:
            chosen = draw.choice(COMMON_LATIN) if draw.random() < 0.55 else draw.choice(self.locales)
            if chosen in self.latin:
                return chosen

    def english(self, slot: str, draw: random.Random) -> str:
        """A name in Latin letters for `{n}`, `{f}`, `{l}` (also `{x}`, `{y}`) or `{lf}`."""
        given, family = self.latin[self.locale(draw)]
        first, last = draw.choice(given), draw.choice(family)
        kind = draw.random()
        if self.words and kind > 0.96:
            last = draw.choice(self.words)
        elif self.things and kind > 0.92:
            first, last = (draw.choice(self.things), last) if draw.random() < 0.5 else (first, draw.choice(self.things))
        elif kind < 0.04:
            last = f"{last}-{draw.choice(family)}"
        elif kind < 0.055 and "'" not in last and last[0].isascii():
            last = self._with(draw.choice(("O'", "O'", "D'")), last)
        elif kind < 0.065:
            last = self._with(draw.choice(("Mc", "Mac")), last)
        elif kind < 0.09 and " " not in last:
            last = draw.choice(("van ", "de ", "von ", "van der ", "da ", "del ", "Al ", "De ", "de la ", "bin ", "St. ")) + last
        if slot in ("f", "y"):
            return first if draw.random() < 0.95 or slot == "y" else f"{first}-{draw.choice(given)}"
        if slot in ("l", "x"):
            return last
        if slot == "lf":
            return f"{last}, {first}" + (f" {draw.choice(LETTERS)}." if draw.random() < 0.2 else "")
        kind = draw.random()
        initial, other = draw.choice(LETTERS), draw.choice(LETTERS)
        if kind < 0.70:
            return f"{first} {last}"
        if kind < 0.76:
            return f"{first} {initial}. {last}"
        if kind < 0.80:
            return f"{first[0]}. {last}"
        if kind < 0.84:
            return f"{initial}. {other}. {last}" if draw.random() < 0.6 else f"{initial}.{other}. {last}"
        if kind < 0.91:
            return f"{first} {draw.choice(given)} {last}"
        if kind < 0.93:
            return f"{first}-{draw.choice(given)} {last}"
        if kind < 0.95:
            return f"{first} {last} {draw.choice(family)}"
        if kind < 0.965:
            return f"{first} {initial} {last}"
        if kind < 0.975:
            return f"{first} {last} Jr."
        return first if kind < 0.99 else last

    def _with(self, prefix: str, last: str) -> str:
        """The family name with a prefix, where that is one that may be seen."""
        return prefix + last if self.keep(prefix + last) else last

    def chinese_given(self, draw: random.Random) -> str:
        """A Chinese given name of one or two characters."""
        while True:
            kind = draw.random()
            if kind < 0.25:
                return draw.choice(self.given)
            one = draw.choice(self.characters)
            made = one if kind < 0.55 else one + draw.choice(self.characters)
            if kind > 0.97:
                made = one + one
            if self.keep_chinese(made):
                return made

    def chinese_surname(self, draw: random.Random) -> str:
        """A surname; the first of the list are the common ones."""
        if draw.random() < 0.06:
            return draw.choice(self.compound)
        if draw.random() < 0.4:
            return draw.choice(self.surnames)
        return self.surnames[min(int(draw.expovariate(1 / 90)), len(self.surnames) - 1)]

    def foreign_part(self, draw: random.Random) -> str:
        """A transliterated name of two to five characters."""
        while True:
            made = "".join(draw.choice(self.foreign) for _ in range(draw.choice((2, 2, 2, 3, 3, 3, 4, 4, 5))))
            if self.keep(made):
                return made

    def chinese(self, slot: str, draw: random.Random) -> str:
        """What fills a person's slot of a Chinese template; of `{s}` and `{x}` the surname."""
        surname = self.chinese_surname(draw)
        if slot in ("s", "x"):
            return surname
        if slot == "k":
            return draw.choice("小小小老老老阿") + self.surnames[min(int(draw.expovariate(1 / 60)), len(self.surnames) - 1)]
        if slot == "m":
            return surname + draw.choice(("某", "某", "某某", "某甲", "某乙", "某华"))
        if slot == "d":
            return draw.choice("···•‧").join(self.foreign_part(draw) for _ in range(draw.choice((2, 2, 2, 3))))
        return surname + self.chinese_given(draw)


class Texts:
    """Texts drawn from templates."""

    def __init__(self, language: str, templates: list[str], names: Names, use: Callable[[str], bool] = lambda line: True) -> None:
        self.language = language
        self.before, self.after = ([each for each in side if use(each)] for side in lists.around(language))
        self.slots = lists.slots(language)
        self.names = names
        self.latin_names = False  # names in Latin letters in Chinese texts
        person = PERSON[language]
        self.with_name = [each for each in templates if person & set(SLOT.findall(each))]
        self.without = [each for each in templates if not person & set(SLOT.findall(each))]
        self.with_name += [each.replace(", {", ",\n{").replace("y {", "y\n{") for each in self.with_name if SIGNED.match(each)]
        self.pairs: dict[str, tuple[list[str], list[str]]] = {}  # by slot: what stands before it and after it
        for each in self.with_name:
            for match in SLOT.finditer(each):
                if match.group(1) in person:
                    before, after = self.pairs.setdefault(match.group(1), ([], []))
                    before.append(each[:match.start()])
                    after.append(each[match.end():])

    def one(self, draw: random.Random, share: float = 0.55) -> Labelled:
        """A text of one to four sentences; about `share` of the sentences have a name."""
        count = draw.choice((1, 1, 1, 2, 2, 3, 4))
        text, spans = "", []
        for _ in range(count):
            sentence, found = self.sentence(self._template(draw, share), draw)
            if text:
                text += self._joint(text, draw)
            spans += [(start + len(text), end + len(text)) for start, end in found]
            text += sentence
        return self._dressed(text, spans, draw)

    def _template(self, draw: random.Random, share: float) -> str:
        """A template, or two halves that are put together so that no template is learned by heart."""
        kind = draw.random()
        if draw.random() >= share:
            if kind < 0.75:
                return draw.choice(self.without)
            return draw.choice(self.before) + "{" + draw.choice(THINGS) + "}" + draw.choice(self.after)
        if kind < 0.35:
            before = draw.choice(self.before)
            return before + "{" + self._person(before, draw) + "}" + draw.choice(self.after)
        template = draw.choice(self.with_name)
        if kind < 0.75:
            return template
        slot = draw.choice([each for each in SLOT.findall(template) if each in PERSON[self.language]])
        starts, ends = self.pairs[slot]
        return draw.choice(starts) + "{" + slot + "}" + draw.choice(ends)

    def _person(self, before: str, draw: random.Random) -> str:
        """A slot that may follow `before`."""
        kind = draw.random()
        if self.language == "zh":
            return "n" if kind < 0.92 else "d" if kind < 0.97 else "k"
        if before.strip().strip(".").lower() in BEFORE_FAMILY:
            return "l" if kind < 0.7 else "n"
        return "n" if kind < 0.55 else "f" if kind < 0.9 else "l"

    def sentence(self, template: str, draw: random.Random) -> tuple[str, list[tuple[int, int]]]:
        """A template filled in, and where its names stand."""
        text, spans, done = "", [], 0
        for match in SLOT.finditer(template):
            text += template[done:match.start()]
            done = match.end()
            value = self._value(match.group(1), draw)
            if match.group(1) in PERSON[self.language]:
                spans.append((len(text), len(text) + len(value)))
            text += value
        return text + template[done:], spans

    def _value(self, slot: str, draw: random.Random) -> str:
        english = self.language == "en"
        if self.latin_names and slot in PERSON["zh"]:
            return self.names.english("n", draw)
        if slot in PERSON[self.language] or slot in ("x", "y"):
            return self.names.english(slot, draw) if english else self.names.chinese(slot, draw)
        if slot in self.slots:
            return SLOT.sub(lambda match: self._value(match.group(1), draw), draw.choice(self.slots[slot]))
        number = draw.randint(1, 99)
        if slot == "num":
            return str(number) if draw.random() < 0.7 else str(draw.randint(1000, 9999999))
        if slot == "amount":
            total = draw.choice((50, 120, 800, 1500, 2400, 12000, 30000))
            if english:
                return draw.choice((f"${total:,}", f"£{total}", f"{total} euros"))
            return draw.choice((f"{total}元", f"{number}万元", f"{number}块", f"{number}万"))
        if slot == "date":
            return self._date(number, draw)
        if slot == "g":
            of = self.names.characters + list(self.names.surnames[:150])
            while True:
                made = "".join(draw.choice(of) for _ in range(draw.choice((2, 2, 3))))
                if self.names.keep_chinese(made):
                    return made
        return draw.choice({"month": MONTHS, "day": DAYS, "title": TITLES}[slot])

    def _date(self, number: int, draw: random.Random) -> str:
        day, month, year = number % 28 + 1, number % 12 + 1, 2000 + number % 26
        if self.language == "zh":
            return draw.choice((f"{month}月{day}日", f"{year}年{month}月{day}日", f"{year}-{month:02}-{day:02}"))
        name = draw.choice(MONTHS)
        return draw.choice((f"{day} {name}", f"{name} {day}, {year}", f"{year}-{month:02}-{day:02}", f"{month}/{day}/{year}"))

    def _joint(self, text: str, draw: random.Random) -> str:
        if self.language == "zh":
            if text[-1] in "。？！：，；":
                return "" if draw.random() < 0.85 else "\n"
            return draw.choice(("，", "，", "。", "；", " ", "\n"))
        if text[-1] in ".?!":
            return " " if draw.random() < 0.8 else "\n"
        return draw.choice(("\n", ". ", "\n\n", ", ") if text[-1] != "," else ("\n", "\n\n", " "))

    def _dressed(self, text: str, spans: list[tuple[int, int]], draw: random.Random) -> Labelled:
        """The text as people also write it: without capitals, in capitals only, without a full stop."""
        kind = draw.random()
        changed = text
        if self.language == "en":
            if kind < 0.13:
                changed = text.lower()
            elif kind < 0.23:
                changed = text.upper()
            elif kind < 0.28:
                changed = text.replace("'", "’")
        elif kind < 0.1:
            changed = text.replace("，", " ").replace("。", " ")
        if len(changed) != len(text):  # a letter whose capital is two letters
            changed = text
        if changed and changed[-1] in ".。" and draw.random() < 0.2 and all(end < len(changed) for _, end in spans):
            changed = changed[:-1]
        return Labelled(changed, tuple(spans))
