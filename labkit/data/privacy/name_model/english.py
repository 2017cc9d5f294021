"""Where a text in Latin letters may hold a name, what the model looks at there, and how it reads it.

The text is cut into tokens; a run of tokens that may be part of a name (capitalised words, unknown words, with particles, initials
and commas between them) is a segment. Each token of a segment is outside a name, begins one or goes on with one: a linear chain
whose weights are those of the token's own features (shape, letters at its ends and within, whether it is an ordinary word) and of
its neighbours. "Outside" scores 0. The words themselves are features only where they are in the model's vocabulary, which comes
from ordinary texts and look-alikes; a name that was trained on is known by its letters and its place alone.
"""

import re
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass

LETTER = "A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ"
TOKEN = re.compile(
    rf"(?:Mr|Mrs|Ms|Mx|Dr|Prof|Rev|Sgt|Capt|Lt|Col|Gen|St|Jr|Sr|Hon|Messrs|vs|v|No|Inc|Ltd|Co|Corp|Bros)\.(?![{LETTER}0-9])"
    rf"|[A-ZÀ-ÖØ-Þ]\.(?=[A-ZÀ-ÖØ-Þ\s,])"
    rf"|[{LETTER}]+(?:['’](?![sS](?![{LETTER}]))[{LETTER}]+|-[{LETTER}]+)*"
    r"|['’][sS]|[0-9][0-9.,:/]*|\n|[^\s\w]|[^\W]", re.UNICODE)
PARTICLES = frozenset(
    "de da do dos das del della di du la le van von der den ter ten bin binti ibn al el y e zu af av st. abu".split())
JOINS = frozenset({","})
START, END = "<", ">"
OPENS = frozenset({".", "!", "?", "\n", ":"})  # a sentence may begin after these
NOTHING = (0.0, 0.0)
CACHED_WORDS = 50_000
# How much a token must beat "outside" by, in log odds: chosen on the held-out templates and names, and on ordinary texts, where most
# words in small letters that the model does not know are mistyped.
THRESHOLD, SMALL = -0.7, 0.7
FREQUENT = 3  # the bucket of everyday words
# Words that are no part of a name, however they are written: the closed classes, and titles.
NEVER = frozenset("""
a an the this that these those i me my mine myself we us our ours you your yours he him his she her hers it its they them their theirs
who whom whose which what when where why how and or but nor so if because although though while as than then there here of at by for
with about against between into through during before after above below to from up down in out on off over under again further once is
are was were be been being am have has had having do does did doing would could should can cannot must shall might not no yes please
thank thanks hello hi hey dear regards sincerely mr mrs ms mx dr prof mr. mrs. ms. mx. dr. prof. rev. sgt. capt. lt. col. gen. hon.
messrs. miss professor doctor patient customer monday tuesday wednesday thursday friday saturday sunday january february march april may
june july august september october november december i'm i've i'd i'll it's don't doesn't didn't can't won't isn't aren't wasn't weren't
haven't hasn't hadn't you're we're they're he's she's that's there's what's where's let's each every both any some all many much few
more most other another such only own same too very just also however therefore inc. ltd. co. corp. bros. vs. no. v. sergeant chancellor
detective nurse senator mayor uncle aunt cousin coach grandma grandpa minister governor chairman director manager madam sir lord lady
ceo officer captain inspector constable president pm etc eg ie re fwd cc bcc ok
""".split()) - {"march", "april", "may", "june", "august"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the model knows of words, by the crc32 of their small letters: how often ordinary text has them (`buckets`: 1, seldom, to 4,
    often), and which are features themselves (`features`)."""

    buckets: dict[int, int]
    features: set[int]

    def ordinary(self, lower: str) -> int:
        """The word's bucket; 0 for one that ordinary text does not have."""
        return self.buckets.get(crc32(lower.encode()), 0)

    def known(self, lower: str) -> bool:
        """Whether the word is a feature itself."""
        return crc32(lower.encode()) in self.features


@dataclass(frozen=True, slots=True)
class Word:
    """What is looked at of a token, whatever stands beside it."""

    candidate: int  # 0 never part of a name, 1 may be, 2 may stand inside one only
    side: str  # what its neighbours see of it
    shape: str
    own: tuple[str, ...]
    frequent: bool = False  # an everyday word


def shape_of(token: str) -> str:
    """The token's outline: `Xx`, `XX`, `x`, `X.`, `XxXx` (McDonald), `Xx-Xx`, `x-Xx`, `#`, or the sign itself."""
    first = token[0]
    if not first.isalpha():
        return "#" if first.isdigit() else token
    if len(token) == 1:
        return "X" if first.isupper() else "x" if first.islower() else "字"
    if token[1] == ".":
        return "X."
    if token.isupper():
        return "XX"
    if token.islower():
        return "x-x" if "-" in token else "x"
    parts = re.split(r"[-'’]", token)
    if len(parts) > 1:
        joint = "-" if "-" in token else "'"
        return joint.join("Xx" if part[:1].isupper() else "x" for part in parts[:2])
    return "Xx" if first.isupper() and token[1:].islower() else "XxXx" if first.isupper() else "xX"


def word(token: str, vocabulary: Vocabulary, hidden: bool = False) -> Word:
    """The token as the model sees it; `hidden` as if it were in no list (for training)."""
    shape = shape_of(token)
    if shape in ("#", "字") or not token[0].isalpha():
        return Word(2 if token in JOINS else 0, token if shape != "#" else "#", shape, ("t=" + token,) if token in JOINS else ())
    lower = token.lower()
    known = not hidden and vocabulary.known(lower)
    capital = token[0].isupper()
    if lower in PARTICLES and not capital:
        return Word(2, lower, "p", ("p=" + lower, "p"))
    if lower in NEVER:
        return Word(0, lower, shape, ())
    ordinary = 0 if hidden else vocabulary.ordinary(lower)
    side = lower if known else "o" + shape if ordinary else "?" + shape
    if not capital and (known or ordinary) or ordinary >= FREQUENT and lower.endswith("ly"):  # an adverb (Similarly, …)
        return Word(0, side, shape, ())
    plain = lower.replace("’", "'")
    own = ["s=" + shape, f"o={ordinary}", f"o={ordinary}|{shape}", f"l={min(len(plain), 12)}", "s=" + shape + "|k" * known, "b"]
    if lower in PARTICLES:
        own += ["P", "P=" + lower]
    if known:
        own.append("w=" + lower)
        own.append("wl=" + str(min(len(plain), 9)))
    if len(plain) > 1 and shape != "X.":
        edged = "<" + plain + ">"
        own += ["e2=" + plain[-2:], "e3=" + plain[-3:], "a2=" + plain[:2], "a3=" + plain[:3], "e1=" + plain[-1]]
        if not known:
            own += ["u" + edged[at:at + 3] for at in range(len(edged) - 2)]
            own += ["e4=" + plain[-4:], "a4=" + plain[:4]]
    return Word(1, side, shape, tuple(own), ordinary >= FREQUENT)


def segments(words: list[Word], begins: list[int]) -> Iterator[tuple[int, int]]:
    """The runs (first, end) of tokens to read: they begin and end with one that may be part of a name. `begins` are the places of such."""
    count, done = len(words), 0
    for at in begins:
        if at < done:
            continue
        end = probe = at + 1
        while probe < count and words[probe].candidate:
            probe += 1
            if words[probe - 1].candidate == 1:
                end = probe
        begin = at
        while begin > done and words[begin - 1].candidate == 2 and words[begin - 1].shape == "p":
            begin -= 1
        yield begin, end
        done = end


def _places(text: str, tokens: list[str]) -> list[int]:
    """Where each token begins."""
    found, at = [], 0
    for token in tokens:
        at = text.index(token, at)
        found.append(at)
        at += len(token)
    return found


def style_of(text: str) -> str:
    """How the text uses capitals: `a` all capitals, `l` none, `m` as usual."""
    if text.isupper():
        return "a"
    return "l" if text.islower() else "m"


def context(words: list[Word], at: int, style: str) -> list[str]:
    """The features of the token's place: its neighbours, two on either side, and how the text uses capitals."""
    count = len(words)
    left = words[at - 1].side if at else START
    right = words[at + 1].side if at + 1 < count else END
    left_2 = words[at - 2].side if at > 1 else START
    right_2 = words[at + 2].side if at + 2 < count else END
    left_3 = words[at - 3].side if at > 2 else START
    before = words[at - 1].shape if at else START
    after = words[at + 1].shape if at + 1 < count else END
    shape = words[at].shape
    return ["-1" + left, "+1" + right, "-2" + left_2, "+2" + right_2, "-12" + left_2 + "|" + left, "+12" + right + "|" + right_2,
            "-+" + left + "|" + right, "ss" + before + "|" + shape + "|" + after, "-s" + left + "|" + shape, "+s" + right + "|" + shape,
            "st" + style + shape, "-123" + left_3 + "|" + left_2 + "|" + left]


def group(feature: str) -> int:
    """What a feature is about: 0 its kind, 1 the letters of the word, 2 what stands before it, 3 what stands after it, 4 both sides."""
    mark = feature[0]
    if mark in "-+":
        return 4 if feature[1] == "+" else 2 if mark == "-" else 3
    if mark in "eauw" and feature[1:2] not in ("",):
        return 1
    return 4 if feature.startswith("ss") else 0


Entry = tuple[Word, float, float]  # a token, and what its own features add to "begins a name" and to "goes on with one"


class Reader:
    """Finds names with the weights of a trained model: for each feature, by the crc32 of its letters, what it adds to "begins a name" and
    to "goes on with one"; and what each step along the chain adds (`steps[before][label]`; outside, begins, goes on)."""

    def __init__(self, weights: dict[int, tuple[float, float]], steps: list[list[float]], vocabulary: Vocabulary,
                 bias: float = THRESHOLD, small: float = SMALL) -> None:
        self.weights = weights
        self.steps = steps
        self.vocabulary = vocabulary
        self.bias = bias
        self.small = small
        self._words: dict[str, Entry] = {}

    def find(self, text: str) -> list[tuple[int, int, float]]:
        """Where names stand (start, end) and by how much they beat "no name" (log odds a token), in their order."""
        tokens = TOKEN.findall(text)
        known = self._words
        try:
            entries = [known[token] for token in tokens]
        except KeyError:
            entries = [known.get(token) or self._word(token) for token in tokens]
        words = [entry[0] for entry in entries]
        begins = [at for at, seen in enumerate(words) if seen.candidate == 1]
        if not begins:
            return []
        found, style, places = [], style_of(text), None
        for begin, end in segments(words, begins):
            if end - begin == 1 and self._opens_a_sentence(words, begin):
                continue
            for first, last, total in self._read(words, entries, begin, end, style):
                places = places or _places(text, tokens)
                found.append((places[first], places[last - 1] + len(tokens[last - 1]), total))
        return found

    def _opens_a_sentence(self, words: list[Word], at: int) -> bool:
        """Whether it is a frequent word with a capital only because a sentence begins with it."""
        return words[at].frequent and words[at].shape == "Xx" and (at == 0 or words[at - 1].side in OPENS) and (
            at + 1 < len(words) and words[at + 1].shape == "x")

    def _word(self, token: str) -> Entry:
        seen = word(token, self.vocabulary)
        begins = goes_on = 0.0
        for feature in seen.own:
            first, second = self.weights.get(crc32(feature.encode()), NOTHING)
            begins += first
            goes_on += second
        if len(self._words) > CACHED_WORDS:
            self._words.clear()
        self._words[token] = entry = (seen, begins, goes_on)
        return entry

    def _read(self, words: list[Word], entries: list[Entry], begin: int, end: int, style: str) -> list[tuple[int, int, float]]:
        """The best path through a segment (Viterbi); its names as tokens (first, end) with their score."""
        weights, steps = self.weights, self.steps
        path: list[tuple[int, int, int]] = []
        emitted = []
        outside, first, inside = 0.0, -1e9, -1e9
        for at in range(begin, end):
            _, begins, goes_on = entries[at]
            bias = self.small if words[at].shape == "x" else self.bias
            begins -= bias
            goes_on -= bias
            for feature in context(words, at, style):
                pair = weights.get(crc32(feature.encode()))
                if pair is not None:
                    begins += pair[0]
                    goes_on += pair[1]
            emitted.append((begins, goes_on))
            if at == begin:
                outside, first, inside = steps[0][0], steps[0][1] + begins, -1e9
                path.append((0, 0, 0))
                continue
            scores = (outside, first, inside)
            from_outside = max(range(3), key=lambda label: scores[label] + steps[label][0])
            from_first = max(range(3), key=lambda label: scores[label] + steps[label][1])
            from_inside = 1 if first + steps[1][2] >= inside + steps[2][2] else 2
            path.append((from_outside, from_first, from_inside))
            outside, first, inside = (scores[from_outside] + steps[from_outside][0], scores[from_first] + steps[from_first][1] + begins,
                                      scores[from_inside] + steps[from_inside][2] + goes_on)
        label = max(range(3), key=(outside, first, inside).__getitem__)
        labels = []
        for back in reversed(path):
            labels.append(label)
            label = back[label]
        labels.reverse()
        return _spans(labels, emitted, words, begin)


def _spans(labels: list[int], emitted: list[tuple[float, float]], words: list[Word], begin: int) -> list[tuple[int, int, float]]:
    """The names of a segment by its labels."""
    found = []
    at = 0
    while at < len(labels):
        if labels[at] != 1:
            at += 1
            continue
        end = at + 1
        while end < len(labels) and labels[end] == 2:
            end += 1
        last = end
        while last > at + 1 and words[begin + last - 1].candidate == 2:  # a comma or a particle ends no name
            last -= 1
        total = emitted[at][0] + sum(emitted[index][1] for index in range(at + 1, end))
        found.append((begin + at, begin + last, total / (end - at)))
        at = end
    return found
