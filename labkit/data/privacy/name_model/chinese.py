"""Where a Chinese text may hold a name, what the model looks at there, and how it reads it.

A candidate is a character that may be a surname (or a compound surname). It has a few readings: with one given character, with
two, the surname alone before a form of address (王先生) or after 姓, and 小王, 老李. Each reading has features; the sum of their
weights is its score; "no name" scores 0. A name with a middle dot has a candidate on either side of it: how many characters belong to it.
The text is read in simplified characters, one for one, so that traditional ones need no weights of their own.
"""

import re
from collections.abc import Iterator
from functools import cache

from labkit.data.privacy.name_model import lists

DOTS = "·•・‧"
HAN = "一-鿿〇"
# How much a reading must beat "no name" by, in log odds: chosen on the held-out templates and names, and on ordinary texts. A surname that
# is rare is more often an ordinary character.
THRESHOLD, RARE = -1.5, -1.0
LONGEST_SIDE = 7  # characters on one side of a middle dot that are tried
Reading = tuple[int, int, list[str]]  # where it starts and ends, and its features


class Characters:
    """The closed classes of characters, as sets, tables and patterns."""

    def __init__(self) -> None:
        known = lists.characters()
        pairs = known["traditional"]
        self.simplified = {ord(pairs[at]): pairs[at + 1] for at in range(0, len(pairs), 2)}
        self.traditional = re.compile(f"[{''.join(map(chr, self.simplified))}]")
        self.prefixes = frozenset(known["prefixes"].split())
        self.surnames = frozenset(known["surnames"])
        self.common_surnames = frozenset(known["surnames"][:170]) | self.prefixes | {each[0] for each in known["compound"].split()}
        self.frequent = frozenset(known["surnames"][:60])
        self.compound = frozenset(known["compound"].split())
        self.address = tuple(sorted(known["honorifics"].split(), key=len, reverse=True))
        self.long_address = tuple(each for each in self.address if len(each) > 1)
        self.address_starts = frozenset(each[0] for each in self.address)
        self.words = frozenset(lists.ordinary_words())
        self.before = {each: str(at) for at, group in enumerate(known["before"].split()) for each in group}
        self.after = {each: str(at) for at, group in enumerate(known["after"].split()) for each in group}
        singles = "".join(sorted(self.surnames | {each[0] for each in self.compound}))
        self.candidate = re.compile(f"[{singles}]")
        self.dotted = re.compile(f"[{HAN}]{{1,8}}(?:[{DOTS}][{HAN}]{{1,8}})+")  # bounded, so that its time grows with the text only


@cache
def characters() -> Characters:
    """The characters, read once."""
    return Characters()


def sort_of(character: str, sorts: dict[str, str]) -> str:
    """The sort of character that stands beside a name: of `sorts`, `h` any other Chinese character, `.` anything else."""
    return sorts.get(character) or ("h" if is_han(character) else "." if not character.isalnum() else "x")


def simplify(text: str) -> str:
    """The text in simplified characters, each in its place."""
    known = characters()
    return text.translate(known.simplified) if known.traditional.search(text) else text


@cache
def common_pairs() -> frozenset[str]:
    """Ordinary words of two characters: where a surname would begin or end one, no name is looked for."""
    return frozenset(word for word in characters().words if len(word) == 2)


def is_han(character: str) -> bool:
    """Whether it is a Chinese character."""
    return "一" <= character <= "鿿" or character == "〇"


def candidates(text: str, common: frozenset[str]) -> Iterator[tuple[list[str], list[Reading]]]:
    """Of each candidate of a simplified text the features of where it begins and its readings; the former count for each of the
    readings. `common` are pairs of characters of ordinary text that are skipped."""
    known = characters()
    padded = "^^^" + text + "$$$$$$"
    words, compound = known.words, known.compound
    for match in known.candidate.finditer(padded, 3, len(text) + 3):
        at = match.start()
        pair = padded[at:at + 2]
        if pair in compound:
            surname = pair
        elif pair[0] in known.surnames:
            if pair in common and not _addressed(padded, at, known):
                continue
            if pair[0] not in known.frequent and padded[at - 1:at + 1] in common:
                continue
            surname = pair[0]
        else:
            continue
        shared, readings = _readings(padded, at, surname, words, known)
        if readings:
            yield shared, readings


def _addressed(padded: str, at: int, known: Characters) -> bool:
    """Whether a form of address follows the surname, or it and one or two characters."""
    starts = known.address_starts
    return (padded[at + 1] in starts and padded.startswith(known.long_address, at + 1)
            or padded[at + 2] in starts and padded.startswith(known.long_address, at + 2)
            or padded[at + 3] in starts and padded.startswith(known.long_address, at + 3))


def _readings(padded: str, at: int, surname: str, words: frozenset[str], known: Characters) -> tuple[list[str], list[Reading]]:
    after = at + len(surname)
    first = padded[after]
    readings = []
    shared = _start(padded, at, surname, words)
    if is_han(first):
        readings.append((at - 3, after - 2, _given(padded, at, after, 1, surname, shared, words)))
        if is_han(padded[after + 1]):
            readings.append((at - 3, after - 1, _given(padded, at, after, 2, surname, shared, words)))
    form = ""
    if first in known.address_starts:
        form = next((each for each in known.address if padded.startswith(each, after)), "")
    before = padded[at - 1]
    if form or before == "姓":
        follow = padded[after + len(form)]
        readings.append((at - 3, after - 3, ["s", "s" + surname, "sf" + form, "sL" + before, "sR" + follow, "sf" + form + "L" + before,
                                             "sf" + form + "r" + follow, *("s" + each for each in shared[4:])]))
    if before in known.prefixes and len(surname) == 1:
        k = "p" + before
        readings.append((at - 4, after - 3, [k, k + surname, "pS" + surname, k + "R" + first, k + "Q" + padded[after:after + 2],
                                             k + "L" + padded[at - 2], "pL" + padded[at - 2], "pM" + padded[at - 3:at - 1], "pR" + first,
                                             "pQ" + padded[after:after + 2], *("p" + each for each in shared[4:])]))
    return shared, readings


def _start(padded: str, at: int, surname: str, words: frozenset[str]) -> list[str]:
    """Features of where a name begins, the same for its readings."""
    before = padded[at - 1]
    pair, triple = padded[at:at + 2], padded[at:at + 3]
    found = ["L" + before, "M" + padded[at - 2:at], "LL" + sort_of(before, characters().before), "N" + padded[at - 3:at]]
    if pair in words or triple in words:
        found.append("w>")
    if padded[at - 1:at + 1] in words or padded[at - 2:at + 1] in words:
        found.append("w<")
    if padded[at - 1:at + 2] in words:
        found.append("w=")
    return found


def _given(padded: str, at: int, after: int, count: int, surname: str, shared: list[str], words: frozenset[str]) -> list[str]:
    """Features of the reading with `count` given characters."""
    k = str(count) if len(surname) == 1 else "c" + str(count)
    end = after + count
    last, follow = padded[end - 1], padded[end]
    after_sort = sort_of(follow, characters().after)
    found = [k, k + surname, "b" + padded[after], k + "R" + follow, "R" + follow, "Q" + padded[end:end + 2], k + "L" + padded[at - 1],
             "z" + last + follow, k + "RR" + after_sort, "RR" + after_sort]
    if count == 2:
        found += ("b" + last, "2a" + padded[after], "2b" + last)
    else:
        found.append("1Q" + padded[end:end + 2])
    for each in shared[4:]:
        found.append(k + each)
    if last + follow in words:
        found.append(k + "w+")
    if count == 2 and padded[after:end] in words:
        found.append("2w")
    return found


def group(feature: str) -> int:
    """What a feature is about: 0 its kind and words, 1 the characters of the name, 2 what stands before it, 3 what stands after it."""
    marks = feature[1:] if feature[0] in "12spcd" else feature
    if marks[:1] in ("1", "2", "老", "小", "阿", "大", "<", ">"):
        marks = marks[1:]
    if marks[:1] in ("L", "M", "N") and len(marks) > 1:
        return 2
    if marks[:1] in ("R", "Q", "P", "z") and len(marks) > 1:
        return 3
    return 1 if marks[:1] in ("a", "b", "f", "B", "E") or (marks and marks[0] in characters().surnames) else 0


def dotted(text: str) -> Iterator[tuple[list[Reading], list[Reading]]]:
    """For each run with middle dots: the readings of where it starts and of where it ends (a start or end of -1 where it is no matter)."""
    padded = "^^^" + text + "$$$"
    for match in characters().dotted.finditer(text):
        run, at = match.group(), match.start()
        first, last = min(run.find(dot) for dot in DOTS if dot in run), max(run.rfind(dot) for dot in DOTS)
        starts = []
        for length in range(1, min(LONGEST_SIDE, first) + 1):
            begin = at + first - length
            inside = text[begin:at + first]
            starts.append((begin, -1, ["d<", "d<" + str(length), "d<L" + padded[begin + 2], "d<M" + padded[begin + 1:begin + 3],
                                       "d<B" + inside[0], *("df" + each for each in inside)]))
        ends = []
        for length in range(1, min(LONGEST_SIDE, len(run) - last - 1) + 1):
            end = at + last + 1 + length
            inside = text[at + last + 1:end]
            ends.append((-1, end, ["d>", "d>" + str(length), "d>R" + padded[end + 3], "d>Q" + padded[end + 3:end + 5],
                                   "d>E" + inside[-1], *("df" + each for each in inside)]))
        yield starts, ends


class Reader:
    """Finds names with the weights of a trained model: by feature, and the pairs of characters that are ordinary text."""

    def __init__(self, weights: dict[str, float], common: frozenset[str], threshold: float = THRESHOLD, rare: float = RARE) -> None:
        self.weights = weights
        self.rare = rare
        self.common = common
        self.threshold = threshold

    def find(self, text: str) -> list[tuple[int, int, float]]:
        """Where names stand (start, end) and by how much each reading beats "no name" (in log odds), in their order."""
        text = simplify(text)
        score, found = self.weights.get, []
        common_surnames = characters().common_surnames
        for shared, readings in candidates(text, self.common):
            start = -(self.threshold if text[readings[0][0]] in common_surnames else self.rare)
            for feature in shared:
                start += score(feature, 0.0)
            best, reading = 0.0, None
            for each in readings:
                total = start
                for feature in each[2]:
                    total += score(feature, 0.0)
                if total > best:
                    best, reading = total, each
            if reading is not None:
                found.append((best, reading[0], reading[1]))
        if "·" in text or "•" in text or "・" in text or "‧" in text:
            for starts, ends in dotted(text):
                start, end = self._best(starts), self._best(ends)
                if start[0] > 0 and end[0] > 0:
                    found.append((10 + min(start[0], end[0]), start[1][0], end[1][1]))
        if len(found) < 2:
            return [(start, end, total) for total, start, end in found]
        found.sort(key=lambda each: (-each[0], each[1]))
        kept: list[tuple[int, int, float]] = []
        taken: set[int] = set()
        for total, start, end in found:
            if taken.isdisjoint(range(start, end)):
                kept.append((start, end, total))
                taken.update(range(start, end))
        return sorted(kept)

    def _best(self, readings: list[Reading]) -> tuple[float, Reading]:
        score = self.weights.get
        return max(((sum(score(feature, 0.0) for feature in each[2]), each) for each in readings), key=lambda pair: pair[0])
