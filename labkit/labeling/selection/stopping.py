"""When to stop labelling: four rules, each of which gives a verdict with its reason; stop where one of them says so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError
from labkit.labeling import learning_curve
from labkit.labeling.cost import duration
from labkit.scenarios import Text

ROUNDS = 3
STABLE = 0.99  # the mean kappa of successive predictions; Bloodgood and Vijay-Shanker 2009, section 3.2
LEAST_POINTS = 0.5  # a gain of less than half a point is not worth a batch


@dataclass(frozen=True)
class Verdict:
    """Whether to `stop` by this `rule`, and why, in English and Chinese."""

    rule: str
    stop: bool
    reason: Text


def stable_predictions(history: Sequence[Sequence], *, least: float = STABLE, rounds: int = ROUNDS) -> Verdict:
    """The model's predictions no longer change: the mean Cohen's kappa of successive rounds is at least `least`, over the last `rounds`
    steps (Bloodgood and Vijay-Shanker 2009, "A Method for Stopping Active Learning Based on Stabilizing Predictions").

    Args:
        history: the predicted labels after each round, of the same unlabelled records each time (2,000 or more; they must not be those
            that the strategy takes from).

    Raises:
        LabError: rounds of different lengths, or none at all.
    """
    if not history or not len(history[0]) or len({len(each) for each in history}) > 1:
        raise LabError("stable_predictions needs the predictions of the same records after every round")
    if len(history) <= rounds:
        return Verdict("stable_predictions", False, {
            "en": f"{len(history)} rounds so far; it takes {rounds + 1} to tell whether predictions still change",
            "zh": f"目前只有 {len(history)} 轮；至少 {rounds + 1} 轮才能判断预测是否仍在变化"})
    last = history[-rounds - 1:]
    mean = float(np.mean([_kappa(before, after) for before, after in zip(last, last[1:], strict=False)]))
    return Verdict("stable_predictions", mean >= least, {
        "en": f"over the last {rounds} rounds predictions agree with the round before by kappa {mean:.3f} (stop at {least:g})",
        "zh": f"最近 {rounds} 轮的预测与前一轮的一致性 kappa 为 {mean:.3f}（达到 {least:g} 即停）"})


def flat_curve(labels: Sequence[float], scores: Sequence[float], batch: int, *, least_points: float = LEAST_POINTS,
               errors: Sequence[float] | None = None, seed: int = 0) -> Verdict:
    """The next batch would buy less than `least_points`, even at the upper end of the learning curve's band.

    Raises:
        LabError: points that cannot be (too few are a reason to go on).
    """
    found = learning_curve.forecast(labels, scores, batch, errors=errors, seed=seed).gain
    if found.value is None:
        return Verdict("flat_curve", False, found.reason)
    return Verdict("flat_curve", 100 * found.high < least_points, {
        "en": f"another {batch} labels buy at most {100 * found.high:.1f} points (stop below {least_points:g})",
        "zh": f"再标 {batch} 条最多提高 {100 * found.high:.1f} 个百分点（低于 {least_points:g} 即停）"})


def budget_spent(labels: int, batch: int, *, most_labels: int | None = None, seconds_a_label: float = 0.0,
                 most_seconds: float = math.inf) -> Verdict:
    """Another batch would go over the budget, in labels or in time (seconds of all annotators together)."""
    if most_labels is not None and labels + batch > most_labels:
        return Verdict("budget_spent", True, {"en": f"another {batch} labels would make more than {most_labels:,}",
                                              "zh": f"再标 {batch} 条将超过 {most_labels:,} 条的预算"})
    whole = (labels + batch) * seconds_a_label
    if whole > most_seconds:
        return Verdict("budget_spent", True, {"en": f"another {batch} labels would take more than {duration(most_seconds, 'en')} in all",
                                              "zh": f"再标 {batch} 条，总用时将超过 {duration(most_seconds, 'zh')}"})
    return Verdict("budget_spent", False, {"en": "another batch is within the budget", "zh": "再标一批仍在预算之内"})


def target_reached(right: int, records: int, target: float) -> Verdict:
    """The accuracy on held-out records is at least the target even at the lower end of its interval (Wilson's), so that a lucky draw of
    test records does not stop the work.

    Args:
        right: how many of `records` test records the model answers rightly.
    """
    from labkit.labeling.quality.intervals import wilson

    found = wilson(right, records)
    if found.value is None:
        return Verdict("target_reached", False, found.reason)
    return Verdict("target_reached", found.low >= target, {
        "en": f"accuracy {found.value:.1%}, at least {found.low:.1%} by its interval (stop at {target:.1%})",
        "zh": f"准确率 {found.value:.1%}，区间下限 {found.low:.1%}（达到 {target:.1%} 即停）"})


def _kappa(left: Sequence, right: Sequence) -> float:
    """Cohen's kappa of two columns of labels; 1 where both always give one and the same label."""
    _, codes = np.unique(np.concatenate([np.asarray(left), np.asarray(right)]), return_inverse=True)
    first, second = codes[:len(left)], codes[len(left):]
    number = int(codes.max()) + 1
    observed = float((first == second).mean())
    expected = float((np.bincount(first, minlength=number) / len(first)) @ (np.bincount(second, minlength=number) / len(second)))
    return 1.0 if expected >= 1 else (observed - expected) / (1 - expected)
