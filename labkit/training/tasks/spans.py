"""Questions whose answer stands in a text: what extractive question answering learns from. Long texts are read in windows (`windows`)."""

from typing import TYPE_CHECKING, Any

from labkit.data.script import script_of
from labkit.training.tasks import texts, windows
from labkit.training.tasks.task import Example, Head, Judged, Outputs, Part, listed

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

HEAD = "answer"
_WINDOW, _OVERLAP, _QUESTION = 384, 128, 64  # tokens, as BERT reads SQuAD (its published script's defaults)


def heads(unanswerable: bool) -> tuple[Head, ...]:
    """One head with two outputs a token. Whether a question may have no answer is told by its labels, since a run must know it."""
    return (Head(HEAD, "span", ("start", "end", "none") if unanswerable else ("start", "end")),)


def allows_none(head: Head) -> bool:
    """Whether a question may be left unanswered."""
    return "none" in head.labels


def has_unanswerable(rows: "Dataset") -> bool:
    """Whether some question has no answer (SQuAD 2.0)."""
    return "answers" in rows.column_names and any(not answers["text"] for answers in rows["answers"][:])


def windowed(rows: list[dict[str, Any]], tokenizer: Any, max_tokens: int) -> windows.Windowed:
    """The windows of questions with their texts: BERT's sizes, or smaller where the limit is."""
    limit = min(max_tokens, texts.limit_of(tokenizer), _WINDOW)
    question = min(_QUESTION, limit // 4)
    room = limit - question - tokenizer.num_special_tokens_to_add(pair=True)
    return windows.windows(rows, tokenizer, limit, max(0, min(_OVERLAP, room // 3)), question)


def read(rows: "Dataset", split: str, tokenizer: Any, head: Head, max_tokens: int, names: tuple[str, ...], learn: bool = False) -> Part:
    """A split with `id`, `question`, `context` and, where they are known, `answers` (columns as in `formats`).

    Args:
        names: the metrics to be measured, in `task_metrics`.
        learn: for training: questions whose answer is in no window as a whole are left out, since their windows would teach that there is
            none.

    Raises:
        LabError: the tokenizer does not know where a token stands, or the limit leaves no room for the text.
    """
    known = rows.to_list()
    made = windowed(known, tokenizer, max_tokens)
    unheld = set(made.unheld) if learn else set()
    has_answers = "answers" in rows.column_names
    examples = [Example(window.tokens, window.segments, {HEAD: (window.start, window.end)} if has_answers else {}, window.row, extra=window)
                for window in made.windows if made.ids[window.row] not in unheld]
    truth = [row["answers"]["text"] for row in known] if has_answers else []
    languages = [script_of(row["context"]) for row in known]

    def judge(outputs: Outputs) -> Judged:
        said = answers(made, outputs, head)
        return Judged("span", made.ids, truth, [answer.text for answer in said], made.contexts, languages)

    def score(outputs: Outputs) -> dict[str, float]:
        from labkit.evaluation import task_metrics

        judged = judge(outputs)
        more = ("has_answer_f1", "no_answer_accuracy") if allows_none(head) else ()
        return task_metrics.score("span", judged.truth, judged.predicted, (*names, *more), languages)

    warnings = []
    if made.cut_questions:
        warnings.append(f"{len(made.cut_questions):,} of {len(rows):,} questions in {split} are too long and lose their end "
                        f"({listed(made.cut_questions)}); raise max_tokens")
    if made.unheld:
        what = "and are left out" if learn else "and cannot be found"
        warnings.append(f"{len(made.unheld):,} of {len(rows):,} answers in {split} are in no window as a whole {what} "
                        f"({listed(made.unheld)}); raise max_tokens")
    return Part(len(rows), examples, made.ids, score, judge, lambda example, outputs: _show(example, outputs, known, head),
                made.cut_questions + [identity for identity in made.unheld if identity not in made.cut_questions], warnings)


def answers(made: windows.Windowed, outputs: Outputs, head: Head) -> list[windows.Answer]:
    """One answer for each question, from the outputs of all windows."""
    return windows.answers(made, [scores[:, 0] for scores in outputs[HEAD]], [scores[:, 1] for scores in outputs[HEAD]],
                           allow_none=allows_none(head))


def _show(example: Example, outputs: "dict[str, np.ndarray]", known: list[dict[str, Any]], head: Head) -> dict[str, str]:
    """What this window alone says."""
    import dataclasses

    row = known[example.row]
    window = dataclasses.replace(example.extra, row=0, decides=tuple(place is not None for place in example.extra.places))
    alone = windows.Windowed([window], [row["id"]], [row["context"]], [], [])
    (said,) = answers(alone, {HEAD: [outputs[HEAD]]}, head)
    wanted = row["answers"]["text"][:1] if "answers" in row and example.extra.holds_answer else []
    return {"prompt": row["question"], "answer": said.text or "–", "wanted": wanted[0] if wanted else "–"}
