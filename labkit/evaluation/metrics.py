"""How good predictions are, field by field, with bootstrap intervals.

A prediction is a row `id`, `answer` (field to value), `complete`; `labkit.evaluation.predict` and `.baseline` make them.
The measures of a field follow from its kind in the scenario. This module knows nothing about models.

Intervals: the percentile bootstrap with 95% (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). What is
drawn is not records but situations: records with the same `meta["core"]` are tellings of one situation and not independent,
so they are drawn together (the cluster bootstrap); a record without one stands alone.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.scenarios import Field, Scenario

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

Row = dict[str, Any]
Measure = Callable[["np.ndarray"], "np.ndarray"]  # weights float64 (draws, rows) -> values (draws,)

RESAMPLES = 2000
SHARE = 0.95
HIGHER_IS_BETTER = {"accuracy": True, "macro_f1": True, "mean_absolute_error": False, "rouge_l": True, "parsed": True}

_TOKEN = re.compile("[a-z0-9]+|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U000323af]")


class CharacterTokenizer:
    """rouge-score's own tokens for words (lower case, letters a-z and digits), and each Chinese, Japanese or Korean character
    as a token. To be given to `rouge_scorer.RougeScorer`."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


def accuracy(truth: Sequence[str], predicted: Sequence[str | None]) -> float:
    """The share of rows whose label is right; None is wrong."""
    return _point(_accuracy(truth, predicted), len(truth))


def macro_f1(truth: Sequence[str], predicted: Sequence[str | None]) -> float:
    """The mean over the labels that occur in `truth` of each one's F1.

    A label's F1 is 2 TP / (2 TP + FP + FN): TP rows of this label that got it, FN rows of this label that got another or
    None, FP rows of another label that got this one. (scikit-learn's `f1_score(average="macro", labels=sorted(set(truth)),
    zero_division=0)`.)
    """
    return _point(_macro_f1(truth, predicted), len(truth))


def mean_absolute_error(truth: Sequence[float], predicted: Sequence[float | None], field: Field) -> float:
    """The mean distance; where a number is missing, the middle of the field's range stands in (lenient to whom it lacks)."""
    return _point(_absolute_error(truth, predicted, field), len(truth))


def rouge_l(truth: Sequence[str], predicted: Sequence[str | None]) -> float:
    """The mean ROUGE-L F1 (Lin 2004, from the rouge-score package, with `CharacterTokenizer`); a missing text scores 0."""
    return _point(_rouge_l(truth, predicted), len(truth))


def score(records: "Dataset", predictions: list[Row], scenario: Scenario, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Every measure of every field, for all records (`overall`) and by language.

    Each part is `{"records", "situations", "parsed": interval, "fields": {name: {"kind", "n", "missing", measure: interval}}}`;
    an interval is `{"value", "low", "high"}`. `n` counts the records that have the field, `missing` is the share of them whose
    prediction lacks it, `parsed` the share of answers from which every field could be read. A field that no record has is
    left out.

    Raises:
        LabError: the predictions are not one for each record.
    """
    def part(rows: "Dataset", predicted: list[Row]) -> dict[str, Any]:
        groups = _situations(rows)
        made: dict[str, Any] = {"records": len(rows), "situations": len(set(groups))}
        for name, field, measures, n, missing, own in _all_measures(rows, predicted, scenario, groups):
            drawn = _draws(own, seed, resamples)
            found = {key: _interval(measure, drawn) for key, measure in measures.items()}
            if field is None:
                made |= found
            else:
                made.setdefault("fields", {})[name] = {"kind": field.kind, "n": n, "missing": missing, **found}
        return made

    return _by_language(records, part, _matched(records, predictions))


def compare(records: "Dataset", before: list[Row], after: list[Row], scenario: Scenario, seed: int = 0,
            resamples: int = RESAMPLES) -> dict[str, Any]:
    """`after` minus `before` for every measure, on the same draws: `{"value", "low", "high", "p"}`.

    `p` is two-sided: twice the share of draws on the other side of 0, at most 1, with one added above and below so that it
    is never 0 (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2). The shape is that of `score`.
    """
    def part(rows: "Dataset", first: list[Row], second: list[Row]) -> dict[str, Any]:
        groups = _situations(rows)
        made: dict[str, Any] = {"records": len(rows), "situations": len(set(groups))}
        both = zip(_all_measures(rows, first, scenario, groups), _all_measures(rows, second, scenario, groups), strict=True)
        for (name, field, olds, n, _, own), (_, _, news, *_) in both:
            drawn = _draws(own, seed, resamples)
            found = {key: _difference(olds[key], news[key], drawn) for key in olds}
            if field is None:
                made |= found
            else:
                made.setdefault("fields", {})[name] = {"kind": field.kind, "n": n, **found}
        return made

    return _by_language(records, part, _matched(records, before), _matched(records, after))


def is_better(key: str, after: float, before: float) -> bool:
    """Whether the measure `key` is strictly better after than before."""
    return after > before if HIGHER_IS_BETTER[key] else after < before


def _matched(records: "Dataset", predictions: list[Row]) -> list[Row]:
    known = {row["id"]: row for row in predictions}
    wanted = records["id"]
    if len(predictions) != len(records) or any(identity not in known for identity in wanted):
        raise LabError(f"{len(predictions)} predictions do not match {len(records)} records; predict these records anew")
    return [known[identity] for identity in wanted]


def _by_language(records: "Dataset", part: Callable[..., dict[str, Any]], *predictions: list[Row]) -> dict[str, Any]:
    languages = records["language"]
    found = {"overall": part(records, *predictions)}
    for language in sorted(set(languages)):
        rows = [row for row, value in enumerate(languages) if value == language]
        found[language] = part(records.select(rows), *([side[row] for row in rows] for side in predictions))
    return found


def _situations(records: "Dataset") -> list[str]:
    return [record["meta"].get("core") or record["id"] for record in records]


def _all_measures(records: "Dataset", predictions: list[Row], scenario: Scenario, groups: list[str]):
    """(name, field, measures, n, share missing, groups) of each field that some record has; then of whole answers, field None."""
    answers = records["answer"]
    for field in scenario.fields:
        rows = [row for row, answer in enumerate(answers) if answer.get(field.name) is not None]
        if not rows:
            continue
        truth = [answers[row][field.name] for row in rows]
        predicted = [predictions[row]["answer"].get(field.name) for row in rows]
        yield (field.name, field, _measures(field, truth, predicted), len(rows),
               sum(value is None for value in predicted) / len(rows), [groups[row] for row in rows])
    complete = [float(prediction["complete"]) for prediction in predictions]
    yield "parsed", None, {"parsed": _mean(complete)}, len(complete), 0.0, groups


def _measures(field: Field, truth: list, predicted: list) -> dict[str, Measure]:
    if field.kind == "label":
        return {"accuracy": _accuracy(truth, predicted), "macro_f1": _macro_f1(truth, predicted)}
    if field.kind == "number":
        return {"mean_absolute_error": _absolute_error(truth, predicted, field)}
    return {"rouge_l": _rouge_l(truth, predicted)}


def _mean(values: Sequence[float]) -> Measure:
    import numpy as np

    column = np.asarray(values, dtype=np.float64)
    return lambda weights: weights @ column / weights.sum(1)


def _accuracy(truth, predicted) -> Measure:
    return _mean([float(a == b) for a, b in zip(truth, predicted, strict=True)])


def _macro_f1(truth, predicted) -> Measure:
    import numpy as np

    labels = sorted(set(truth))
    is_true = np.array([[value == label for label in labels] for value in truth], dtype=np.float64)  # (rows, labels)
    is_guessed = np.array([[value == label for label in labels] for value in predicted], dtype=np.float64)

    def measure(weights):
        true, guessed, hit = weights @ is_true, weights @ is_guessed, weights @ (is_true * is_guessed)  # (draws, labels)
        occurs = true > 0  # a draw may lack a label
        f1 = 2 * hit / np.where(occurs, true + guessed, 1)  # 2 TP + FP + FN = rows of it + rows that got it
        return (f1 * occurs).sum(1) / occurs.sum(1)

    return measure


def _absolute_error(truth, predicted, field: Field) -> Measure:
    middle = (field.minimum + field.maximum) / 2
    return _mean([abs((middle if b is None else b) - a) for a, b in zip(truth, predicted, strict=True)])


def _rouge_l(truth, predicted) -> Measure:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=CharacterTokenizer())
    return _mean([scorer.score(a, b)["rougeL"].fmeasure if b else 0.0 for a, b in zip(truth, predicted, strict=True)])


def _point(measure: Measure, rows: int) -> float:
    import numpy as np

    return float(measure(np.ones((1, rows)))[0])


def _draws(groups: list[str], seed: int, resamples: int) -> "np.ndarray":
    """How often each row is in each draw, float64 (1 + resamples, rows); the first draw is the rows as they are."""
    import numpy as np

    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    counts = np.random.default_rng(seed).multinomial(len(order), np.full(len(order), 1 / len(order)), size=resamples)
    weights = counts[:, [order[group] for group in groups]].astype(np.float64)
    return np.concatenate([np.ones((1, len(groups))), weights])


def _interval(measure: Measure, drawn: "np.ndarray") -> dict[str, float]:
    import numpy as np

    values = measure(drawn)
    low, high = np.quantile(values[1:], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def _difference(old: Measure, new: Measure, drawn: "np.ndarray") -> dict[str, float]:
    import numpy as np

    values = new(drawn) - old(drawn)
    low, high = np.quantile(values[1:], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    other_side = min((values[1:] <= 0).sum(), (values[1:] >= 0).sum())
    p = min(1.0, 2 * (other_side + 1) / len(values))
    return {"value": float(values[0]), "low": float(low), "high": float(high), "p": float(p)}
