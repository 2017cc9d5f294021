"""The learning-rate range test: one short run whose rate rises from far too low to too high (Smith 2017, section 3.3,
https://arxiv.org/abs/1506.01186; with a rate that rises by a constant factor and the loss smoothed, as is usual since).

What it finds is a starting point for this model, data, batch size and optimiser, not an optimum. `of_recipe` takes the test for a recipe's
own training, whatever its task; `sweep` is the test itself and knows neither model nor data: the caller's step trains on a copy that is
thrown away.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.scenarios import Scenario
    from labkit.training.learner import Learner
    from labkit.training.recipe import Recipe
    from labkit.training.tasks.formats import TaskData

OnStep = Callable[[int, int], None]

_DIVERGED = 4.0      # times the best smoothed loss
_FEWEST = 8          # steps from which something can be said
_SMOOTHING = 0.03    # the smoothing's width (a standard deviation), as a share of the sweep
_BEGUN = 0.1         # share of the whole fall before which no slope counts: noise has slopes too
_LEAST_FALL = 0.01   # of the first loss
_ROWS = 16           # of the table
_WIDTH = 40          # characters of its longest bar
_WORDS = {"en": ("rate", "loss", "smoothed", "suggested", "nothing is suggested"),
          "zh": ("学习率", "损失", "平滑后", "建议", "没有建议值")}


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


def of_recipe(recipe: "Recipe", data: "Dataset | TaskData", scenario: "Scenario | None" = None, *, low: float = 1e-6, high: float = 1.0,
              steps: int = 100, on_step: OnStep | None = None, on_prepare: OnStep | None = None) -> Sweep:
    """Which learning rate a recipe should begin with: `sweep` over the first batches of its training, on what it would train.

    Model, batches, loss, optimiser, clipping and what learns at a multiple of the rate are the recipe's; its `learning_rate`, schedule and
    averages have no say. Nothing is left on disk but what the frozen layers gave, which the training then finds. On one process.

    Args:
        recipe: of any task, method and optimiser.
        data: the scenario's records, as for `trainer.train`; without a scenario a task's own data, as for `trainer.train_task`.
        low, high, steps: the rates, see `sweep`; a plan with fewer batches than steps begins anew.
        on_step: called with (steps done, steps in all).
        on_prepare: called with (records done, records in all) while the frozen layers are run.

    Raises:
        LabError: what `sweep` refuses, the data or the base cannot be used, or memory does not suffice for one record.

    Example:
        >>> found = rate_finder.of_recipe(recipe, records.samples(scenario), scenario)              # doctest: +SKIP
        >>> found.suggestion, plots_training.rate_finder(found)                                     # doctest: +SKIP
    """
    import torch

    from labkit import models, process
    from labkit.training import trainer
    from labkit.training.tasks import of_data

    _check(low, high, steps)
    base = models.resolve(recipe.base)
    torch.manual_seed(recipe.seed)
    learner, _ = of_data.learner(recipe, data, base) if scenario is None else trainer.of_scenario(recipe, data, scenario, base)
    learner.prepare(f"{recipe.scenario}/{recipe.name}", on_prepare)
    try:
        return sweep(_step_of(recipe, learner), low, high, steps, on_step)
    finally:
        del learner
        process.release_memory()


def _step_of(recipe: "Recipe", learner: "Learner") -> Callable[[float], float]:
    """A step of this training at a rate, on the next batch of its plan; a gradient that is no number counts as such a loss."""
    from labkit.training import optimisers, sharding
    from labkit.training.loop import Loop

    loop = Loop(recipe, learner, Path(), f"{recipe.scenario}/{recipe.name}")  # for its way with memory that does not suffice
    optimiser = optimisers.build(recipe.optimiser, learner.groups(), recipe.learning_rate, beta1=recipe.beta1, beta2=recipe.beta2,
                                 weight_decay=recipe.weight_decay, momentum=recipe.momentum)
    batches = enumerate(itertools.cycle([rows for _, rows in learner.plan()]))

    def step(rate: float) -> float:
        index, rows = next(batches)
        loss = loop.passed(rows, index).loss
        if not math.isfinite(sharding.clip(learner.masters.values(), recipe.clip or math.inf)):
            return math.nan
        for group in optimiser.param_groups:
            group["lr"] = rate * group["faster"]
        optimiser.step()
        learner.push()
        return loss

    return step


def as_text(sweep: Sweep, language: str = "en") -> str:
    """The curve as a table for a terminal, with a bar for each smoothed loss, and what is suggested and why; `en` or `zh`."""
    from tabulate import tabulate

    *heads, suggested, nothing = _WORDS[language]
    places = range(0, len(sweep.rates), max(1, math.ceil(len(sweep.rates) / _ROWS)))
    shown = [sweep.smoothed[place] for place in places] or [0.0]
    low, high = min(shown), max(shown[: len(shown) // 2 + 1])  # a loss that ran away would flatten all else
    away = lambda place: abs(math.log(sweep.rates[place] / sweep.suggestion))  # noqa: E731
    marked = min(places, key=away) if sweep.suggestion else None
    rows = []
    for place in places:
        share = min(1.0, (sweep.smoothed[place] - low) / ((high - low) or 1.0))
        bar = "█" * max(1, round(_WIDTH * share)) + (f" ← {suggested}" if place == marked else "")
        rows.append([f"{sweep.rates[place]:.1e}", f"{sweep.losses[place]:.4g}", f"{sweep.smoothed[place]:.4g}", bar])
    table = tabulate(rows, [*heads, ""], disable_numparse=True) + "\n\n" if rows else ""
    why = sweep.zh if language == "zh" else sweep.reason
    return f"{table}{suggested if sweep.suggestion else nothing}{'：' if language == 'zh' else ': '}{why}"


def sweep(step: Callable[[float], float], low: float = 1e-6, high: float = 1.0, steps: int = 100,
          on_step: OnStep | None = None) -> Sweep:
    """Train step by step at rising rates until the loss runs away or the rates are at their end.

    Args:
        step: takes one optimiser step at this learning rate, on the next batch, and gives the batch's loss before it.
        low: the first rate.
        high: the last rate.
        on_step: called with (steps done, steps in all).

    Raises:
        LabError: the rates do not rise, or there are too few steps to tell anything.
    """
    _check(low, high, steps)
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


def _check(low: float, high: float, steps: int) -> None:
    if not 0 < low < high or steps < _FEWEST:
        raise LabError(f"a sweep needs 0 < low < high and at least {_FEWEST} steps, not {low:g} to {high:g} in {steps}")


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
