"""How the score grows with the labels, with a band, and what more labels would buy.

Three forms are fitted by least squares: a power law a - b n^-c (Cortes et al. 1994; Viering and Loog 2023, "The Shape of Learning Curves",
section 4), an exponential a - b exp(-n / c) and a logarithm a + b log n, all of which rise and none of which passes the best score there
is. The band is a parametric bootstrap: curves drawn by how well each form fits (Akaike weights), noise put on them (its size uncertain
too, as few points tell little about it), and fitted again. Scores are shares from 0 to 1, higher is better; a "point" is one hundredth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError
from labkit.labeling.cost import duration
from labkit.labeling.quality.intervals import SHARE, Estimate, missing
from labkit.scenarios import Text

FEWEST = 4  # different numbers of labels; three are what the curve itself takes
FORMS = ("power", "exponential", "logarithm")
MACRO_F1 = {"en": "macro-F1", "zh": "宏平均 F1"}

_DRAWS = 600
_SHAPES = 120  # values of c that are tried; for each the best a and b are exact
_NOTHING = 0.0005  # 0.05 points: what would be written as 0.0 or 0.1
_EVEN = 0.4  # of the interval's width: up to this difference of its two sides it is written with one "±"
_FAR = 2.0  # times the largest number of labels measured


@dataclass(frozen=True)
class Curve:
    """A fitted curve as draws from the bootstrap: `forms` int (draws,) as places in `FORMS`, `a`, `b` and `c` float (draws,); and what it
    was fitted to."""

    labels: np.ndarray
    scores: np.ndarray
    forms: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    best: float
    form: str  # the one that fits best

    def at(self, labels: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, low, high) at these numbers of labels, float64 (numbers,) each: the median of the draws and a 95% band of the curve (a
        single measurement varies more)."""
        found = self._draws(np.asarray(labels, np.float64))
        low, value, high = np.quantile(found, [(1 - SHARE) / 2, 0.5, (1 + SHARE) / 2], axis=0)
        return value, low, high

    def gain(self, extra: float, *, now: float | None = None) -> Estimate:
        """What `extra` labels more than `now` (the most measured) add to the score; the difference is taken within each draw."""
        start = float(self.labels.max()) if now is None else now
        found = self._draws(np.array([start, start + extra]))
        low, value, high = np.quantile(found[:, 1] - found[:, 0], [(1 - SHARE) / 2, 0.5, (1 + SHARE) / 2])
        return Estimate(float(value), float(low), float(high), len(self.labels))

    def labels_to(self, target: float) -> Estimate:
        """How many labels in all reach this score. An end of the interval is inf where that many draws never do; where half of them never
        do there is no value."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            part = np.where(self.b > 0, (self.a - target) / self.b, np.nan)
            needed = np.select([self.forms == 0, self.forms == 1], [part ** (-1 / self.c), -self.c * np.log(part)], np.exp(-part))
        needed = np.where(np.isnan(needed) | (target > self.best), np.inf, np.maximum(needed, 0))
        needed = np.where(self._draws(np.array([self.labels.min()]))[:, 0] >= target, np.minimum(needed, self.labels.min()), needed)
        low, value, high = (float(found) for found in np.quantile(needed, [(1 - SHARE) / 2, 0.5, (1 + SHARE) / 2], method="nearest"))
        if math.isinf(value):
            return missing(len(self.labels), "the curve does not seem to reach it", "曲线看来达不到该目标")
        return Estimate(value, low, high, len(self.labels))

    def _draws(self, labels: np.ndarray) -> np.ndarray:
        """float64 (draws, numbers)."""
        terms = np.empty((len(self.a), len(labels)))
        for number, form in enumerate(FORMS):
            rows = self.forms == number
            terms[rows] = _term(form, labels, self.c[rows])
        return np.minimum(self.a[:, None] - self.b[:, None] * terms, self.best)


@dataclass(frozen=True)
class Forecast:
    """What `extra` labels would buy: the `gain` (its value is None where nothing can be said, with the reason), the time they take
    (`seconds`, None where unknown), and whether it is `far`, outside of what was measured."""

    extra: int
    gain: Estimate
    seconds: float | None
    far: bool

    def sentence(self, language: str, metric: Text = MACRO_F1) -> str:
        """The forecast in words, in `en` or `zh`."""
        chinese = language == "zh"
        name = _spaced(metric[language]) if chinese else metric[language]
        labels = f"{self.extra} label{'' if self.extra == 1 else 's'}"
        if self.gain.value is None:
            reason = self.gain.reason[language]
            return (f"无法预测再标 {self.extra} 条的收益：{reason}。" if chinese else
                    f"What another {labels} would buy cannot be said: {reason}.")
        spent = "" if self.seconds is None else duration(self.seconds, language)
        if spent:
            spent = f"（约 {spent}）" if chinese else f", about {spent},"
        points = _points(self.gain, language)
        if self.gain.low < _NOTHING:
            said = (f"再标 {self.extra} 条{spent}可能毫无收益：{name}的变化为 {points}。" if chinese else
                    f"Another {labels}{spent} may buy nothing: {points} of {name}.")
        else:
            said = (f"再标 {self.extra} 条{spent}可使{name}提高 {points}。" if chinese else
                    f"Another {labels}{spent} {'buys' if self.extra == 1 else 'buy'} {points} of {name}.")
        if self.far:
            said += ("这超出了已测范围的两倍，请谨慎看待。" if chinese else
                     " That is more than twice what was measured: take it with care.")
        return said


def fit(labels: Sequence[float], scores: Sequence[float], *, errors: Sequence[float] | None = None, best: float = 1.0,
        draws: int = _DRAWS, seed: int = 0) -> Curve:
    """Fit the points (several at one number of labels are fine, as from several seeds).

    Args:
        labels: how many labels each point was trained on, above 0.
        scores: 0 to `best`, higher is better.
        errors: each score's standard error, where known (for an accuracy p on N test records sqrt(p (1 - p) / N)); else the noise is taken
            from how the points scatter about the curve, with the same size everywhere.

    Raises:
        LabError: fewer than four different numbers of labels, or points that cannot be.
    """
    counts, found = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    given = np.ones(len(counts)) if errors is None else np.asarray(errors, np.float64)
    if not len(counts) == len(found) == len(given) or not np.isfinite([*counts, *found, *given]).all():
        raise LabError("a learning curve needs as many scores (and errors) as numbers of labels, all of them finite")
    if (counts <= 0).any() or (given <= 0).any() or (found > best).any():
        raise LabError(f"numbers of labels and errors must be above 0, scores at most {best:g}")
    if len(np.unique(counts)) < FEWEST:
        reason = _too_few(counts)
        raise LabError(reason["en"], reason["zh"])
    weights = 1 / given**2
    shapes = {form: _shapes(form, counts) for form in FORMS}
    fits = {form: _best(form, counts, found[None], weights, shapes[form], best) for form in FORMS}
    free = max(1, len(counts) - 3)
    misses = np.array([max(float(fits[form][3][0]), 1e-18) for form in FORMS])
    scale = misses.min() / free  # the variance of the noise, in units of the errors
    if errors is not None:
        scale = max(scale, 1.0)
    worse = misses / scale + 2 * np.array([3, 3, 2])  # Akaike's criterion with the noise taken as known
    chances = np.exp(-(worse - worse.min()) / 2)
    generator = np.random.default_rng(seed)
    forms = np.sort(generator.choice(len(FORMS), draws, p=chances / chances.sum()))
    spread = np.full(draws, scale)
    if errors is None or scale > 1:
        spread = scale * free / generator.chisquare(free, draws)
    noise = generator.standard_normal((draws, len(counts))) * np.sqrt(spread)[:, None] * given
    a, b, c = np.empty(draws), np.empty(draws), np.empty(draws)
    for number, form in enumerate(FORMS):
        rows = forms == number
        if rows.any():
            line = fits[form][0] - fits[form][1] * _term(form, counts, fits[form][2])
            a[rows], b[rows], c[rows], _ = _best(form, counts, np.minimum(line + noise[rows], best), weights, shapes[form], best)
    return Curve(counts, found, forms, a, b, c, best, FORMS[int(chances.argmax())])


def forecast(labels: Sequence[float], scores: Sequence[float], extra: int, *, seconds_a_label: float | None = None,
             errors: Sequence[float] | None = None, best: float = 1.0, seed: int = 0) -> Forecast:
    """What `extra` labels more than the most measured would buy. Too few points are no error here: the forecast says so.

    Raises:
        LabError: `extra` is below 1, or points that cannot be (see `fit`).
    """
    if extra < 1:
        raise LabError(f"a forecast needs at least one more label, not {extra}")
    seconds = None if seconds_a_label is None else extra * seconds_a_label
    counts = np.asarray(labels, np.float64)
    if len(np.unique(counts)) < FEWEST:
        return Forecast(extra, missing(len(counts), *_too_few(counts).values()), seconds, False)
    curve = fit(labels, scores, errors=errors, best=best, seed=seed)
    return Forecast(extra, curve.gain(extra), seconds, counts.max() + extra > _FAR * counts.max())


def _term(form: str, labels: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """What b is multiplied with: float64 (shapes, labels), falling with the labels."""
    if form == "power":
        return labels ** -shapes[:, None]
    if form == "exponential":
        return np.exp(-labels / shapes[:, None])
    return np.broadcast_to(-np.log(labels), (len(shapes), len(labels)))


def _shapes(form: str, labels: np.ndarray) -> np.ndarray:
    """The values of c to try, float64 (shapes,)."""
    if form == "power":
        return np.geomspace(0.05, 3, _SHAPES)
    if form == "exponential":
        return np.geomspace(labels.min() / 3, 10 * labels.max(), _SHAPES)
    return np.ones(1)  # it has none


def _best(form: str, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, shapes: np.ndarray,
          best: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For scores (draws, points): a, b, c of the least weighted sum of squares, and that sum, float64 (draws,) each; b is not negative, and
    a, where it is what the curve tends to, not above `best`."""
    share = weights / weights.sum()
    terms = _term(form, labels, shapes)  # (shapes, points)
    middle_term, middle = terms @ share, scores @ share  # (shapes,), (draws,)
    centred = terms - middle_term[:, None]
    slope = -((scores - middle[:, None]) * share) @ centred.T / ((centred**2) @ share)  # (draws, shapes)
    b = np.maximum(slope, 0)
    a = middle[:, None] + b * middle_term
    if form != "logarithm":
        high = a > best
        through = np.maximum(((best - scores) * share) @ terms.T / ((terms**2) @ share), 0)
        a, b = np.where(high, best, a), np.where(high, through, b)
    # Sum of squares without an array of (draws, shapes, points): all three parts are matrix products.
    offset = scores[:, None, :].mean(axis=2) - a  # numbers near 0 keep their digits
    left = scores - scores.mean(axis=1, keepdims=True)
    misses = ((left**2) @ weights)[:, None] + 2 * offset * (left @ weights)[:, None] + offset**2 * weights.sum()
    misses += 2 * b * ((left * weights) @ terms.T + offset * (terms @ weights)) + b**2 * ((terms**2) @ weights)
    found = misses.argmin(axis=1)
    rows = np.arange(len(scores))
    return a[rows, found], b[rows, found], shapes[found], np.maximum(misses[rows, found], 0)


def _too_few(labels: np.ndarray) -> Text:
    count = len(np.unique(labels))
    return {"en": f"a learning curve needs scores at {FEWEST} different numbers of labels or more, there are {count}",
            "zh": f"学习曲线至少需要 {FEWEST} 种不同标注数量下的分数，目前只有 {count} 种"}


def _spaced(name: str) -> str:
    """A space between Chinese and what is written in Latin letters, on either side."""
    return f"{' ' if name[0].isascii() else ''}{name}{' ' if name[-1].isascii() else ''}"


def _points(gain: Estimate, language: str) -> str:
    """The gain in points: "1.5 ± 0.7" where the interval is about even on both sides, else from where to where."""
    value, low, high = (100 * part for part in (gain.value, gain.low, gain.high))
    even = abs((high - value) - (value - low)) <= _EVEN * (high - low)
    if low >= 100 * _NOTHING and even:
        return f"{value:.1f} ± {(high - low) / 2:.1f} 个百分点" if language == "zh" else f"{value:.1f} ± {(high - low) / 2:.1f} points"
    if language == "zh":
        return f"{value:.1f}（{low:.1f} 至 {high:.1f}）个百分点"
    return f"{value:.1f} points ({low:.1f} to {high:.1f})"
