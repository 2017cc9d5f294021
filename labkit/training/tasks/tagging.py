"""Sentences with a tag for each word (named entities in BIO): what tagging learns from. Long ones are read in windows (`alignment`)."""

from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training.tasks import alignment, texts
from labkit.training.tasks.task import Example, Head, Judged, Outputs, Part, listed

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

HEAD = "tags"
_OVERLAP = 32  # sub-tokens that two windows share, where the limit leaves room for it


def heads(labels: tuple[str, ...]) -> tuple[Head, ...]:
    """One head with an output for each tag."""
    return (Head(HEAD, "tags", labels),)


def read(rows: "Dataset", split: str, tokenizer: Any, head: Head, max_tokens: int, names: tuple[str, ...]) -> Part:
    """A split with `tokens` and, where they are known, `tags` (columns as in `formats`).

    Args:
        names: the metrics to be measured, in `task_metrics`.

    Raises:
        LabError: the tokenizer does not know which word a token comes from, or a row has not one tag a word.
    """
    sentences = rows["tokens"][:]
    tags = rows["tags"][:] if "tags" in rows.column_names else None
    ids = [f"{split}-{number}" for number in range(1, len(rows) + 1)]
    _check(ids, sentences, tags, head)
    aligned = align(sentences, tags, tokenizer, max_tokens)
    examples = [Example(window.tokens, (0,) * len(window.tokens), {} if tags is None else {HEAD: window.labels}, window.row, extra=window)
                for window in aligned.windows]
    documents = rows["document"][:] if "document" in rows.column_names else range(len(rows))
    truth = [[head.labels[tag] for tag in own] for own in tags] if tags is not None else []

    def judge(outputs: Outputs) -> Judged:
        return Judged("tag", ids, truth, tags_of(aligned, outputs, head), [f"document {document}" for document in documents])

    def score(outputs: Outputs) -> dict[str, float]:
        from labkit.evaluation import task_metrics

        judged = judge(outputs)
        return task_metrics.score("tag", judged.truth, judged.predicted, names)

    warnings = _unknown(aligned, tokenizer, ids, split)
    if aligned.bare_words:
        warnings.append(f"{aligned.bare_words:,} words in {split} are nothing to the tokenizer (control characters) and count as O")
    return Part(len(rows), examples, ids, score, judge, lambda example, outputs: _show(example, outputs, sentences, truth, head),
                warnings=warnings)


def align(sentences: list[list[str]], tags: list[list[int]] | None, tokenizer: Any, max_tokens: int) -> alignment.Aligned:
    """The windows of sentences, at most `max_tokens` and what the model takes."""
    limit = min(max_tokens, texts.limit_of(tokenizer))
    room = limit - tokenizer.num_special_tokens_to_add()
    return alignment.align(sentences, tags, tokenizer, limit, overlap=max(0, min(_OVERLAP, room // 4)))


def tags_of(aligned: alignment.Aligned, outputs: Outputs, head: Head) -> list[list[str]]:
    """The likeliest tag of each word of each sentence."""
    outside = head.labels.index("O") if "O" in head.labels else 0
    chosen = alignment.word_predictions(aligned, [scores.argmax(-1) for scores in outputs[HEAD]], outside)
    return [[head.labels[tag] for tag in own] for own in chosen]


def _check(ids: list[str], sentences: list[list[str]], tags: list[list[int]] | None, head: Head) -> None:
    for place, identity in enumerate(ids):
        if not sentences[place]:
            raise LabError(f"row {identity} has no words")
        if tags is None:
            continue
        if len(tags[place]) != len(sentences[place]):
            raise LabError(f"row {identity} has {len(sentences[place])} words and {len(tags[place])} tags")
        if any(not 0 <= tag < head.outputs for tag in tags[place]):
            raise LabError(f"row {identity} has a tag that is none of {', '.join(head.labels[:8])}")


def _unknown(aligned: alignment.Aligned, tokenizer: Any, ids: list[str], split: str) -> list[str]:
    """The line that says where words are unknown to the tokenizer, so that all of them look the same to the model."""
    if tokenizer.unk_token_id is None:
        return []
    words = [window.row for window in aligned.windows for place, _ in window.predicts if window.tokens[place] == tokenizer.unk_token_id]
    if not words:
        return []
    return [f"{len(words):,} words in {split} are unknown to the base model's tokenizer and look all the same to it "
            f"({listed([ids[row] for row in dict.fromkeys(words)])}); choose a base for this language"]


def _show(example: Example, outputs: "dict[str, np.ndarray]", sentences: list[list[str]], truth: list[list[str]],
          head: Head) -> dict[str, str]:
    """The words that a window decides, with their entities."""
    sentence, decided = sentences[example.row], dict((word, place) for place, word in example.extra.predicts)
    words = [sentence[word] for word in sorted(decided)]
    said = [head.labels[int(outputs[HEAD][decided[word]].argmax())] for word in sorted(decided)]
    wanted = [truth[example.row][word] for word in sorted(decided)] if truth else []
    return {"prompt": " ".join(words), "answer": entities(words, said), "wanted": entities(words, wanted)}


def entities(words: list[str], tags: list[str]) -> str:
    """The entities of a sentence as text: `PER: Ada Lovelace; LOC: London`, or – where there are none."""
    return "; ".join(f"{kind}: {' '.join(words[first:end])}" for kind, first, end in alignment.spans(tags)) or "–"
