"""What several annotators' values come to, one for each record, and how sure that is.

Labels: `majority` (optionally weighted), `dawid_skene` (each annotator's confusions estimated along with the labels, by EM) and its
one-coin form (one skill for each annotator), all of which can lean on gold answers. Numbers: the weighted median or mean. Texts: the
one that is most like the others. `answers` makes records of it. EM is written here rather than taken from crowd-kit, with which the
tests compare it, because an annotator's few labels need smoothing and the confusions are wanted as tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import LabError
from labkit.labeling.annotations import Annotation, Ratings, ratings
from labkit.labeling.quality import agreement
from labkit.scenarios import Field, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

METHODS = ("majority", "dawid_skene", "skill")

_SKILL_LIMITS = (0.01, 0.99)  # an annotator who was never wrong in a few records is not infallible


@dataclass(frozen=True)
class Consensus:
    """What a record's values come to: `confidence` (0 to 1, by the method), how many `votes`, which annotators `differ` from it, and
    whether the best was `tied` with another."""

    record: str
    value: Any
    confidence: float
    votes: int
    differ: tuple[str, ...]
    tied: bool = False


@dataclass(frozen=True)
class Fitted:
    """What EM found: each class's share `prior` float64 (classes,), each annotator's `confusion` float64 (annotators, classes, classes),
    rows the true class and columns the given one, and the `posterior` float64 (records, classes)."""

    classes: list[Any]
    annotators: list[str]
    prior: np.ndarray
    confusion: np.ndarray
    posterior: np.ndarray
    iterations: int
    log_likelihood: float

    @property
    def skills(self) -> dict[str, float]:
        """How often each annotator gives the true class, with the classes as frequent as `prior` says."""
        return {name: float(self.prior @ np.diagonal(table)) for name, table in zip(self.annotators, self.confusion, strict=True)}


def majority(table: Ratings, *, weights: Mapping[str, float] | None = None, order: Sequence[Any] | None = None) -> list[Consensus]:
    """The value with the most votes, or the greatest sum of its annotators' weights; `confidence` is its share of them.

    A tie goes to the value that is more frequent over all records, then to the first in `order` (sorted values where None), and is marked.
    An annotator without a weight counts 1; weights below 0 count 0, and where all are 0 each counts 1.
    """
    weight = np.array([max(0.0, (weights or {}).get(name, 1.0)) for name in table.annotators])
    overall: dict[Any, int] = {}
    for row in table.values:
        for value in row:
            if value is not None:
                overall[value] = overall.get(value, 0) + 1
    rank = {value: place for place, value in enumerate(sorted(overall) if order is None else order)}
    made = []
    for record, row in zip(table.records, table.values, strict=True):
        given = [place for place, value in enumerate(row) if value is not None]
        own = weight[given] if weight[given].any() else np.ones(len(given))
        votes: dict[Any, float] = {}
        for place, share in zip(given, own, strict=True):
            votes[row[place]] = votes.get(row[place], 0.0) + float(share)
        best = max(votes, key=lambda value: (round(votes[value], 9), overall[value], -rank.get(value, len(rank))))
        tied = sum(abs(count - votes[best]) < 1e-9 for count in votes.values()) > 1
        made.append(_consensus(table, row, record, best, votes[best] / sum(votes.values()), tied))
    return made


def fit(records: np.ndarray, annotators: np.ndarray, labels: np.ndarray, sizes: tuple[int, int, int], *, one_coin: bool = False,
        smoothing: float = 0.0, known: Mapping[int, int] | None = None, iterations: int = 500,
        tolerance: float = 1e-7) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, float]:
    """EM of Dawid and Skene 1979 (Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm) on plain arrays.

    One entry is one label; the same annotator may label a record more than once. It starts from each record's shares of labels
    (their equation 3.1) and stops when no posterior changes by more than `tolerance`.

    Args:
        records, annotators, labels: int64 (entries,) each, from 0.
        sizes: how many records, annotators and classes there are.
        one_coin: one probability of being right for each annotator, and the wrong classes equally likely.
        smoothing: labels added to each row of an annotator's counts, spread as that skill alone would have it; 0 is maximum likelihood.
        known: true classes of some records, which stay as they are.

    Returns:
        prior (classes,), confusion (annotators, classes, classes), posterior (records, classes), iterations, log-likelihood.
    """
    from scipy.sparse import coo_array
    from scipy.special import logsumexp

    count, people, classes = sizes
    # Row a * classes + l, column i: how often annotator a gave label l to record i.
    given = coo_array((np.ones(len(labels)), (annotators * classes + labels, records)), shape=(people * classes, count)).tocsr()
    totals = np.zeros((count, classes))
    np.add.at(totals, (records, labels), 1)
    posterior = totals / np.maximum(totals.sum(1, keepdims=True), 1)
    fixed = np.array(sorted(known or {}), dtype=np.int64)
    truth = np.eye(classes)[[(known or {})[row] for row in fixed]] if len(fixed) else np.zeros((0, classes))
    posterior[fixed] = truth
    taken = 0
    while taken < iterations:
        taken += 1
        prior = posterior.mean(0)
        counts = np.asarray(given @ posterior).reshape(people, classes, classes).transpose(0, 2, 1)  # (annotators, true, given)
        confusion = _one_coin(counts, smoothing) if one_coin else _confusions(counts, smoothing)
        with np.errstate(divide="ignore"):
            logs = np.log(confusion).transpose(0, 2, 1).reshape(people * classes, classes)
            scores = given.T @ np.maximum(logs, -1e4) + np.maximum(np.log(prior), -1e4)  # 0 times minus infinity would be no number
        norm = logsumexp(scores, axis=1, keepdims=True)
        before, posterior = posterior, np.exp(scores - norm)
        posterior[fixed] = truth
        if np.abs(posterior - before).max() < tolerance:
            break
    return prior, confusion, posterior, taken, float(norm.sum())


def dawid_skene(table: Ratings, *, classes: Sequence[Any] | None = None, one_coin: bool = False, smoothing: float = 5.0,
                gold: Mapping[str, Any] | None = None) -> tuple[list[Consensus], Fitted]:
    """The most probable label of each record and what EM found; `confidence` is its posterior probability.

    Args:
        classes: the labels there are; those that occur, sorted, where None.
        one_coin: estimate only one skill for each annotator, which needs fewer labels (see `fit`).
        smoothing: see `fit`. In simulations (5 annotators with skills of 0.5 to 0.95 and favourite errors, 3 labels a record, 15 seeds)
            right records with none, 5, one coin, majority: 0.805, 0.860, 0.852, 0.810 for 40 records of 3 classes; 0.891, 0.894,
            0.869, 0.826 for 400 of 3; 0.921, 0.935, 0.924, 0.887 for 400 of 12. It costs where all errors of a class go to one label
            (3 annotators, 40 records of 4 classes: 0.904, 0.879), but the log loss of the posterior is about half or less everywhere
            with few labels.
        gold: true labels of some records, which guide the rest. A record in it gets that label with confidence 1.

    Raises:
        LabError: a label or a gold answer that is not among the classes.
    """
    entries = [(item, person, value) for item, row in enumerate(table.values) for person, value in enumerate(row) if value is not None]
    names = sorted({value for *_, value in entries}) if classes is None else list(classes)
    place = {value: number for number, value in enumerate(names)}
    number = {record: item for item, record in enumerate(table.records)}
    gold = {record: value for record, value in (gold or {}).items() if record in number}
    _check_labels({value for *_, value in entries} | set(gold.values()), names)
    if not entries:
        return [], Fitted(names, table.annotators, np.zeros(len(names)), np.zeros((0, len(names), len(names))),
                          np.zeros((0, len(names))), 0, 0.0)
    items, people, labels = (np.array(column) for column in zip(*((i, p, place[value]) for i, p, value in entries), strict=True))
    found = fit(items, people, labels, (len(table.records), len(table.annotators), len(names)), one_coin=one_coin, smoothing=smoothing,
                known={number[record]: place[value] for record, value in gold.items()}, tolerance=1e-5)
    fitted = Fitted(names, table.annotators, *found)
    made = []
    for record, row, shares in zip(table.records, table.values, fitted.posterior, strict=True):
        best = int(shares.argmax())
        made.append(_consensus(table, row, record, names[best], float(shares[best]), bool((shares > shares[best] - 1e-9).sum() > 1)))
    return made, fitted


def skill_weights(skills: Mapping[str, float], classes: int) -> dict[str, float]:
    """The weights for `majority` that are best when errors are independent and all wrong labels equally likely: the log of
    (classes - 1) p / (1 - p) for a skill p (Nitzan and Paroush 1982, Optimal Decision Rules in Uncertain Dichotomous Choice
    Situations, for two classes); 0 at guessing."""
    low, high = _SKILL_LIMITS
    bounded = {name: min(max(skill, low), high) for name, skill in skills.items()}
    return {name: float(np.log((max(classes, 2) - 1) * skill / (1 - skill))) for name, skill in bounded.items()}


def numbers(table: Ratings, *, method: str = "median", weights: Mapping[str, float] | None = None,
            tolerance: float = 0.0) -> list[Consensus]:
    """The (weighted) median or mean; `confidence` is the share of votes, by weight, at most `tolerance` away from it.

    The weighted median is the least number below or at which lies more than half of the weight; where exactly half lies there, the
    middle between it and the next number. Annotators differ who are further away than `tolerance`.

    Raises:
        LabError: an unknown method.
    """
    if method not in ("median", "mean"):
        raise LabError(f"method must be median or mean, not {method!r}")
    made = []
    for record, row in zip(table.records, table.values, strict=True):
        given = [place for place, value in enumerate(row) if value is not None]
        values = np.array([float(row[place]) for place in given])
        own = np.array([max(0.0, (weights or {}).get(table.annotators[place], 1.0)) for place in given])
        own = own if own.any() else np.ones(len(given))
        value = float(own @ values / own.sum()) if method == "mean" else _median(values, own)
        near = np.abs(values - value) <= tolerance + 1e-9
        differ = tuple(table.annotators[place] for place, close in zip(given, near, strict=True) if not close)
        made.append(Consensus(record, value, float(own @ near / own.sum()), len(given), differ))
    return made


def texts(table: Ratings, *, threshold: float = 0.5) -> list[Consensus]:
    """The text most like the others by the mean `agreement.similarity`, which is its confidence (1 where it is the only one). Annotators
    differ whose text is less than `threshold` like it. Equally good ones: the first by annotator, marked as tied where one of them is less
    than `threshold` like it."""
    made = []
    for record, row in zip(table.records, table.values, strict=True):
        given = [place for place, value in enumerate(row) if value is not None]
        values = [row[place] for place in given]
        alike = np.eye(len(values))
        for left, right in combinations(range(len(values)), 2):
            alike[left, right] = alike[right, left] = agreement.similarity(values[left], values[right])
        means = (alike.sum(1) - 1) / (len(values) - 1) if len(values) > 1 else np.ones(1)
        best = int(means.argmax())
        tied = bool(((means > means[best] - 1e-9) & (alike[best] < threshold)).any())
        differ = tuple(table.annotators[place] for place, close in zip(given, alike[best], strict=True) if close < threshold)
        made.append(Consensus(record, values[best], float(means[best]), len(values), differ, tied))
    return made


def of_field(annotations: Iterable[Annotation], field: Field, *, method: str = "dawid_skene",
             gold: Mapping[str, Any] | None = None) -> list[Consensus]:
    """One field's values by the method that fits its kind; for labels `majority`, `dawid_skene` or `skill` (the one-coin form).

    Numbers are the median within the field's `agreement.near`, rounded to its decimals; texts the one most like the others.

    Raises:
        LabError: an unknown method, or a label that the field does not have.
    """
    if method not in METHODS:
        raise LabError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    table = ratings(annotations, field.name)
    if field.kind == "text":
        return texts(table)
    if field.kind == "number":
        found = numbers(table, tolerance=agreement.near(field))
        return [Consensus(each.record, _rounded(each.value, field), *_rest(each)) for each in found]
    _check_labels({value for row in table.values for value in row if value is not None}, field.values)
    if method == "majority":
        return majority(table, order=field.values)
    return dawid_skene(table, classes=field.values, one_coin=method == "skill", gold=gold)[0]


def answers(records: "Dataset", annotations: Iterable[Annotation], scenario: Scenario, *, method: str = "dawid_skene",
            gold: Mapping[str, Mapping[str, Any]] | None = None, least: Mapping[str, float] | None = None) -> "Dataset":
    """The records with the answers that their annotations come to; a field without annotation keeps what the record has.

    Ids follow the content, so a record with a new answer has a new id. `meta["labels"]` has the old one (`record`) and for each
    aggregated field `confidence`, `votes`, `differ` and `method` ("gold" where the answer was given).

    Args:
        gold: for records' ids the true answers by field; they guide the estimation and stand as they are, annotated or not.
        least: for fields the least confidence; below it the field stays without a value, for adjudication (`meta` tells it all the same).

    Raises:
        LabError: an annotated record is not among the records, or a value does not fit the scenario.
    """
    from labkit import records as tables
    from labkit.scenarios.answers import tidy

    annotations = list(annotations)
    strange = {each.record for each in annotations} - set(records["id"][:])
    if strange:
        raise LabError(f"{len(strange)} annotated records are not among these, the first {min(strange)}; give the records that were pushed")
    found: dict[str, dict[str, Consensus]] = {}
    for field in scenario.fields:
        own = {record: answer[field.name] for record, answer in (gold or {}).items() if answer.get(field.name) is not None}
        for each in of_field(annotations, field, method=method, gold=own if field.kind == "label" else None):
            found.setdefault(each.record, {})[field.name] = each
        table = ratings((each for each in annotations if each.record in own), field.name)
        votes = dict(zip(table.records, table.values, strict=True))
        for record, truth in own.items():
            given = [(name, value) for name, value in zip(table.annotators, votes.get(record, ()), strict=False) if value is not None]
            differ = tuple(name for name, value in given if not agreement.same(field, value, truth))
            found.setdefault(record, {})[field.name] = Consensus(record, truth, 1.0, len(given), differ)
    made = []
    for record in tables.rows(records):
        known = found.get(record["id"], {})
        unsure = {name for name, each in known.items() if each.confidence < (least or {}).get(name, 0.0)}
        answer = {**record["answer"], **{name: None if name in unsure else each.value for name, each in known.items()}}
        labels = {"record": (record["meta"].get("labels") or {}).get("record", record["id"])}  # the first id, however often this is done
        for name, each in known.items():
            labels[name] = {"confidence": round(each.confidence, 4), "votes": each.votes, "differ": list(each.differ),
                            "method": "gold" if (gold or {}).get(record["id"], {}).get(name) is not None
                            else _method(scenario.field(name), method)}
        changed = {**record, "answer": tidy(scenario, answer), "meta": {**record["meta"], "labels": labels} if known else record["meta"]}
        made.append({**changed, "id": tables.content_id(changed)})
    return tables.from_list(made)


def _method(field: Field, method: str) -> str:
    return {"label": method, "number": "median", "text": "most_alike"}[field.kind]


def _check_labels(values: set[Any], known: Sequence[Any]) -> None:
    strange = values - set(known)
    if strange:
        raise LabError(f"{', '.join(sorted(map(str, strange)))} is none of the labels {', '.join(map(str, known))}")


def _consensus(table: Ratings, row: list[Any], record: str, value: Any, confidence: float, tied: bool) -> Consensus:
    differ = tuple(name for name, given in zip(table.annotators, row, strict=True) if given is not None and given != value)
    return Consensus(record, value, min(1.0, float(confidence)), sum(given is not None for given in row), differ, tied)


def _rest(each: Consensus) -> tuple[float, int, tuple[str, ...], bool]:
    return each.confidence, each.votes, each.differ, each.tied


def _rounded(value: float, field: Field) -> float | int:
    return round(value, field.decimals) if field.decimals else round(value)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    values, weights = values[weights > 0], weights[weights > 0]
    below = np.cumsum(weights) / weights.sum()
    place = int((below < 0.5 - 1e-9).sum())
    if abs(below[place] - 0.5) < 1e-9:
        return float(values[place] + values[place + 1]) / 2
    return float(values[place])


def _confusions(counts: np.ndarray, smoothing: float) -> np.ndarray:
    """Each annotator's counts (annotators, true, given) as probabilities of the given class; `smoothing` labels are added to each row,
    spread as that annotator's skill alone would have it."""
    if smoothing:
        counts = counts + smoothing * _one_coin(counts, 1.0)
    sums = counts.sum(2, keepdims=True)
    return np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)


def _one_coin(counts: np.ndarray, smoothing: float) -> np.ndarray:
    """The same with one probability of being right for each annotator."""
    classes = counts.shape[2]
    right, total = np.trace(counts, axis1=1, axis2=2), counts.sum((1, 2))
    common = (right.sum() + 1 / classes) / (total.sum() + 1)
    skill = (right + smoothing * common) / np.maximum(total + smoothing, 1e-12)
    wrong = (1 - skill) / max(classes - 1, 1)
    return np.where(np.eye(classes, dtype=bool), skill[:, None, None], wrong[:, None, None])
