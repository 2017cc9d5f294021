"""What labels cost in time and money, what a model's suggestions save, and what each way of choosing records costs to reach a target.

All from annotations and measured curves. Times are those of whole records: the fields of one are answered together.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import LabError
from labkit.labeling.annotations import Annotation
from labkit.labeling.quality.annotators import PAUSE
from labkit.labeling.quality.intervals import RESAMPLES, SHARE, Estimate, bootstrap, missing, wilson

_NO_TIMES = {"en": "no annotation says how long it took", "zh": "没有标注记录了用时"}


@dataclass(frozen=True)
class Price:
    """What a number of records costs: `seconds` and `money` (None where no wage is known), each with its range."""

    records: int
    seconds: Estimate
    money: Estimate


@dataclass(frozen=True)
class Prelabelling:
    """What suggestions do: the share `accepted` as they stood, mean seconds of records whose suggestions were all accepted (`accepting`),
    partly changed (`correcting`), and of records without suggestions (`unaided`), and the share of time that is `saved` (negative where
    they cost time)."""

    accepted: Estimate
    accepting: Estimate
    correcting: Estimate
    unaided: Estimate
    saved: Estimate


@dataclass(frozen=True)
class Reached:
    """What one strategy costs to reach the target: `labels` (their value is None where the target was not reached), the `price`, and the
    share of labels `saved` against the strategy it is compared with. `runs` reached it of `of_runs`."""

    strategy: str
    labels: Estimate
    price: Price | None
    saved: Estimate
    runs: int
    of_runs: int


def times(annotations: Iterable[Annotation], *, pause: float = PAUSE) -> dict[tuple[str, str], float]:
    """Seconds that each (annotator, record) took, where known: what was measured, or the time since that annotator's submission before.

    Drafts do not count, discarded records do (they were read). More than `pause` seconds is a pause, and no time at all a bulk action: both
    are left out.
    """
    saved: dict[tuple[str, str], float] = {}
    measured: dict[tuple[str, str], float] = {}
    for each in annotations:
        if each.status != "draft":
            key = each.annotator, each.record
            saved[key] = max(each.time.timestamp(), saved.get(key, -math.inf))
            if each.seconds is not None:
                measured[key] = max(each.seconds, measured.get(key, 0.0))
    found: dict[tuple[str, str], float] = {}
    before: dict[str, float] = {}
    for key, moment in sorted(saved.items(), key=lambda item: (item[0][0], item[1], item[0][1])):
        passed = measured.get(key, moment - before.get(key[0], math.inf))
        before[key[0]] = moment
        if 0 < passed <= pause:
            found[key] = passed
    return found


def seconds_a_record(annotations: Iterable[Annotation], *, pause: float = PAUSE, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean seconds of one annotator for one record, over all of `times`, with its interval. The mean, as a sum of work is reckoned from it;
    what is usual for one person is the median of `quality.annotators.speed`."""
    return _mean(list(times(annotations, pause=pause).values()), resamples, seed)


def price(records: int, seconds: Estimate | float, *, annotators: int = 1, wage: float | None = None) -> Price:
    """Time and money for so many records, each labelled by so many annotators.

    Args:
        seconds: of one annotator for one record; with an interval (`seconds_a_record`) the price has one.
        wage: money an hour, in any currency.

    Raises:
        LabError: a negative number of records, seconds or wage, or no annotator.
    """
    each = seconds if isinstance(seconds, Estimate) else Estimate(seconds, None, None, 0)
    if records < 0 or annotators < 1 or (each.value or 0) < 0 or (wage or 0) < 0:
        raise LabError(f"records ({records}), seconds ({each.value}) and wage ({wage}) must not be negative, annotators at least 1")
    whole = _times(each, records * annotators)
    money = _times(whole, wage / 3600) if wage is not None else missing(each.records, "no wage is known", "没有给出时薪")
    return Price(records, whole, money)


def prelabelling(annotations: Iterable[Annotation], suggestions: Mapping[str, Mapping[str, Any]], *, pause: float = PAUSE,
                 resamples: int = RESAMPLES, seed: int = 0) -> Prelabelling:
    """What the suggestions of a checkpoint saved, by comparing records with and without them.

    The comparison is fair only where chance decided which records got suggestions. It says nothing about quality: people tend to accept
    what is suggested, right or wrong, which gold questions show (`quality.gold`).

    Args:
        suggestions: record's id -> field -> suggested value; a record without is one that was labelled unaided.
    """
    annotations = list(annotations)
    latest: dict[tuple[str, str, str], Annotation] = {}
    for each in sorted(annotations, key=lambda each: each.time):
        if each.status == "submitted" and each.value is not None:
            latest[each.annotator, each.record, each.field] = each
    answered = {key[:2] for key in latest}
    compared = {key: each.value == suggestions[key[1]][key[2]] for key, each in latest.items() if key[2] in suggestions.get(key[1], {})}
    by_record: dict[tuple[str, str], bool] = {}
    for (annotator, record, _), same in compared.items():
        by_record[annotator, record] = by_record.get((annotator, record), True) and same
    spent: dict[str, list[float]] = {"accepting": [], "correcting": [], "unaided": []}
    for key, passed in times(annotations, pause=pause).items():
        if key in answered:
            spent["unaided" if key not in by_record else "accepting" if by_record[key] else "correcting"].append(passed)
    aided = spent["accepting"] + spent["correcting"]
    return Prelabelling(wilson(sum(compared.values()), len(compared)), *(_mean(spent[kind], resamples, seed) for kind in spent),
                        _saved(np.array(aided), np.array(spent["unaided"]), resamples, seed))


def labels_to(labels: Sequence[float], scores: Sequence[float], target: float) -> float:
    """The number of labels at which a measured curve first reaches the target, by a straight line between the two points around it; inf
    where it never does. `labels` must ascend."""
    before: tuple[float, float] | None = None
    for count, score in zip(labels, scores, strict=True):
        if score >= target:
            if before is None:
                return float(count)
            return before[0] + (count - before[0]) * (target - before[1]) / (score - before[1])
        before = float(count), float(score)
    return math.inf


def to_reach(curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], target: float, seconds: Estimate | float, *,
             wage: float | None = None, against: str = "random") -> list[Reached]:
    """What each strategy costs to reach a score, the cheapest first; those that never reach it come last.

    Args:
        curves: strategy -> runs of it (seeds), each (labels, scores) with labels ascending.
        seconds: of one label, see `price`.
        against: the strategy that the others' savings are reckoned from.

    Returns:
        Means over the runs with 95% intervals by Student's t. Where a run does not reach the target there is no mean (it would flatter).

    Raises:
        LabError: no curves, or none of the strategy to compare with.
    """
    if not curves or not all(curves.values()):
        raise LabError("the cost of strategies needs at least one curve of each")
    if against not in curves:
        raise LabError(f"there is no curve of {against!r} to compare with; there are {', '.join(curves)}")
    needed = {name: np.array([labels_to(*run, target) for run in runs]) for name, runs in curves.items()}
    plain = needed[against].mean()
    rows = []
    for name, found in needed.items():
        reached = int(np.isfinite(found).sum())
        labels = over_runs(found) if reached == len(found) else missing(
            len(found), f"{reached} of {len(found)} runs reached it", f"{len(found)} 次运行中有 {reached} 次达到目标")
        saved = missing(len(found), f"{name} or {against} did not reach it in every run", f"{name} 或 {against} 并非每次都达到目标")
        if reached == len(found) and np.isfinite(plain):
            saved = over_runs(1 - found / plain)
        bill = price(math.ceil(labels.value), seconds, wage=wage) if labels.value is not None else None
        rows.append(Reached(name, labels, bill, saved, reached, len(found)))
    return sorted(rows, key=lambda row: (row.labels.value is None, row.labels.value or 0))


def over_runs(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean over a few runs (seeds) with its interval by Student's t; none from one run."""
    from scipy.stats import t

    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Estimate(mean, None, None, len(found), {"en": "no interval from one run", "zh": "只有一次运行，没有区间"})
    half = float(t.ppf((1 + SHARE) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Estimate(mean, mean - half, mean + half, len(found))


def duration(seconds: float, language: str) -> str:
    """A time in words, in `en` or `zh`: seconds below two minutes, minutes below 90, hours with one decimal below 10, whole hours above."""
    if round(seconds) < 120:
        count, unit = str(round(seconds)), ("second", "秒")
    elif round(seconds / 60) < 90:
        count, unit = str(round(seconds / 60)), ("minute", "分钟")
    else:
        hours = seconds / 3600
        count = f"{hours:,.0f}" if hours >= 9.95 else f"{hours:.1f}".removesuffix(".0")
        unit = ("hour", "小时")
    return f"{count} {unit[1]}" if language == "zh" else f"{count} {unit[0]}{'' if count == '1' else 's'}"


def _times(estimate: Estimate, factor: float) -> Estimate:
    low, value, high = (None if part is None else part * factor for part in (estimate.low, estimate.value, estimate.high))
    return Estimate(value, low, high, estimate.records, estimate.reason)


def _mean(values: list[float], resamples: int, seed: int) -> Estimate:
    if not values:
        return missing(0, *_NO_TIMES.values())
    column = np.array(values)
    return bootstrap(lambda drawn: drawn @ column / drawn.sum(axis=1), len(column), _NO_TIMES, resamples=resamples, seed=seed)


def _saved(aided: np.ndarray, unaided: np.ndarray, resamples: int, seed: int) -> Estimate:
    """1 less the ratio of mean times; both sides are drawn again."""
    if not len(aided) or not len(unaided):
        return missing(len(aided) + len(unaided), "a comparison needs times of records with and without suggestions",
                       "比较需要有建议和没有建议的记录各自的用时")
    value = 1 - float(aided.mean() / unaided.mean())
    if min(len(aided), len(unaided)) < 2:
        return Estimate(value, None, None, len(aided) + len(unaided), {"en": "no interval: too few records", "zh": "没有区间：记录太少"})
    generator = np.random.default_rng(seed)
    drawn = [np.array([generator.choice(side, len(side)).mean() for _ in range(resamples)]) for side in (aided, unaided)]
    low, high = np.quantile(1 - drawn[0] / drawn[1], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Estimate(value, float(low), float(high), len(aided) + len(unaided))
