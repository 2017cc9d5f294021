"""From words with tags to a tokenizer's sub-tokens and back, for tagging; and from tags to spans and back.

A word's tag stands on its first sub-token (Devlin et al. 2019, section 5.3, https://arxiv.org/abs/1810.04805) or on all of them. A sentence
that is longer than the model takes is read in windows that overlap; each word counts for the loss, and is predicted, in one window alone:
the one where it has most around it. This module knows nothing about models.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    import numpy as np

IGNORED = -100
Span = tuple[str, int, int]  # type, first word, word behind the last

# A Chinese, Japanese or Korean character; a run of letters or digits; any other single character.
_CHARACTER = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U000323af]"
_WORD = re.compile(rf"{_CHARACTER}|(?:(?!{_CHARACTER})\w)+|[^\w\s]")


@dataclass(frozen=True)
class Window:
    """A sentence, or a part of it, as sub-tokens.

    Attributes:
        row: the sentence's number.
        tokens: token ids with the tokenizer's special tokens, (tokens,).
        words: the word of each sub-token; None for special tokens.
        labels: the tag's number where the sub-token counts, else -100.
        predicts: (place of the first sub-token, word) for each word that this window decides.
    """

    row: int
    tokens: tuple[int, ...]
    words: tuple[int | None, ...]
    labels: tuple[int, ...]
    predicts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Aligned:
    """Windows of all sentences. `cut_words` counts the words that no window holds because sentences were cut, `bare_words` those of which
    the tokenizer leaves nothing (control characters); `cut_rows` are the sentences that lost some. Words that are lost are predicted O."""

    windows: list[Window]
    lengths: list[int]
    cut_words: int
    bare_words: int
    cut_rows: list[int]


def align(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]] | None, tokenizer: Any, max_tokens: int,
          overlap: int | None = None, all_sub_tokens: bool = False, cut: bool = False) -> Aligned:
    """Sub-tokens of sentences that are split into words.

    Args:
        sentences: words of each sentence.
        tags: the number of each word's tag; None where there is none yet (labels are then -100 throughout).
        tokenizer: a fast one.
        max_tokens: longest window, special tokens counted.
        overlap: sub-tokens that two windows of a sentence share; None: 32, or a quarter of a short window.
        all_sub_tokens: whether all sub-tokens of a word count, or only the first.
        cut: cut long sentences in place of reading them in windows; what is lost is counted.

    Raises:
        LabError: the tokenizer is not a fast one, a sentence has no words or not one tag a word, or a window cannot hold the overlap.
    """
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    overlap = 0 if cut else min(32, max(room, 0) // 4) if overlap is None else overlap
    _check(sentences, tags, tokenizer)
    if not 0 <= overlap < room:
        raise LabError(f"windows of {max_tokens} tokens cannot share {overlap} of them; take fewer, or longer windows")
    windows: list[Window] = []
    bare = cut_words = 0
    cut_rows = []
    for row, sentence in enumerate(sentences):
        words = [word if word.strip() else "" for word in sentence]
        encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_tokens, stride=overlap,
                            return_overflowing_tokens=True)
        parts = [(encoded["input_ids"][part], encoded.word_ids(part)) for part in range(len(encoded["input_ids"]))]
        held = {word for _, ids in parts for word in ids if word is not None}
        bare += len(words) - len(held)
        if cut:
            kept = {word for word in parts[0][1] if word is not None}
            if len(kept) < len(held):
                cut_rows.append(row)
                cut_words += len(held) - len(kept)
            parts = parts[:1]
        windows += _windows(row, parts, None if tags is None else tags[row], all_sub_tokens)
    return Aligned(windows, [len(sentence) for sentence in sentences], cut_words, bare, cut_rows)


def _check(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]] | None, tokenizer: Any) -> None:
    if not tokenizer.is_fast:
        raise LabError("tagging needs a fast tokenizer, which knows which word a token comes from; this base model has none")
    for row, sentence in enumerate(sentences):
        if not len(sentence):
            raise LabError(f"sentence {row} has no words")
        if tags is not None and len(tags[row]) != len(sentence):
            raise LabError(f"sentence {row} has {len(sentence)} words and {len(tags[row])} tags")


def _windows(row: int, parts: list[tuple[list[int], list[int | None]]], tags: Sequence[int] | None, all_sub_tokens: bool) -> list[Window]:
    best: dict[int, tuple[int, int]] = {}  # word -> (tokens around it, window)
    firsts: list[dict[int, int]] = []
    for number, (_, words) in enumerate(parts):
        inner = [place for place, word in enumerate(words) if word is not None]
        first: dict[int, int] = {}
        for place in inner:
            word = words[place]
            goes_on = word == words[inner[0]] and any(word in earlier for earlier in firsts)  # the window begins within the word
            if word not in first and not goes_on:
                first[word] = place
                around = min(place - inner[0], inner[-1] - place)
                if word not in best or around > best[word][0]:
                    best[word] = (around, number)
        firsts.append(first)
    made = []
    for number, (tokens, words) in enumerate(parts):
        own = {word: place for word, place in firsts[number].items() if best[word][1] == number}
        labels = [IGNORED] * len(tokens)
        if tags is not None:
            for place, word in enumerate(words):
                if word in own and (all_sub_tokens or place == own[word]):
                    labels[place] = tags[word]
        made.append(Window(row, tuple(tokens), tuple(words), tuple(labels), tuple((place, word) for word, place in own.items())))
    return made


def word_predictions(aligned: Aligned, predictions: Sequence["np.ndarray | Sequence[int]"], outside: int = 0) -> list[list[int]]:
    """The tag's number of each word of each sentence, from those of each window's tokens (tokens,); `outside` where a word was lost.

    Raises:
        LabError: there is not one prediction for each window.
    """
    if len(predictions) != len(aligned.windows):
        raise LabError(f"{len(predictions)} predictions do not match {len(aligned.windows)} windows; predict them anew")
    found = [[outside] * length for length in aligned.lengths]
    for window, tags in zip(aligned.windows, predictions, strict=True):
        for place, word in window.predicts:
            found[window.row][word] = int(tags[place])
    return found


def bio_labels(types: Iterable[str]) -> tuple[str, ...]:
    """O, then B- and I- of each type in the alphabet's order."""
    return ("O", *(f"{mark}-{kind}" for kind in sorted(types) for mark in "BI"))


def spans(tags: Sequence[str], strict: bool = True) -> list[Span]:
    """The entities of a BIO sequence. `strict`: an I- that does not go on with an entity of its type belongs to none (seqeval's strict mode
    with IOB2); else it begins one (as conlleval, the shared task's script, reads it)."""
    found: list[Span] = []
    kind, first = None, 0
    for place, tag in enumerate([*tags, "O"]):
        goes_on = tag[:2] == "I-" and tag[2:] == kind
        if goes_on:
            continue
        if kind is not None:
            found.append((kind, first, place))
        begins = tag[:2] == "B-" or (tag[:2] == "I-" and not strict)
        kind, first = (tag[2:], place) if begins else (None, 0)
    return found


def tags_of(spans: Iterable[Span], words: int) -> list[str]:
    """BIO tags of so many words from their entities.

    Raises:
        LabError: two entities overlap, or one lies outside.
    """
    tags = ["O"] * words
    for kind, first, end in spans:
        if not 0 <= first < end <= words:
            raise LabError(f"the entity {kind} from {first} to {end} does not lie within {words} words")
        if any(tag != "O" for tag in tags[first:end]):
            raise LabError(f"the entity {kind} from {first} to {end} overlaps another; BIO cannot say that")
        tags[first:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - first - 1)
    return tags


def bio_fault(tags: Sequence[str]) -> int | None:
    """The first place where a sequence is not BIO: an I- that does not go on with an entity of its type."""
    before = "O"
    for place, tag in enumerate(tags):
        if tag[:2] == "I-" and before[2:] != tag[2:]:
            return place
        before = tag
    return None


def iob1_fault(tags: Sequence[str]) -> int | None:
    """The first place where a sequence is not IOB1: a B- that does not part two entities of its type."""
    before = "O"
    for place, tag in enumerate(tags):
        if tag[:2] == "B-" and before[2:] != tag[2:]:
            return place
        before = tag
    return None


def iob1_to_bio(tags: Sequence[str]) -> list[str]:
    """IOB1 as BIO: the first word of each entity gets B- (Tjong Kim Sang and Veenstra 1999, section 2, call it IOB2)."""
    found, before = [], "O"
    for tag in tags:
        found.append(f"B-{tag[2:]}" if tag[:2] == "I-" and before[2:] != tag[2:] else tag)
        before = tag
    return found


def words_of(text: str) -> list[str]:
    """A text as words for tagging: each Chinese, Japanese or Korean character, each run of letters and digits, each other mark."""
    return _WORD.findall(text)
