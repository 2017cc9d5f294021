"""What looks wrong while a training runs: it is said, once, and the training goes on. (What must end a training is `ending`'s.)"""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

WORDS = {
    "en": {
        "diverging": "the loss rises: {now:.3g} on average over the last steps, {best:.3g} at its best (step {at:,}). "
                     "If it goes on, stop and lower learning_rate.",
        "not_a_number": "the loss or the gradient is not a number. Stop, and lower learning_rate or use precision = \"fp32\".",
        "spike": "the gradient's norm jumped to {now:.3g}, {times:.0f} times its median. Look at the records of this step; "
                 "clip bounds what it does.",
        "still": "the gradient is zero: nothing is learned.",
        "overfitting": "the validation loss has risen to {now:.3g} since its best, {best:.3g} (step {at:,}), while the training loss "
                       "falls: the records are being learned by heart. Fewer epochs, or patience, would stop here.",
        "memory": "{now:.1f} of {limit:.1f} GB of memory are taken. A smaller micro_tokens or max_tokens takes less.",
    },
    "zh": {
        "diverging": "损失在上升：最近几步平均 {now:.3g}，最好时为 {best:.3g}（第 {at:,} 步）。若继续上升，请停止并降低 learning_rate。",
        "not_a_number": "损失或梯度不是数。请停止，并降低 learning_rate 或改用 precision = \"fp32\"。",
        "spike": "梯度范数跳到 {now:.3g}，是中位数的 {times:.0f} 倍。请查看这一步的记录；clip 会限制它的影响。",
        "still": "梯度为零：模型没有在学习。",
        "overfitting": "验证损失从最好的 {best:.3g}（第 {at:,} 步）升到 {now:.3g}，而训练损失在下降：模型在死记训练记录。"
                       "减少 epochs 或设置 patience 会在此停下。",
        "memory": "内存已用 {now:.1f} GB，共 {limit:.1f} GB。减小 micro_tokens 或 max_tokens 可少用内存。",
    },
}

_DECAY = 0.95         # of the loss's mean and variance: about the last twenty steps
_SETTLED = 20         # steps before anything is judged by what is usual
_RISE = 1.5           # times the best mean; the loop stops at 3
_ERRORS = 8.0         # and so many standard errors above it: of a thousand noisy means the best and the worst lie six apart
_SPIKE = 10.0         # times the median of the last norms
_NORMS = 100
_FULL = 0.9           # share of the memory
_QUIET = 100          # steps in which the same warning is not said again


@dataclass(frozen=True)
class Concern:
    """What looked wrong at one step: `kind` is a key of `WORDS`, `values` what its sentence tells."""

    kind: str
    step: int
    values: dict[str, float]

    def said(self, language: str = "en") -> str:
        """The sentence in `en` or `zh`."""
        return WORDS[language][self.kind].format(**self.values)


class Diagnosis:
    """Takes the rows of a training as they come and says what looks wrong.

    Args:
        memory_limit: GB that the training may take; 0: its memory is not judged.
    """

    def __init__(self, memory_limit: float = 0.0) -> None:
        self._memory_limit = memory_limit
        self._seen, self._mean, self._variance = 0, 0.0, 0.0
        self._best, self._best_at = math.inf, 0
        self._norms: deque[float] = deque(maxlen=_NORMS)
        self._held_out: list[tuple[int, float, float]] = []  # step, validation loss, mean training loss
        self._last: dict[str, int] = {}

    def see(self, row: dict[str, Any]) -> list[Concern]:
        """One row of metrics; gives what is new. Units: losses in nats, `memory_gb` in GB."""
        found = [*self._loss(row), *self._gradient(row), *self._validation(row), *self._memory(row)]
        new = [each for each in found if each.step - self._last.get(each.kind, -_QUIET) >= _QUIET]
        self._last.update((each.kind, each.step) for each in new)
        return new

    def _loss(self, row: dict[str, Any]) -> list[Concern]:
        loss, step = row["loss"], row["step"]
        if not math.isfinite(loss) or not math.isfinite(row.get("gradient_norm", 0.0)):
            return [Concern("not_a_number", step, {})]
        self._seen += 1
        share = max(1 - _DECAY, 1 / self._seen)  # a plain mean at first
        off = loss - self._mean
        self._mean += share * off
        self._variance = (1 - share) * (self._variance + share * off**2)
        if self._seen < _SETTLED:
            return []
        if self._mean < self._best:
            self._best, self._best_at = self._mean, step
        error = math.sqrt(self._variance * (1 - _DECAY) / (1 + _DECAY))  # of such an average of independent values
        if self._mean > _RISE * self._best and self._mean > self._best + _ERRORS * error:
            return [Concern("diverging", step, {"now": self._mean, "best": self._best, "at": self._best_at})]
        return []

    def _gradient(self, row: dict[str, Any]) -> list[Concern]:
        norm = row.get("gradient_norm")
        if norm is None or not math.isfinite(norm):
            return []
        usual = statistics.median(self._norms) if len(self._norms) >= _SETTLED else math.inf
        self._norms.append(norm)
        if norm == 0.0:
            return [Concern("still", row["step"], {})]
        if 0 < usual < norm / _SPIKE:
            return [Concern("spike", row["step"], {"now": norm, "times": norm / usual})]
        return []

    def _validation(self, row: dict[str, Any]) -> list[Concern]:
        if row.get("validation_loss") is None or not math.isfinite(row["loss"]):
            return []
        self._held_out.append((row["step"], row["validation_loss"], self._mean))
        at, best, learned = min(self._held_out, key=lambda each: each[1])
        since = [each for each in self._held_out if each[0] > at]
        if len(since) >= 2 and all(value > best for _, value, _ in since) and since[-1][1] > 1.02 * best and self._mean < learned:
            return [Concern("overfitting", row["step"], {"now": row["validation_loss"], "best": best, "at": at})]
        return []

    def _memory(self, row: dict[str, Any]) -> list[Concern]:
        taken = row.get("memory_gb")
        if not self._memory_limit or taken is None or taken < _FULL * self._memory_limit:
            return []
        return [Concern("memory", row["step"], {"now": taken, "limit": self._memory_limit})]
