"""The query language of Elasticsearch's `simple_query_string`, as the server's page uses it, for SQLite FTS5.

    late parcel      both words, in any field        "late parcel"     side by side        "late parcel"~2   at most two words between
    late | parcel    either                          -late             not that word       refun*            words that begin so
    (late | lost) parcel   parentheses               parcl~1           at most one slip    \\-                the sign itself

The grammar is that of Lucene's SimpleQueryParser (its class comment and source): operators bind from left to right without precedence, so
`a b | c` is `(a and b) or c`; `-` belongs to what follows at once; whatever makes no sense (a lone quote, an empty pair of parentheses) is
ignored rather than refused. `*` alone is everything; a query without any word finds nothing. This module knows no database.
"""

import functools
from dataclasses import dataclass

from argilla_side.search import words

MAX_DEPTH = 100  # parentheses deeper than that are ignored; FTS5 allows 256
MAX_CLAUSES = 1024  # Elasticsearch's own limit
MAX_EDITS = 2


class TooLong(ValueError):
    """The query has more clauses than the engine takes."""


@dataclass(frozen=True)
class Text:
    """An FTS5 expression. `weighs` says that a record can match it better than another does: not so where it is the beginning of a word,
    which Elasticsearch too counts as found or not found."""

    expression: str
    weighs: bool = True


@dataclass(frozen=True)
class Fuzzy:
    """Words at most `edits` insertions, deletions and replacements away from `word`."""

    word: str
    edits: int


@dataclass(frozen=True)
class Not:
    part: "Node"


@dataclass(frozen=True)
class Both:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Constant:
    """Everything or nothing."""

    everything: bool


Node = Text | Fuzzy | Not | Both | Either | Constant


def parse(query: str) -> Node:
    """What a query asks for.

    Raises:
        TooLong: more than `MAX_CLAUSES` clauses.
    """
    if query.strip() == "*":
        return Constant(True)
    parser = _Parser()
    found = parser.parse(query, 0)
    return Constant(False) if found is None else found


class _Parser:
    """One pass over the text, from left to right; a sub-query in parentheses is a pass over its part."""

    def __init__(self) -> None:
        self.clauses = 0

    def parse(self, text: str, depth: int) -> Node | None:
        """The tree of `text`; None where nothing in it is a word."""
        top: Node | None = None
        operator = None
        negations = place = 0
        partners = _partners(text)
        while place < len(text):
            sign, branch = text[place], None
            if sign == "-":
                negations += 1
                place += 1
                continue
            if sign == "(":
                end = partners.get(place)
                if end is not None and depth < MAX_DEPTH:
                    branch = self.parse(text[place + 1:end], depth + 1)
                    place = end
                place += 1
            elif sign == '"':
                branch, place = self.phrase(text, place)
            elif sign in "+|":
                if operator is None and top is not None:
                    operator = Both if sign == "+" else Either
                place += 1
            elif sign == ")" or sign.isspace():
                place += 1
            else:
                branch, place = self.word(text, place)
            if branch is not None:
                self.count()
                branch = negated(branch) if negations % 2 else branch
                top = branch if top is None else joined(operator or Both, top, branch)
                operator = None
            negations = 0
        return top

    def count(self) -> None:
        self.clauses += 1
        if self.clauses > MAX_CLAUSES:
            raise TooLong(f"the query has more than {MAX_CLAUSES} clauses; shorten it")

    def phrase(self, text: str, place: int) -> tuple[Node | None, int]:
        """What stands between two quotes, and `~N` behind them. A quote without a partner is ignored."""
        content, end = _until(text, place + 1, '"')
        if end == len(text):
            return None, place + 1
        runs = words.phrases(content)
        slop, end = _tilde(text, end + 1)
        if not runs:
            return None, end
        if slop and len(runs) > 1:  # FTS5 counts all words between the first run and the last
            return Text(f"NEAR({' '.join(map(_quoted, runs))}, {slop + sum(map(len, runs[1:-1]))})"), end
        return Text(_quoted([token for run in runs for token in run])), end

    def word(self, text: str, place: int) -> tuple[Node | None, int]:
        """One word, with `*` or `~N` at its end."""
        letters, escaped, prefix = [], False, False
        edits = None
        while place < len(text):
            sign = text[place]
            if not escaped:
                if sign == "\\":
                    escaped, prefix = True, False
                    place += 1
                    continue
                if _ends_word(sign):
                    break
                if letters and sign == "~":
                    edits, place = _tilde(text, place)
                    break
                prefix = bool(letters) and sign == "*"
            escaped = False
            letters.append(sign)
            place += 1
        runs = words.phrases("".join(letters))
        if edits and len(runs) == 1 and len(runs[0]) == 1:
            return Fuzzy(runs[0][0].lower(), min(edits, MAX_EDITS)), place
        parts = [Text(_quoted(run)) for run in dict.fromkeys(map(tuple, runs))]
        if prefix and parts:
            parts[-1] = Text(f"{parts[-1].expression} *", weighs=False)
        return functools.reduce(functools.partial(joined, Both), parts) if parts else None, place


def joined(operator: type[Both] | type[Either], left: Node, right: Node) -> Node:
    """`left` and (or) `right`; one flat node where either is of that kind already, so that a long query makes no deep tree."""
    if isinstance(left, Constant) or isinstance(right, Constant):
        constant, other = (left, right) if isinstance(left, Constant) else (right, left)
        return other if constant.everything is (operator is Both) else constant
    parts: dict[Node, None] = {}
    for side in (left, right):
        parts.update(dict.fromkeys(side.parts if isinstance(side, operator) else (side,)))
    return operator(tuple(parts)) if len(parts) > 1 else next(iter(parts))


def negated(node: Node) -> Node:
    if isinstance(node, Constant):
        return Constant(not node.everything)
    return node.part if isinstance(node, Not) else Not(node)


def _partners(text: str) -> dict[int, int]:
    """Where the parenthesis that opens here is closed. One without a partner is missing, and passed over as if it were not there."""
    partners, opened, escaped = {}, [], False
    for place, sign in enumerate(text):
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = True
        elif sign == "(":
            opened.append(place)
        elif sign == ")" and opened:
            partners[opened.pop()] = place
    return partners


def _until(text: str, place: int, stop: str) -> tuple[str, int]:
    """The characters up to `stop`, escapes taken away, and where it stands (the text's length where it does not)."""
    letters, escaped = [], False
    while place < len(text) and (escaped or text[place] != stop):
        if not escaped and text[place] == "\\":
            escaped = True
        else:
            letters.append(text[place])
            escaped = False
        place += 1
    return "".join(letters), place


def _tilde(text: str, place: int) -> tuple[int, int]:
    """The number behind a `~` (2 where there is none, 0 where it is no number) and the place behind it; 0 where no `~` stands here."""
    if place >= len(text) or text[place] != "~":
        return 0, place
    end = place + 1
    while end < len(text) and not _ends_word(text[end]):
        end += 1
    digits = text[place + 1:end]
    if not digits:
        return MAX_EDITS, end
    return (min(int(digits), 1000) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0), end


def _ends_word(sign: str) -> bool:
    return sign in '"|+()' or sign.isspace()


def _quoted(tokens: list[str] | tuple[str, ...]) -> str:
    return f'"{" ".join(tokens)}"'


def simplified(node: Node) -> Node:
    """The same question with as few parts as can be: what FTS5 can answer in one go becomes one `Text`."""
    if isinstance(node, Not):
        return negated(simplified(node.part))
    if not isinstance(node, Both | Either):
        return node
    parts = [simplified(part) for part in node.parts]
    plain = [part.expression for part in parts if isinstance(part, Text)]
    if isinstance(node, Both):
        without = [part.part.expression for part in parts if isinstance(part, Not) and isinstance(part.part, Text)] if plain else []
        rest = [part for part in parts
                if not (isinstance(part, Text) or (plain and isinstance(part, Not) and isinstance(part.part, Text)))]
        expression = _combined(plain, "AND")
        if without:
            expression = f"({expression} NOT {_combined(without, 'OR')})"
    else:
        rest = [part for part in parts if not isinstance(part, Text)]
        expression = _combined(plain, "OR")
    if not plain:
        return type(node)(tuple(rest))
    return Text(expression) if not rest else type(node)((Text(expression), *rest))


def _combined(expressions: list[str], operator: str) -> str:
    return expressions[0] if len(expressions) == 1 else f"({f' {operator} '.join(expressions)})"


def ranked(node: Node) -> str | None:
    """An FTS5 expression of everything in a node (not a simplified one) that speaks for a record more or less; None where nothing does."""
    if isinstance(node, Text):
        return node.expression if node.weighs else None
    if isinstance(node, Both | Either):
        found = [expression for part in node.parts if (expression := ranked(part))]
        return _combined(found, "OR") if found else None
    return None


def spelled_out(node: Node, alternatives) -> Node:
    """Every `Fuzzy` replaced by the words that `alternatives(word, edits)` gives."""
    if isinstance(node, Fuzzy):
        near = alternatives(node.word, node.edits)
        return Text(_combined([_quoted([word]) for word in near], "OR")) if near else Constant(False)
    if isinstance(node, Not):
        return negated(spelled_out(node.part, alternatives))
    if isinstance(node, Both | Either):
        found: Node = Constant(isinstance(node, Both))
        for part in node.parts:
            found = joined(type(node), found, spelled_out(part, alternatives))
        return found
    return node
