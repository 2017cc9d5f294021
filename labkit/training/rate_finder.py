"""The learning-rate range test: one short run whose rate rises from far too low to too high (Smith 2017, section 3.3,
https://arxiv.org/abs/1506.01186; with a rate that rises by a constant factor and the loss smoothed, as is usual since).

What it finds is a starting point for this model, data, batch size and optimiser, not an optimum. This module knows neither model nor data:
the caller's step trains on a copy that is thrown away.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import LabError

_DIVERGED = 4.0      # times the best smoothed loss
_FEWEST = 8          # steps from which something can be said
_SMOOTHING = 0.03    # the smoothing's width (a standard deviation), as a share of the sweep
_BEGUN = 0.1         # share of the whole fall before which no slope counts: noise has slopes too
_LEAST_FALL = 0.01   # of the first loss


@dataclass(frozen=True)
class Sweep:
    """What a sweep saw.

    Attributes:
        rates: of each step, rising.
        losses: as the step reported them, finite.
        smoothed: the same, smoothed over neighbours on both sides.
        suggestion: the peak learning rate to begin with: where the smoothed loss falls most steeply, or a tenth of the rate where it is
            lowest, whichever is less; None where the sweep does not tell. (The whole encoder on 12 intents, 60 steps: a tenth of the
            lowest is 1.1e-4, the steepest 4.4e-4; held-out accuracy 0.46 at 3e-5, 0.75 at 1e-4, 0.78 at 3e-4. A small network on fixed
            vectors, 300 steps: 1.9e-3 and 7.2e-3; held-out loss 2.1 at 3e-4, 0.95 at 1e-3, 1.1 at 3e-3, 1.6 at 1e-2. For Muon,
            Adafactor and schedule-free the tenth fits as well; Lion wants half of it or less.)
        reason: why that, or why none; in English, and in Chinese (`zh`).
        steepest, lowest: the rates where the smoothed loss falls most steeply and is lowest; None without a suggestion.
        diverged: whether the sweep ended early because the loss ran away.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str
    zh: str
    steepest: float | None = None
    lowest: float | None = None
    diverged: bool = False


def sweep(step: Callable[[float], float], low: float = 1e-6, high: float = 1.0, steps: int = 100,
          on_step: Callable[[int, int], None] | None = None) -> Sweep:
    """Train step by step at rising rates until the loss runs away or the rates are at their end.

    Args:
        step: takes one optimiser step at this learning rate, on the next batch, and gives the batch's loss before it.
        low: the first rate.
        high: the last rate.
        on_step: called with (steps done, steps in all).

    Raises:
        LabError: the rates do not rise, or there are too few steps to tell anything.
    """
    if not 0 < low < high or steps < _FEWEST:
        raise LabError(f"a sweep needs 0 < low < high and at least {_FEWEST} steps, not {low:g} to {high:g} in {steps}")
    rates, losses = [], []
    running, lowest, diverged = 0.0, math.inf, False
    for place in range(steps):
        rate = low * (high / low) ** (place / (steps - 1))
        loss = step(rate)
        if on_step:
            on_step(place + 1, steps)
        if not math.isfinite(loss):
            diverged = True
            break
        rates.append(rate)
        losses.append(loss)
        running = 0.8 * running + 0.2 * loss
        calm = running / (1 - 0.8 ** (place + 1))
        if place >= _FEWEST and calm > _DIVERGED * lowest and calm > lowest + 1e-3:
            diverged = True
            break
        lowest = min(lowest, calm)
    return _judged(rates, losses, diverged, steps)


def _judged(rates: list[float], losses: list[float], diverged: bool, steps: int) -> Sweep:
    """The sweep with its suggestion."""
    import numpy as np
    from scipy.ndimage import gaussian_filter1d

    smoothed = gaussian_filter1d(np.array(losses), max(1.0, _SMOOTHING * steps), mode="nearest") if losses else np.array([])
    seen = tuple(rates), tuple(losses), tuple(smoothed.tolist())
    if len(losses) < _FEWEST:
        return Sweep(*seen, None, f"the loss ran away after {len(losses)} steps: begin with a lower rate",
                     f"仅 {len(losses)} 步后损失就发散：请从更低的学习率开始", diverged=diverged)
    at = int(smoothed.argmin())
    if at < max(2, steps // 20):
        return Sweep(*seen, None, f"the loss rises from the first rates on: begin lower than {rates[0]:.2g}",
                     f"从最初的学习率起损失就上升：请从低于 {rates[0]:.2g} 处开始", diverged=diverged)
    start = float(np.median(smoothed[: max(2, steps // 10)]))
    fall = start - float(smoothed[at])
    noise = float(np.median(np.abs(np.diff(losses[: at + 2])))) / (0.6745 * math.sqrt(2))  # a standard deviation, by way of the median
    if fall <= max(noise, _LEAST_FALL * abs(start)):
        fell = max(0.0, fall)
        return Sweep(*seen, None, f"the loss never fell by more than its noise ({fell:.2g} against {noise:.2g}): nothing learns at these "
                                  "rates, or more steps are needed",
                     f"损失的下降从未超过其噪声（{fell:.2g} 对 {noise:.2g}）：这些学习率下学不到东西，或需要更多步数", diverged=diverged)
    slopes = np.gradient(smoothed, np.log(rates))[: at + 1]
    slopes[smoothed[: at + 1] > start - _BEGUN * fall] = 0.0
    steepest, lowest = rates[int(slopes.argmin())], rates[at]
    suggestion = min(steepest, lowest / 10)
    if not diverged and at == len(rates) - 1:
        return Sweep(*seen, suggestion, f"the loss still falls at {lowest:.2g}, the last rate: {suggestion:.2g} learns, "
                                        "a sweep to higher rates tells more",
                     f"在最后的学习率 {lowest:.2g} 处损失仍在下降：{suggestion:.2g} 可用，扫描到更高的学习率可知更多", steepest, lowest)
    which = ("where the loss falls most steeply", "损失下降最快处") if steepest <= lowest / 10 else (
        f"a tenth of {lowest:.2g}, where the loss is lowest", f"损失最低处 {lowest:.2g} 的十分之一")
    return Sweep(*seen, suggestion, f"{suggestion:.2g}: {which[0]}", f"{suggestion:.2g}：{which[1]}", steepest, lowest, diverged)
