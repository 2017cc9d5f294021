"""What the rows of a training say at a glance: how fast, how long still, the loss without its noise."""

from collections import deque
from typing import Any

_RECENT = 50   # steps that the pace is taken over: later ones may be longer, and a resumed training runs on another machine
_SMOOTH = 0.9  # decay of the smoothed loss: about the last ten steps


class Pace:
    """Takes the rows of a training as they come.

    Args:
        max_seconds: where the recipe ends the training after this time.

    Attributes:
        loss: exponential moving average of the training loss, with the correction for its start (Kingma and Ba 2014, section 3,
            https://arxiv.org/abs/1412.6980); None before the first row.

    Example:
        >>> pace = Pace()
        >>> for step in (1, 2):
        ...     pace.see({"step": step, "steps": 10, "loss": 2.0, "seconds": 3.0 * step, "tokens": 60})
        >>> pace.seconds_left, pace.tokens_per_second
        (24.0, 20.0)
    """

    def __init__(self, max_seconds: float = 0.0) -> None:
        self.loss: float | None = None
        self._max_seconds, self._sum, self._weight = max_seconds, 0.0, 0.0
        self._seen: deque[tuple[int, float, int]] = deque(maxlen=_RECENT + 1)  # step, seconds, tokens
        self._steps = 0

    def see(self, row: dict[str, Any]) -> None:
        """One row of metrics."""
        self._sum = _SMOOTH * self._sum + (1 - _SMOOTH) * row["loss"]
        self._weight = _SMOOTH * self._weight + (1 - _SMOOTH)
        self.loss = self._sum / self._weight
        if not self._seen and row["step"] == 1:
            self._seen.append((0, 0.0, 0))
        self._seen.append((row["step"], row["seconds"], row.get("tokens", 0)))
        self._steps = row["steps"]

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left at the pace of the last steps; None while no pace is known."""
        if len(self._seen) < 2:
            return None
        (first, began, _), (last, now, _) = self._seen[0], self._seen[-1]
        left = (now - began) / max(1, last - first) * (self._steps - last)
        return max(0.0, min(left, self._max_seconds - now)) if self._max_seconds else left

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second over the last steps, with all that lies between them; None while no pace is known."""
        if len(self._seen) < 2 or self._seen[-1][1] <= self._seen[0][1]:
            return None
        return sum(tokens for _, _, tokens in list(self._seen)[1:]) / (self._seen[-1][1] - self._seen[0][1])


def duration(seconds: float, language: str = "en") -> str:
    """A time as people say it, to two places.

    Example:
        >>> duration(7.4), duration(80), duration(7500), duration(80, "zh")
        ('7 s', '1 min 20 s', '2 h 5 min', '1 分 20 秒')
    """
    units = {"en": (" h", " min", " s"), "zh": (" 小时", " 分", " 秒")}[language]
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}{units[0]} {minutes}{units[1]}"
    return f"{minutes}{units[1]} {whole % 60}{units[2]}" if minutes else f"{whole}{units[2]}"
