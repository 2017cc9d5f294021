"""Each annotator's speed, drift, bias towards labels, and answers given without reading.

All are reckoned from annotations alone. This module judges nobody: it gives numbers with intervals and says where they stand out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.labeling.annotations import Annotation, Ratings, ratings
from labkit.labeling.quality.intervals import RESAMPLES, Estimate, bootstrap, missing, wilson

PAUSE = 300.0  # seconds: a longer gap between two submissions is a pause, not a label
WINDOW = 20  # the fewest records in a window of the drift

_FEW = {"en": "too few records", "zh": "记录太少"}


@dataclass(frozen=True)
class Speed:
    """How long one annotator takes for a record: the median `seconds` with its interval, the middle half of them (`quarter` to
    `three_quarters`), how many `pauses` were cut off, and the time worked (`hours`, without pauses)."""

    annotator: str
    seconds: Estimate
    quarter: float | None
    three_quarters: float | None
    pauses: int
    hours: float


@dataclass(frozen=True)
class Drift:
    """How an annotator's agreement moves with time: `windows` (the share that agrees, in order), the `trend` as the change of that share
    from the first to the last record, and `change`, the place where a shift is most likely (None where there is none), with `p` its
    chance if the order meant nothing."""

    annotator: str
    windows: tuple[Estimate, ...]
    trend: Estimate
    change: int | None
    p: float


@dataclass(frozen=True)
class Bias:
    """An annotator's use of one label: the own `share` of it and that of the `others` on the same records, with the interval of the
    `difference`."""

    annotator: str
    label: Any
    share: float
    others: float
    difference: Estimate


@dataclass(frozen=True)
class Straight:
    """The longest run of one label by an annotator, in the order of time: its `length` of `records`, the `label`, and `p`, the chance of
    such a run anywhere if the same labels came in a random order."""

    annotator: str
    label: Any
    length: int
    records: int
    p: float


def speed(annotations: Iterable[Annotation], *, pause: float = PAUSE, resamples: int = RESAMPLES, seed: int = 0) -> list[Speed]:
    """Seconds a record, by annotator.

    A record's time is what was measured (`Annotation.seconds`, of its fields the longest) or else the time since the annotator's
    submission before it; the first one has none. What is longer than `pause` seconds is counted as a pause and left out; two records
    saved at the same moment (a bulk action) are left out too, for they were not read one by one. The median does not mind the rest.
    """
    made = []
    for name, given in _by_annotator(annotations).items():
        found, pauses, before = [], 0, None
        for moment, measured in _moments(given):
            passed = measured if measured is not None else None if before is None else moment - before
            before = moment
            if passed is not None and passed > pause:
                pauses += 1
            elif passed is not None and passed > 0:
                found.append(passed)
        times = np.array(found)
        quarter, three = (float(value) for value in np.quantile(times, [0.25, 0.75])) if found else (None, None)
        made.append(Speed(name, _median(times, resamples, seed), quarter, three, pauses, float(times.sum()) / 3600))
    return made


def drift(annotations: Iterable[Annotation], field: str, *, gold: Mapping[str, Any] | None = None, window: int | None = None,
          tolerance: float | None = None, resamples: int = RESAMPLES, seed: int = 0) -> list[Drift]:
    """Whether an annotator's agreement with the others (or with `gold`, record's id to value) changes over time.

    A record's agreement is the share of the other annotators who gave the same value (numbers: within `tolerance`). The trend is a
    line through these, by least squares, times the number of records, with a bootstrap interval. A sudden change is looked for with
    the cumulative sum of the differences from the mean (CUSUM, Page 1954): its greatest distance from 0 is compared with that under
    random orders, and `change` is given where p is below 0.05. Annotators with fewer than 8 shared records have no trend. A `window`
    has a twelfth of the records where None, but at least `WINDOW`.
    """
    annotations = [each for each in annotations if each.field == field and each.status == "submitted" and each.value is not None]
    table = ratings(annotations, field)
    place = {record: row for row, record in enumerate(table.records)}
    made = []
    for name, given in _by_annotator(annotations).items():
        person = table.annotators.index(name)
        latest = {each.record: each for each in sorted(given, key=lambda each: each.time)}
        shares = []
        for record in sorted(latest, key=lambda record: (latest[record].time, record)):
            row = table.values[place[record]]
            truth = [value for other, value in enumerate(row) if other != person and value is not None]
            if gold is not None:
                truth = [gold[record]] if record in gold else []
            if truth:
                shares.append(sum(_same(row[person], value, tolerance) for value in truth) / len(truth))
        column = np.array(shares)
        change, p = _cusum(column, resamples, seed)
        size = window or max(WINDOW, -(-len(column) // 12))
        windows = tuple(_mean(column[start:start + size], resamples, seed) for start in range(0, len(column), size))
        made.append(Drift(name, windows, _trend(column, resamples, seed), change, p))
    return made


def bias(table: Ratings, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Bias]:
    """For each annotator and label how much more (or less) often it is given than the others give it on the same records, the largest
    difference first. The others' share of a record is the mean over them; intervals are bootstrapped over records."""
    labels = sorted({value for row in table.values for value in row if value is not None})
    made = []
    for person, name in enumerate(table.annotators):
        rows = [row for row in table.values if row[person] is not None and sum(value is not None for value in row) > 1]
        rest = [[value for other, value in enumerate(row) if other != person and value is not None] for row in rows]
        for label in labels if rows else []:
            own = np.array([float(row[person] == label) for row in rows])
            others = np.array([values.count(label) / len(values) for values in rest])
            if own.any() or others.any():
                made.append(Bias(name, label, float(own.mean()), float(others.mean()), _mean(own - others, resamples, seed)))
    return sorted(made, key=lambda each: (-abs(each.difference.value), each.annotator, str(each.label)))


def offsets(table: Ratings, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """For numbers, by annotator: how much higher (or lower) the values are on average than the mean of the others' on the same records."""
    made = {}
    for person, name in enumerate(table.annotators):
        apart = []
        for row in table.values:
            others = [value for other, value in enumerate(row) if other != person and value is not None]
            if row[person] is not None and others:
                apart.append(row[person] - sum(others) / len(others))
        made[name] = _mean(np.array(apart), resamples, seed)
    return made


def straight_lining(annotations: Iterable[Annotation], field: str, *, orders: int = 2000, seed: int = 0) -> list[Straight]:
    """The longest run of one label by each annotator, and how likely it is when the order means nothing: the share of random orders
    of the same labels with a run at least as long, one added above and below. Records that were sorted by label before they were pushed
    make long runs of honest work; mix them."""
    made = []
    chosen = [each for each in annotations if each.field == field and each.status == "submitted" and each.value is not None]
    for name, given in _by_annotator(chosen).items():
        latest = {each.record: each for each in sorted(given, key=lambda each: each.time)}
        labels = [each.value for each in sorted(latest.values(), key=lambda each: (each.time, each.record))]
        codes = {value: number for number, value in enumerate(dict.fromkeys(labels))}
        column = np.array([codes[value] for value in labels])
        length, end = _longest(column)
        generator = np.random.default_rng(seed)
        as_long = sum(_longest(generator.permutation(column))[0] >= length for _ in range(orders)) if len(codes) > 1 else orders
        made.append(Straight(name, labels[end], length, len(labels), (as_long + 1) / (orders + 1)))
    return made


def discarded(annotations: Iterable[Annotation]) -> dict[str, Estimate]:
    """Each annotator's share of records discarded, with Wilson's interval."""
    made = {}
    for name, given in _by_annotator(annotations).items():
        status = {each.record: each.status for each in sorted(given, key=lambda each: each.time) if each.status != "draft"}
        count = Counter(status.values())
        made[name] = wilson(count["discarded"], count.total())
    return made


def _by_annotator(annotations: Iterable[Annotation]) -> dict[str, list[Annotation]]:
    found: dict[str, list[Annotation]] = {}
    for each in annotations:
        found.setdefault(each.annotator, []).append(each)
    return dict(sorted(found.items()))


def _moments(given: list[Annotation]) -> list[tuple[float, float | None]]:
    """When each record was last saved (seconds since 1970) and how long it took where that is known, in the order of time."""
    moments: dict[str, float] = {}
    measured: dict[str, float] = {}
    for each in given:
        if each.status != "draft":
            moments[each.record] = max(each.time.timestamp(), moments.get(each.record, 0.0))
            if each.seconds is not None:
                measured[each.record] = max(each.seconds, measured.get(each.record, 0.0))
    return sorted((moment, measured.get(record)) for record, moment in moments.items())


def _same(left: Any, right: Any, tolerance: float | None) -> bool:
    return left == right if tolerance is None else abs(left - right) <= tolerance + 1e-9


def _mean(column: np.ndarray, resamples: int, seed: int) -> Estimate:
    if not len(column):
        return missing(0, *_FEW.values())
    return bootstrap(lambda drawn: drawn @ column / drawn.sum(1), len(column), _FEW, resamples=resamples, seed=seed)


def _median(times: np.ndarray, resamples: int, seed: int) -> Estimate:
    if not len(times):
        return missing(0, "no time between two submissions is known", "没有两次提交之间的时间")
    order = np.sort(times)

    def measure(drawn: np.ndarray) -> np.ndarray:
        # The drawn times in order are `order`, each as often as it was drawn; the middle one, or the mean of the two in the middle.
        reached, total = np.cumsum(drawn, 1), drawn.sum(1, keepdims=True)
        low, high = ((reached < edge).sum(1) for edge in ((total + 1) // 2, total // 2 + 1))
        return (order[low] + order[high]) / 2

    return bootstrap(measure, len(order), _FEW, resamples=resamples, seed=seed)


def _trend(column: np.ndarray, resamples: int, seed: int) -> Estimate:
    if len(column) < 8:
        return missing(len(column), *_FEW.values())
    when = np.linspace(0, 1, len(column))

    def measure(drawn: np.ndarray) -> np.ndarray:
        total = drawn.sum(1)
        mean_when, mean = drawn @ when / total, drawn @ column / total
        spread = drawn @ when**2 / total - mean_when**2
        return (drawn @ (when * column) / total - mean_when * mean) / spread

    return bootstrap(measure, len(column), _FEW, resamples=resamples, seed=seed)


def _cusum(column: np.ndarray, orders: int, seed: int) -> tuple[int | None, float]:
    """The first record after the most likely change, where it is significant at 5%, and its p."""
    if len(column) < 8:
        return None, 1.0
    apart = column - column.mean()
    sums = np.abs(np.cumsum(apart))[:-1]
    generator = np.random.default_rng(seed)
    as_far, rows = 0, max(1, 1_000_000 // len(column))
    for start in range(0, orders, rows):
        shuffled = generator.permuted(np.tile(apart, (min(rows, orders - start), 1)), axis=1)
        as_far += int((np.abs(np.cumsum(shuffled, axis=1)[:, :-1]).max(1) >= sums.max() - 1e-9).sum())
    p = (1 + as_far) / (orders + 1)
    return (int(sums.argmax()) + 1 if p < 0.05 else None), p


def _longest(column: np.ndarray) -> tuple[int, int]:
    """The length of the longest run of equal codes, and the place of its last one."""
    edges = np.concatenate([[-1], np.flatnonzero(np.diff(column)), [len(column) - 1]])
    lengths = np.diff(edges)
    return int(lengths.max()), int(edges[1:][lengths.argmax()])
