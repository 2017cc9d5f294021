"""Schedules: the learning rate of each step as a share of its peak, and one-cycle's momentum.

Plain functions of the step's index, so that a training that goes on needs no state. All begin with a warm-up. `steps` is the first index
behind the training: there each of them (but `constant` and `inverse_sqrt`) has come down to `final`, so that the last step still learns.

    constant         stays at the peak
    linear           straight down
    cosine           half a cosine down (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983)
    cosine_restarts  the same several times over, each time from the peak (the same paper)
    wsd              stays, then straight down over the last `decay` of the steps (warm-up, stable, decay: Hu et al. 2024, section 4,
                     https://arxiv.org/abs/2404.06395; a straight fall as in Hägele et al. 2024, https://arxiv.org/abs/2405.18392)
    one_cycle        up from a 25th of the peak and down again by half cosines, momentum the other way (Smith 2018, https://arxiv.org/abs/1803.09820)
    inverse_sqrt     by the root of the steps (Vaswani et al. 2017, section 5.3, https://arxiv.org/abs/1706.03762); not below `final`
"""

import math
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    from labkit.training.recipe import Recipe

NAMES = ("constant", "linear", "cosine", "cosine_restarts", "wsd", "one_cycle", "inverse_sqrt")
DECAY = 0.2      # of the steps: 10 to 20% reach what a cosine reaches (Hägele et al. 2024)
CYCLES = 3
_LOWEST = 1 / 25      # one-cycle's first rate
_MOMENTUM_DIP = 0.1   # 0.95 to 0.85 in Smith 2018


def share(name: str, index: int, steps: int, *, warmup: float = 0.0, final: float = 0.0, decay: float = DECAY,
          cycles: int = CYCLES) -> float:
    """The learning rate at step `index` (from 0) of `steps`, as a share of its peak, 0 to 1.

    Args:
        warmup: share of the steps over which the rate rises, at least one of them.
        final: the rate at the end, as a share of the peak.
        decay: of `wsd`: share of the steps over which it falls.
        cycles: of `cosine_restarts`.

    Raises:
        LabError: there is no such schedule.
    """
    if name not in NAMES:
        raise LabError(f"recipe: schedule must be one of {', '.join(NAMES)}, not {name!r}")
    rising = warmup_steps(steps, warmup)
    if index < rising:
        return (index + 1) / rising if name != "one_cycle" or rising == 1 else _half_cosine(_LOWEST, 1.0, index / (rising - 1))
    along = (index - rising) / max(1, steps - rising)
    match name:
        case "constant":
            return 1.0
        case "inverse_sqrt":
            return max(final, math.sqrt(rising / (index + 1)))
        case "one_cycle":
            return _half_cosine(1.0, final, (index - rising + 1) / (steps - rising + 1))
        case "cosine":
            fall = (1 + math.cos(math.pi * along)) / 2
        case "cosine_restarts":
            fall = (1 + math.cos(math.pi * (cycles * along % 1.0))) / 2 if along < 1 else 0.0
        case "wsd":
            falling = min(steps - rising, max(1, round(decay * steps)))
            fall = min(1.0, (steps - index) / max(1, falling))
        case "linear":
            fall = 1 - along
    return final + (1 - final) * fall


def momentum(index: int, steps: int, *, warmup: float, high: float) -> float:
    """One-cycle's momentum at step `index`: from `high` down to 0.1 below it where the learning rate peaks, and back."""
    low, rising = max(0.0, high - _MOMENTUM_DIP), warmup_steps(steps, warmup)
    if index < rising:
        return low if rising == 1 else _half_cosine(high, low, index / (rising - 1))
    return _half_cosine(low, high, (index - rising + 1) / (steps - rising + 1))


def warmup_steps(steps: int, warmup: float) -> int:
    """How many steps the rise takes."""
    return max(1, round(warmup * steps))


def of_recipe(recipe: "Recipe", index: int, steps: int) -> float:
    """The share of the peak learning rate that a recipe has at step `index` of `steps`."""
    return share(recipe.schedule, index, steps, warmup=recipe.warmup, final=recipe.final_rate)


def momentum_of_recipe(recipe: "Recipe", index: int, steps: int) -> float:
    """The momentum (of `sgd` and `muon`) or beta1 (of the others) that a recipe has at step `index` of `steps`; only one-cycle moves it."""
    high = recipe.momentum if recipe.optimiser in ("sgd", "muon") else recipe.beta1
    return momentum(index, steps, warmup=recipe.warmup, high=high) if recipe.schedule == "one_cycle" else high


def _half_cosine(begin: float, end: float, along: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * along)) / 2
