"""When to stop: a measurement that has not improved for a while."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Verdict(Enum):
    """What a measurement means: `BETTER` than all before (keep these weights), `WORSE`, or so often worse that it is time to `STOP`."""

    BETTER = "better"
    WORSE = "worse"
    STOP = "stop"


def mode_of(monitor: str) -> str:
    """`min` for losses and errors, of which less is better, `max` for every other measurement."""
    return "min" if monitor.endswith(("loss", "error")) else "max"


@dataclass
class EarlyStopping:
    """Watches one number.

    Attributes:
        patience: so many measurements in a row without a gain end the training; 0: none does.
        smallest_gain: what a measurement must be better by, in its own unit, to count as a gain.
        mode: `min` where less is better, `max` where more is.
        best, best_step: the best measurement and when it was made; None before the first.
        waited: measurements since then.
    """

    patience: int
    smallest_gain: float = 0.0
    mode: str = "min"
    best: float | None = None
    best_step: int | None = None
    waited: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max") or self.patience < 0 or self.smallest_gain < 0:
            raise ValueError(f"mode must be min or max, patience and smallest_gain at least 0: {self}")

    def see(self, step: int, value: float) -> Verdict:
        """Take a measurement in; one that is no number is worse than any."""
        if not math.isnan(value) and (self.best is None or self._gain(value) > self.smallest_gain):
            self.best, self.best_step, self.waited = value, step, 0
            return Verdict.BETTER
        self.waited += 1
        return Verdict.STOP if self.patience and self.waited >= self.patience else Verdict.WORSE

    def _gain(self, value: float) -> float:
        return self.best - value if self.mode == "min" else value - self.best

    def state(self) -> dict[str, Any]:
        """What it has seen, as plain values."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]
