"""How far annotators agree: shares, Cohen's and Fleiss' kappa, Krippendorff's alpha, each with a bootstrap interval over records.

All measures are written as functions of how often each record counts, so that the intervals cost a few matrix products; the tests hold
them against published tables and against the packages krippendorff and scikit-learn, which have no intervals. This module knows nothing
about servers or scenarios' names.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from labkit.errors import LabError
from labkit.labeling.annotations import Ratings
from labkit.labeling.quality.intervals import RESAMPLES, Estimate, bootstrap, missing
from labkit.scenarios import Field

LEVELS = ("nominal", "ordinal", "interval")
ALIKE = 0.5  # texts less like each other than this say different things

_NO_PAIRS = ("no record has two annotators", "没有记录由两人标注")
_ONE_VALUE = {"en": "only one value was given, so agreement by chance cannot be told from agreement",
              "zh": "只出现了一个值，无法区分一致与偶然一致"}
_TOKEN = re.compile("[a-z0-9]+|[^\\W_a-z0-9]")  # a word of ASCII letters or digits, or one other letter: a Chinese character


def percent_agreement(ratings: Ratings, *, tolerance: float | None = None, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over records of the share of pairs of annotators who gave the same value, or numbers at most `tolerance` apart."""
    shares = []
    for values in _paired(ratings):
        if tolerance is None:
            same = sum(count * (count - 1) for count in Counter(values).values())
        else:
            numbers = np.asarray(values, dtype=np.float64)
            # Two numbers with two decimals are 0.1 apart only up to rounding.
            same = int((np.abs(numbers[:, None] - numbers) <= tolerance + 1e-9).sum()) - len(numbers)
        shares.append(same / (len(values) * (len(values) - 1)))
    return _mean(shares, resamples, seed)


def text_similarity(ratings: Ratings, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over records of the mean `similarity` of its pairs of texts."""
    shares = []
    for values in _paired(ratings):
        alike = [similarity(left, right) for left, right in combinations(values, 2)]
        shares.append(sum(alike) / len(alike))
    return _mean(shares, resamples, seed)


def similarity(left: str, right: str) -> float:
    """The F1 of the words (Chinese: characters) that two texts share, counted as often as both have them; 0 to 1 (ROUGE-1, Lin 2004)."""
    if left == right:
        return 1.0
    ours, theirs = _tokens(left), _tokens(right)
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0


def cohen_kappa(ratings: Ratings, first: str, second: str, *, weights: str | Sequence[Sequence[float]] | None = None,
                order: Sequence[Any] | None = None, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Cohen's kappa of two annotators over the records that both rated (Cohen 1960), or weighted kappa (Cohen 1968).

    Args:
        weights: None (all disagreements count the same), "linear" or "quadratic" in the distance of the values' places in `order`, or a
            table of disagreements (values, values) with zeros on its diagonal, rows those of `first`.
        order: all values from the lowest to the highest; those that occur, sorted, where None.

    Raises:
        LabError: an unknown annotator, or weights that do not fit.
    """
    for name in (first, second):
        if name not in ratings.annotators:
            raise LabError(f"there is no annotator {name!r}; there are {', '.join(ratings.annotators) or 'none'}")
    places = [ratings.annotators.index(name) for name in (first, second)]
    pairs = [[row[place] for place in places] for row in ratings.values if all(row[place] is not None for place in places)]
    if not pairs:
        return missing(0, f"{first} and {second} share no record", f"{first} 与 {second} 没有共同标注的记录")
    values = _order(pairs, order)
    place = {value: number for number, value in enumerate(values)}
    left, right = (np.array([place[pair[side]] for pair in pairs]) for side in (0, 1))
    disagreement = _disagreements(weights, len(values))
    ours, theirs = np.eye(len(values))[left], np.eye(len(values))[right]  # (records, values)
    apart = disagreement[left, right]  # (records,)

    def measure(drawn: np.ndarray) -> np.ndarray:
        total = drawn.sum(1)
        expected = ((drawn @ ours @ disagreement) * (drawn @ theirs)).sum(1) / total**2
        return _one_minus(drawn @ apart / total, expected)

    return bootstrap(measure, len(pairs), _ONE_VALUE, resamples=resamples, seed=seed)


def cohen_kappas(ratings: Ratings, **settings: Any) -> dict[tuple[str, str], Estimate]:
    """Cohen's kappa of every pair of annotators; for the settings see `cohen_kappa`."""
    return {pair: cohen_kappa(ratings, *pair, **settings) for pair in combinations(ratings.annotators, 2)}


def fleiss_kappa(ratings: Ratings, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Fleiss' kappa (Fleiss 1971) over the records with two annotators or more.

    Fleiss has the same number of raters for every record. Where it varies, each record's agreement is that of its own pairs, and the
    chance agreement is that of all ratings pooled, as in Fleiss, Levin and Paik 2003 (Statistical Methods for Rates and Proportions,
    section 18.3).
    """
    values = _paired(ratings)
    if not values:
        return missing(0, *_NO_PAIRS)
    counts = _counts(values, _order(values, None))
    sizes = counts.sum(1)
    agreed = (counts * (counts - 1)).sum(1) / (sizes * (sizes - 1))

    def measure(drawn: np.ndarray) -> np.ndarray:
        shares = drawn @ counts / (drawn @ sizes)[:, None]
        return _one_minus(1 - drawn @ agreed / drawn.sum(1), 1 - (shares**2).sum(1))

    return bootstrap(measure, len(values), _ONE_VALUE, resamples=resamples, seed=seed)


def krippendorff_alpha(ratings: Ratings, level: str = "nominal", *, order: Sequence[Any] | None = None, resamples: int = RESAMPLES,
                       seed: int = 0) -> Estimate:
    """Krippendorff's alpha (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability) for any number of annotators and missing values.

    Args:
        level: "nominal" (values are names), "ordinal" (they have an order) or "interval" (their differences mean something).
        order: for ordinal data all values from the lowest to the highest; those that occur, sorted, where None.

    Raises:
        LabError: an unknown level, a value that `order` lacks, or an interval of values that are not numbers.
    """
    if level not in LEVELS:
        raise LabError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    values = _paired(ratings)
    if not values:
        return missing(0, *_NO_PAIRS)
    if level == "interval":
        return _interval_alpha(values, resamples, seed)
    names = _order(values, order)
    counts = _counts(values, names)
    sizes = counts.sum(1)
    if level == "nominal":
        apart = (sizes**2 - (counts**2).sum(1)) / (sizes - 1)  # (records,): ordered pairs that differ, over m - 1

        def measure(drawn: np.ndarray) -> np.ndarray:
            totals = drawn @ counts
            n = totals.sum(1)
            return _one_minus(drawn @ apart / n, (n**2 - (totals**2).sum(1)) / (n * (n - 1)))
    else:
        def measure(drawn: np.ndarray) -> np.ndarray:
            totals = drawn @ counts  # (draws, values)
            n = totals.sum(1)
            # The ordinal distance of two values is that of their mid-ranks: the ratings below plus half of those with the value itself.
            ranks = np.cumsum(totals, 1) - totals / 2
            # A sum over pairs of (x - y) squared is 2 (m times the sum of squares, minus the square of the sum).
            pairs = 2 * (sizes * (ranks**2 @ counts.T) - (ranks @ counts.T) ** 2)  # (draws, records)
            everything = 2 * (n * (totals * ranks**2).sum(1) - (totals * ranks).sum(1) ** 2)
            return _one_minus((drawn / (sizes - 1) * pairs).sum(1) / n, everything / (n * (n - 1)))

    return bootstrap(measure, len(values), _ONE_VALUE, resamples=resamples, seed=seed)


def of_field(ratings: Ratings, field: Field, *, ordered: bool = False, tolerance: float | None = None, resamples: int = RESAMPLES,
             seed: int = 0) -> dict[str, Estimate]:
    """The measures that fit the field's kind.

    A label field has `percent`, `fleiss_kappa` and `alpha`, and with `ordered` (its labels form a scale, in the scenario's order)
    `alpha_ordinal`; a number `percent` (within `tolerance`, by default a twentieth of the range) and `alpha` (interval); a text
    `similarity`.
    """
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    if field.kind == "text":
        return {"similarity": text_similarity(ratings, **settings)}
    if field.kind == "number":
        width = near(field) if tolerance is None else tolerance
        return {"percent": percent_agreement(ratings, tolerance=width, **settings),
                "alpha": krippendorff_alpha(ratings, "interval", **settings)}
    found = {"percent": percent_agreement(ratings, **settings), "fleiss_kappa": fleiss_kappa(ratings, **settings),
             "alpha": krippendorff_alpha(ratings, **settings)}
    if ordered:
        found["alpha_ordinal"] = krippendorff_alpha(ratings, "ordinal", order=field.values, **settings)
    return found


def near(field: Field) -> float:
    """How far apart two numbers of this field may be and still count as the same: a twentieth of its range."""
    return (field.maximum - field.minimum) / 20


def same(field: Field, value: Any, truth: Any) -> bool:
    """Whether two values of a field count as the same: labels that are equal, numbers within `near`, texts at least `ALIKE`."""
    if field.kind == "number":
        return abs(value - truth) <= near(field) + 1e-9
    return value == truth if field.kind == "label" else similarity(value, truth) >= ALIKE


def _mean(shares: list[float], resamples: int, seed: int) -> Estimate:
    if not shares:
        return missing(0, *_NO_PAIRS)
    column = np.array(shares)
    return bootstrap(lambda drawn: drawn @ column / drawn.sum(1), len(shares), _ONE_VALUE, resamples=resamples, seed=seed)


def _paired(ratings: Ratings) -> list[list[Any]]:
    """The values of each record that has at least two."""
    rows = ([value for value in row if value is not None] for row in ratings.values)
    return [row for row in rows if len(row) > 1]


def _order(rows: list[list[Any]], order: Sequence[Any] | None) -> list[Any]:
    given = {value for row in rows for value in row}
    if order is None:
        return sorted(given)
    if given - set(order):
        raise LabError(f"the order lacks {', '.join(sorted(map(str, given - set(order))))}")
    return list(order)


def _counts(rows: list[list[Any]], values: list[Any]) -> np.ndarray:
    """How often each record got each value: float64 (records, values)."""
    place = {value: number for number, value in enumerate(values)}
    counts = np.zeros((len(rows), len(values)))
    record = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    np.add.at(counts, (record, [place[value] for row in rows for value in row]), 1)
    return counts


def _disagreements(weights: str | Sequence[Sequence[float]] | None, count: int) -> np.ndarray:
    """The table of disagreements: float64 (values, values)."""
    if weights is None:
        return 1 - np.eye(count)
    if isinstance(weights, str):
        if weights not in ("linear", "quadratic"):
            raise LabError(f"weights must be linear, quadratic or a table, not {weights!r}")
        distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(np.float64)
        return distance if weights == "linear" else distance**2
    table = np.asarray(weights, dtype=np.float64)
    if table.shape != (count, count) or np.diagonal(table).any():
        raise LabError(f"the table of weights must be {count} by {count} with zeros on its diagonal")
    return table


def _interval_alpha(rows: list[list[Any]], resamples: int, seed: int) -> Estimate:
    """Alpha of numbers, from each record's size, sum and sum of squares: no table of all values is needed."""
    numbers = [[_number(value) for value in row] for row in rows]
    middle = sum(map(sum, numbers)) / sum(map(len, numbers))  # taken off: squares of large numbers would lose the digits that matter
    sizes = np.array([len(row) for row in numbers], dtype=np.float64)
    sums = np.array([sum(value - middle for value in row) for row in numbers])
    squares = np.array([sum((value - middle) ** 2 for value in row) for row in numbers])
    apart = 2 * (sizes * squares - sums**2) / (sizes - 1)  # (records,): (x - y) squared over ordered pairs, over m - 1

    def measure(drawn: np.ndarray) -> np.ndarray:
        n = drawn @ sizes
        return _one_minus(drawn @ apart / n, 2 * (n * (drawn @ squares) - (drawn @ sums) ** 2) / (n * (n - 1)))

    return bootstrap(measure, len(rows), _ONE_VALUE, resamples=resamples, seed=seed)


@functools.lru_cache(maxsize=10_000)
def _tokens(text: str) -> Counter[str]:
    return Counter(_TOKEN.findall(text.lower()))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LabError(f"an interval needs numbers, not {value!r}; use nominal or ordinal")
    return float(value)


def _one_minus(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """1 - observed / expected disagreement; NaN where no disagreement is expected."""
    chance = expected > 1e-12
    return np.where(chance, 1 - observed / np.where(chance, expected, 1), np.nan)
