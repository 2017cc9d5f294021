"""What the loop trains: a model with its data and its objective, behind one small face.

`chat.CachedChat` (a decoder over kept frozen layers), `chat_plain.PlainChat` (any decoder, any method) and `encoders.Encoder` (heads on a
trunk) are learners. A learner knows nothing about optimisers, schedules, checkpoints or files of metrics.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from labkit.training.masters import Masters
    from labkit.training.world import World


@dataclass(frozen=True)
class Passed:
    """One batch, there and back.

    Attributes:
        loss: the mean loss that is reported, over the whole batch.
        tokens: tokens that went through the model, padding not counted, in all processes.
        more: further figures of the row in metrics.jsonl.
    """

    loss: float
    tokens: int
    more: dict[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """See the module's docstring.

    Attributes:
        masters: the float32 parameters that learn, by name.
        micro_tokens: tokens that go through the model at once; the loop halves it where memory does not suffice.
    """

    masters: "Masters"
    micro_tokens: int

    def plan(self) -> list[tuple[int, list[int]]]:
        """All steps of the training: (epoch, rows of the batch)."""

    def groups(self) -> list[dict[str, Any]]:
        """The optimiser's parameter groups: `params`, and `faster`, how many times the learning rate they move at."""

    def step(self, rows: list[int], index: int, world: "World") -> Passed:
        """Run this process's share of a batch and leave its gradients, divided by the whole batch's weight, at the masters."""

    def drop_gradients(self) -> None:
        """Forget what an interrupted step left."""

    def push(self) -> None:
        """Take the masters' values over into the model."""

    def measure(self) -> dict[str, float]:
        """`validation_loss` and the task's metrics on the validation records; empty where there are none."""

    def answers(self) -> list[dict[str, str]]:
        """What the model makes of a few validation records now: `prompt`, `answer`, `wanted`."""

    def name_rows(self, rows: list[int]) -> list[str]:
        """The ids of training records, to tell a person which."""

    def tokens_of(self, rows: list[int]) -> int:
        """How many tokens training records have."""

    def save(self, folder: Path) -> list[str]:
        """Write what was learned into the run's folder; the files, relative to it."""

