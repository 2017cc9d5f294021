"""A number with its interval: by the bootstrap over records, and Wilson's for a share.

The bootstrap draws records with replacement (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13) and takes
percentiles. A measure is given all draws at once, as how often each record was drawn, so that a thousand draws are one matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labkit.scenarios import Text

RESAMPLES = 1000
SHARE = 0.95

Measure = Callable[[np.ndarray], np.ndarray]  # weights float64 (draws, records) -> values (draws,), NaN where it is undefined

_BLOCK = 4_000_000  # numbers in a block of weights: 32 MB
_DEFINED = 0.9  # the share of draws that must have a value; with fewer the interval would be that of another question


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval, from so many `records`. Where there is none it is None, and `reason` says why in English and Chinese;
    the reason may also be that of a missing interval."""

    value: float | None
    low: float | None
    high: float | None
    records: int
    reason: Text | None = None


def missing(records: int, en: str, zh: str) -> Estimate:
    """No value, with the reason."""
    return Estimate(None, None, None, records, {"en": en, "zh": zh})


def bootstrap(measure: Measure, records: int, undefined: Text, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The measure over all records with its percentile interval; `undefined` says why there is no value where it is NaN.

    There is no interval from one record, nor where more than a tenth of the draws has no value (as when nearly all gave one label).
    """
    value = float(measure(np.ones((1, records)))[0])
    if np.isnan(value):
        return Estimate(None, None, None, records, undefined)
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // records)
    drawn = []
    if records > 1:
        for start in range(0, resamples, rows):
            size = min(rows, resamples - start)
            chosen = generator.integers(0, records, size=(size, records)) + np.arange(size)[:, None] * records
            times = np.bincount(chosen.ravel(), minlength=size * records).reshape(size, records)  # several times as fast as multinomial
            drawn.append(measure(times.astype(np.float64)))
    values = np.concatenate(drawn) if drawn else np.zeros(0)
    values = values[~np.isnan(values)]
    if len(values) < _DEFINED * resamples or not len(values):
        return Estimate(value, None, None, records, {
            "en": "no interval: too few records, or nearly all with one value", "zh": "没有区间：记录太少，或几乎全是同一个值"})
    low, high = np.quantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Estimate(value, float(low), float(high), records)


def chance(estimate: Estimate) -> float:
    """The two-sided p that the true value is 0, from the width of the interval as if it were normal; 1 where there is no interval."""
    from scipy.special import ndtr, ndtri

    if estimate.value is None or estimate.low is None or estimate.high is None:
        return 1.0
    error = (estimate.high - estimate.low) / (2 * float(ndtri((1 + SHARE) / 2)))
    return 2 * float(ndtr(-abs(estimate.value) / error)) if error else float(estimate.value == 0)


def wilson(right: int, total: int) -> Estimate:
    """The share `right` of `total` with Wilson's score interval (Wilson 1927, JASA 22, 209-212), which stays sensible at 0 and 1 and
    for few records."""
    from scipy.special import ndtri  # scipy.stats would take a second and a half to import

    if total == 0:
        return missing(0, "nothing was counted", "没有可计数的记录")
    z = float(ndtri((1 + SHARE) / 2))
    share = right / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(share, 0.0 if right == 0 else float(low), 1.0 if right == total else float(high), total)
