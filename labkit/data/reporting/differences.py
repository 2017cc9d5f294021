"""How a text differs before and after a step: pieces that stayed, went or came, by word (Chinese: by character)."""

import difflib
import html
import re
from typing import NamedTuple

_WORD = r"(?![\u3400-\u9fff\uf900-\ufaff])\w"
_TOKENS = re.compile(rf"(?:{_WORD})+|\w|\s+|[^\w\s]")
_IN_TOKEN = re.compile(rf"(?:{_WORD}){{2}}|\s\s")
_MOST_TOKENS = 2_000  # a comparison costs their product in the worst case; longer texts are shown as replaced where they differ
_AROUND = 60  # characters of an unchanged stretch that are shown on either side of a change


class Piece(NamedTuple):
    """A stretch of text: `kind` is `same`, `gone` (only before) or `new` (only after)."""

    kind: str
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """The two texts as stretches: those that are not `new` join to `before`, those that are not `gone` to `after`."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    end_before, end_after = len(before) - tail, len(after) - tail
    old, new = _TOKENS.findall(before[head:end_before]), _TOKENS.findall(after[head:end_after])
    found = [Piece("same", before[:head])]
    if len(old) > _MOST_TOKENS or len(new) > _MOST_TOKENS:
        found += [Piece("gone", "".join(old)), Piece("new", "".join(new))]
    else:
        for kind, start, stop, new_start, new_stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind == "equal":
                found.append(Piece("same", "".join(old[start:stop])))
            else:
                found += [Piece("gone", "".join(old[start:stop])), Piece("new", "".join(new[new_start:new_stop]))]
    found.append(Piece("same", before[end_before:]))
    return [piece for piece in found if piece.text]


def shortened(found: list[Piece], most: int = 1_200) -> list[Piece]:
    """The same with long unchanged stretches cut to what stands around the changes, and at most about `most` characters in all."""
    short, left = [], most
    for place, (kind, text) in enumerate(found):
        if kind == "same" and len(text) > 2 * _AROUND + 20:
            start = text[:_AROUND] if place else ""
            end = text[-_AROUND:] if place < len(found) - 1 else ""
            if len(found) > 1:
                text = f"{start} … {end}"
        if len(text) > left:
            short.append(Piece(kind, text[:left] + " …"))
            break
        short.append(Piece(kind, text))
        left -= len(text)
    return short


def as_html(found: list[Piece]) -> str:
    """The pieces as HTML: `<del>` what went, `<ins>` what came; the texts are escaped, invisible characters are shown."""
    tags = {"same": "{}", "gone": "<del>{}</del>", "new": "<ins>{}</ins>"}
    return "".join(tags[kind].format(html.escape(visible(text) if kind != "same" else text)) for kind, text in found)


def visible(text: str) -> str:
    """A changed stretch with its invisible characters made visible: `·` for a space alone, `U+200B` for what has no picture."""
    if text and not text.strip(" "):
        return "\u00b7" * len(text)
    return "".join(character if character.isprintable() or character == "\n" else f"\u27e8U+{ord(character):04X}\u27e9"
                   for character in text).replace("\n", "\u23ce\n")


def _common(left: str, right: str) -> int:
    """How many characters both begin with, back to the last place where a token may end."""
    length = next((place for place, (one, other) in enumerate(zip(left, right, strict=False)) if one != other),
                  min(len(left), len(right)))
    while 0 < length and (_inside(left, length) or _inside(right, length)):
        length -= 1
    return length


def _inside(text: str, place: int) -> bool:
    return _IN_TOKEN.fullmatch(text, place - 1, place + 1) is not None
