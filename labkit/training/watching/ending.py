"""What must end a training: a loss or a gradient that is no number, or a loss that runs away. (What only looks wrong is `diagnosis`'s.)"""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_RECENT = 20        # steps over which a loss that runs away is judged
_FIRST = 5          # steps that it is compared with until there are so many
_EDGE = 3           # how many of a window's losses may lie apart from the rest, at either end
_RUNAWAY = 3.0      # how many times the best such median the latest may be
_NEAR_ZERO = 1.0    # and by how much it must be above it: losses near 0 double easily


@dataclass(frozen=True)
class End:
    """Why training cannot go on, and whether the weights before this step are sound, and so worth keeping."""

    why: str
    sound: bool


class Ending:
    """Judges each step between its gradient and the optimiser's.

    A loss runs away where the median of the last 20 is 3 times that of the calmest 20 before them, and 1 nat above it, and nearly all of
    them lie above nearly all of the calmest: losses of single batches jump up and down, by far more where few records make one.

    Args:
        recipe: has the learning_rate, clip and warmup that the advice names.
        before: the losses of the steps that were taken already, of a training that goes on.
    """

    def __init__(self, recipe: Any, before: Iterable[float] = ()) -> None:
        self._recipe = recipe
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._calm, self._calm_top = math.inf, math.inf  # the lowest median of a window so far, and what most of that window lies below
        for loss in before:
            self._runs_away(loss)

    def see(self, step: int, loss: float, norm: float, weights: "Mapping[str, torch.Tensor]", batch: Callable[[], str]) -> End | None:
        """Why step `step`, counted from 1, must be the last; None where it need not.

        Args:
            loss: of the step, in nats.
            norm: of its gradient.
            weights: those that learn, as they were before the step.
            batch: names the records that the step saw, for people.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._no_number(step, loss, weights, batch)
        if not self._runs_away(loss):
            return None
        median = statistics.median(self._recent)
        return End(f"the loss runs away: {median:.3g} in the midst of the last {_RECENT} steps, {self._calm:.3g} at its best; stopped at "
                   f"step {step}. Lower learning_rate ({self._recipe.learning_rate:g}), or raise warmup ({self._recipe.warmup:g}); the "
                   "state before this step is kept", True)

    def _runs_away(self, loss: float) -> bool:
        self._recent.append(loss)
        ordered = sorted(self._recent)
        median = statistics.median(ordered)
        if len(ordered) == _FIRST:
            self._calm, self._calm_top = median, ordered[-1]
        if len(ordered) < _RECENT:
            return False
        if median < self._calm:
            self._calm, self._calm_top = median, ordered[-_EDGE]
        return median > max(_RUNAWAY * self._calm, self._calm + _NEAR_ZERO) and ordered[_EDGE - 1] > self._calm_top

    def _no_number(self, step: int, loss: float, weights: "Mapping[str, torch.Tensor]", batch: Callable[[], str]) -> End:
        import torch

        from labkit.training import sharding

        broken = [name for name, value in weights.items() if not torch.isfinite(sharding.whole(value)).all()]
        what = "the loss" if not math.isfinite(loss) else "the gradient"
        why = (f"weights are no numbers already (first: {broken[0]})" if broken else
               f"weights are sound, so it comes from the batch ({batch()}) or from rounding")
        return End(f"{what} is not a number at step {step}; {why}. Lower learning_rate ({self._recipe.learning_rate:g}) or clip "
                   f"({self._recipe.clip:g}), or use precision = \"fp32\"" + ("" if broken else "; the state before this step is kept"),
                   not broken)
