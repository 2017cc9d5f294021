"""Long contexts in windows for extractive question answering, and back: from the scores of all windows to one answer.

The procedure is BERT's for SQuAD (Devlin et al. 2019, sections 4.2 and 4.3, https://arxiv.org/abs/1810.04805, and its published script): a
context that is too long is read in windows that overlap; a window without the whole answer has [CLS] as its target; a token's score counts
in the window where it has most around it; of all pairs of a start and an end the best sum wins; a question has no answer where the sum at
[CLS] is higher than that by more than a threshold. This module knows nothing about models: it takes and gives arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    import numpy as np

Place = tuple[int, int]  # characters of the context, the second behind the last


@dataclass(frozen=True)
class Window:
    """A question with a part of its context.

    Attributes:
        row: the question's number.
        tokens, segments: token ids and token types, (tokens,).
        places: where each token of the context stands in it; None for all other tokens.
        decides: whether this is the window where the token has most around it, (tokens,).
        none: the place of [CLS], which stands for no answer.
        start, end: the targets: the answer's first and last token, or [CLS]'s place where the window does not hold the whole answer.
    """

    row: int
    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    places: tuple[Place | None, ...]
    decides: tuple[bool, ...]
    none: int
    start: int
    end: int

    @property
    def holds_answer(self) -> bool:
        return self.start != self.none


@dataclass(frozen=True)
class Windowed:
    """Windows of all questions; `cut_questions` are the ids of questions that were longer than allowed and lost their end,
    `unheld` those of answerable questions whose answer is in no window as a whole."""

    windows: list[Window]
    ids: list[str]
    contexts: list[str]
    cut_questions: list[str]
    unheld: list[str]


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        text: what stands in the context there; "" for no answer.
        place: where, or None.
        score: logit of the start + logit of the end, of the best answer that is not none; 0 where no pair could be one, as in BERT's
            script.
        no_answer: the smallest score of [CLS] over the windows, less `score`: above the threshold there is no answer.
        best: the best answers with their probabilities among each other (texts differ; "" is none), best first.
    """

    id: str
    text: str
    place: Place | None
    score: float
    no_answer: float
    best: tuple[tuple[str, float], ...]


def windows(rows: Sequence[dict[str, Any]], tokenizer: Any, max_tokens: int = 384, overlap: int = 128,
            max_question_tokens: int = 64) -> Windowed:
    """The windows of questions with a context each (columns as `formats` has them for `span`), in their order.

    Where several answers are given, the first is the target. (BERT's `doc_stride` says how far one window is from the next, here it
    is said how many tokens two of them share.)

    Args:
        tokenizer: a fast one.
        max_tokens: longest window: question, part of the context, special tokens.
        max_question_tokens: longer questions are cut, and listed.

    Raises:
        LabError: the tokenizer is not a fast one, or the window leaves no room for more context than the overlap.
    """
    if not tokenizer.is_fast:
        raise LabError("extractive question answering needs a fast tokenizer, which knows where a token stands; this base model has none")
    room = max_tokens - max_question_tokens - tokenizer.num_special_tokens_to_add(pair=True)
    if overlap < 0 or room <= overlap:
        raise LabError(f"windows of {max_tokens} tokens leave {room} for the context behind a question of {max_question_tokens}, which "
                       f"cannot share {overlap} with the next; take longer windows, or less overlap")
    made = Windowed([], [row["id"] for row in rows], [row["context"] for row in rows], [], [])
    for number, row in enumerate(rows):
        question, was_cut = _cut(row["question"].strip(), tokenizer, max_question_tokens)
        if was_cut:
            made.cut_questions.append(row["id"])
        own = _windows(number, question, row, tokenizer, max_tokens, overlap)
        made.windows.extend(own)
        if _target(row) and not any(window.holds_answer for window in own):
            made.unheld.append(row["id"])
    return made


def _cut(question: str, tokenizer: Any, max_tokens: int) -> tuple[str, bool]:
    encoded = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded["input_ids"]) <= max_tokens:
        return question, False
    return question[: encoded["offset_mapping"][max_tokens - 1][1]], True


def _windows(number: int, question: str, row: dict[str, Any], tokenizer: Any, max_tokens: int, overlap: int) -> list[Window]:
    encoded = tokenizer(question, row["context"], truncation="only_second", max_length=max_tokens, stride=overlap,
                        return_overflowing_tokens=True, return_offsets_mapping=True)
    parts = range(len(encoded["input_ids"]))
    places = [[_place(row["context"], *place) if part == 1 else None
               for place, part in zip(encoded["offset_mapping"][at], encoded.sequence_ids(at), strict=True)] for at in parts]
    decides = _decides(places)
    made = []
    for at in parts:
        tokens = encoded["input_ids"][at]
        if tokenizer.cls_token_id not in tokens:
            raise LabError("extractive question answering needs a tokenizer with [CLS], which stands for no answer; "
                           "choose an encoder such as BERT")
        none = tokens.index(tokenizer.cls_token_id)
        start, end = _locate(places[at], _target(row)) or (none, none)
        segments = encoded["token_type_ids"][at] if "token_type_ids" in encoded else [0] * len(tokens)
        made.append(Window(number, tuple(tokens), tuple(segments), tuple(places[at]), tuple(decides[at]), none, start, end))
    return made


def _place(context: str, start: int, end: int) -> Place | None:
    """Where a token stands, without the space that some tokenizers count to the word behind it; None where it is nothing but space."""
    while start < end and context[start].isspace():
        start += 1
    return (start, end) if start < end else None


def _target(row: dict[str, Any]) -> Place | None:
    """Where the first answer stands, without spaces around it."""
    answers = row.get("answers") or {"text": [], "answer_start": []}
    if not answers["text"] or not answers["text"][0].strip():
        return None
    text, start = answers["text"][0], answers["answer_start"][0]
    start += len(text) - len(text.lstrip())
    return start, start + len(text.strip())


def _locate(places: list[Place | None], target: Place | None) -> tuple[int, int] | None:
    """First and last token of the target in a window, or None where it does not hold all of it."""
    if target is None:
        return None
    inner = [token for token, place in enumerate(places) if place is not None]
    if not inner or places[inner[0]][0] > target[0] or places[inner[-1]][1] < target[1]:
        return None
    over = [token for token in inner if places[token][1] > target[0] and places[token][0] < target[1]]
    return (over[0], over[-1]) if over else None


def _decides(places: list[list[Place | None]]) -> list[list[bool]]:
    """For each token of each window whether it has most context there: the smaller of the tokens to its left and right, and a
    hundredth of the window's length, which decides between equals (BERT's `_check_is_max_context`)."""
    best: dict[Place, tuple[float, int]] = {}
    for at, own in enumerate(places):
        inner = [token for token, place in enumerate(own) if place is not None]
        for token in inner:
            score = min(token - inner[0], inner[-1] - token) + 0.01 * len(inner)
            if own[token] not in best or score > best[own[token]][0]:
                best[own[token]] = (score, at)
    return [[place is not None and best[place][1] == at for place in own] for at, own in enumerate(places)]


def answers(windowed: Windowed, starts: Sequence["np.ndarray"], ends: Sequence["np.ndarray"], *, n_best: int = 20,
            max_answer_tokens: int = 30, allow_none: bool = True, threshold: float = 0.0) -> list[Answer]:
    """One answer for each question.

    Args:
        starts, ends: logits of each window's tokens, float (tokens,) or longer (padding behind is not read), in the windows' order.
        n_best: how many starts and ends of a window are tried with each other, and how many answers are kept.
        allow_none: whether "" can win (SQuAD 2.0).
        threshold: how much higher the score of no answer must be to win.

    Raises:
        LabError: there are not one start and one end for each window.
    """
    if len(starts) != len(windowed.windows) or len(ends) != len(windowed.windows):
        raise LabError(f"{len(starts)} starts and {len(ends)} ends do not match {len(windowed.windows)} windows; predict them anew")
    found: list[list[tuple[float, Place]]] = [[] for _ in windowed.ids]
    none = [float("inf")] * len(windowed.ids)
    for window, start, end in zip(windowed.windows, starts, ends, strict=True):
        none[window.row] = min(none[window.row], float(start[window.none]) + float(end[window.none]))
        found[window.row] += _candidates(window, start, end, n_best, max_answer_tokens)
    return [_answer(identity, context, candidates, lowest, n_best, allow_none, threshold)
            for identity, context, candidates, lowest in zip(windowed.ids, windowed.contexts, found, none, strict=True)]


def _candidates(window: Window, start: "np.ndarray", end: "np.ndarray", n_best: int, max_answer_tokens: int) -> list[tuple[float, Place]]:
    import numpy as np

    length = len(window.tokens)
    highest = lambda scores: np.argsort(-np.asarray(scores[:length], dtype=np.float64), kind="stable")[:n_best].tolist()  # noqa: E731
    last = highest(end)
    return [(float(start[first]) + float(end[final]), (window.places[first][0], window.places[final][1]))
            for first in highest(start) if window.places[first] is not None and window.decides[first]
            for final in last if window.places[final] is not None and first <= final < first + max_answer_tokens]


def _answer(identity: str, context: str, candidates: list[tuple[float, Place]], none: float, n_best: int, allow_none: bool,
            threshold: float) -> Answer:
    import numpy as np

    ranked: dict[str, tuple[float, Place | None]] = {}
    for score, place in sorted(candidates, key=lambda candidate: -candidate[0]):
        if len(ranked) < n_best:
            ranked.setdefault(context[place[0] : place[1]], (score, place))
    text, (score, place) = next(iter(ranked.items()), ("", (0.0, None)))
    if allow_none:
        ranked[""] = (none, None)
    order = sorted(ranked.items(), key=lambda item: -item[1][0])[:n_best] if ranked else [("", (0.0, None))]
    scores = np.array([value for _, (value, _) in order])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    difference = none - score
    if place is None or (allow_none and difference > threshold):
        text, place = "", None
    best = tuple((said, float(share)) for (said, _), share in zip(order, shares, strict=True))
    return Answer(identity, text, place, score, difference, best)
