"""What must end a training: a loss or a gradient that is no number, or a loss that runs away. (What only looks wrong is `diagnosis`'s.)"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_RECENT = 20        # steps over which a loss that runs away is judged
_RUNAWAY = 3.0      # how many times the best such mean the latest may be
_NEAR_ZERO = 1.0    # and by how much it must be above it: losses near 0 double easily


@dataclass(frozen=True)
class End:
    """Why training cannot go on, and whether the weights before this step are sound, and so worth keeping."""

    why: str
    sound: bool


class Ending:
    """Judges each step between its gradient and the optimiser's.

    Args:
        recipe: has the learning_rate, clip and warmup that the advice names.
    """

    def __init__(self, recipe: Any) -> None:
        self._recipe = recipe
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._calmest = math.inf

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
        self._recent.append(loss)
        self._calmest = loss if math.isinf(self._calmest) else self._calmest
        if len(self._recent) < _RECENT:
            return None
        mean = sum(self._recent) / _RECENT
        self._calmest = min(self._calmest, mean)
        if mean <= _RUNAWAY * self._calmest or mean <= self._calmest + _NEAR_ZERO:
            return None
        return End(f"the loss runs away: {mean:.3g} on average over the last {_RECENT} steps, {self._calmest:.3g} at its best; stopped at "
                   f"step {step}. Lower learning_rate ({self._recipe.learning_rate:g}), or raise warmup ({self._recipe.warmup:g}); the "
                   "state before this step is kept", True)

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
