"""How a text becomes words, for the index and for queries alike.

SQLite's `unicode61` tokenizer splits at everything that is no letter or digit. Chinese, Japanese and Korean characters and emoji have no
spaces between them, so each is made a word by itself here; a run of them in a query is then a phrase (退款 finds 退款, not 退 … 款).
"""

import re
import unicodedata

TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* N* Co So' tokenchars '_'"
GAP = "\ue000"  # a word that no text has and no query can ask for
BETWEEN = f" {GAP}" * 20 + " "  # between two messages of a chat, so that no phrase reaches across, nor a `~N` that a person would type

_SINGLE = (r"\u00a6\u00a9\u00ae\u00b0\u2100-\u214f\u2190-\u2bff"  # signs
           r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
           r"\uac00-\ud7af\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff")
_SPACED = re.compile(f"([{_SINGLE}])")
_WORD = re.compile(f"[{_SINGLE}]|(?:(?![{_SINGLE}])[\\w\u0300-\u036f])+")
_JOINERS = "-'\u2019.,@"  # what may stand inside a word of letters: don't, 3.5, state-of-the-art, me@example.com
_SIGNS_OF_TRADE = {0x2120: " ", 0x2122: " "}  # ℠ and ™, which would become letters


def normal(text: str) -> str:
    """One way of writing for what looks the same: full-width forms, ligatures, accents as characters of their own."""
    return unicodedata.normalize("NFKC", text.translate(_SIGNS_OF_TRADE))


def indexed(text: str) -> str:
    """The text as the index takes it: every character that is a word by itself between spaces."""
    if text.isascii():
        return text
    text = normal(text.replace(GAP, " ")).encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored
    return " ".join(_SPACED.split(text))


def phrases(text: str) -> list[list[str]]:
    """The words of a piece of a query, in runs that must stand side by side: `don't` and 退款 are one run each, `card/loan` is two."""
    found: list[list[str]] = []
    text = normal(text)
    before = None
    for match in _WORD.finditer(text):
        if before is not None and _joined(text[before.end():match.start()], before.group(), match.group()):
            found[-1].append(match.group())
        else:
            found.append([match.group()])
        before = match
    return found


def _joined(between: str, left: str, right: str) -> bool:
    """Whether what stands between two words makes one of them: nothing, accents, or a sign inside a word of letters."""
    if between in _JOINERS:
        return not between or not (_SPACED.match(left) or _SPACED.match(right))
    return all(unicodedata.category(sign)[0] == "M" for sign in between)
