"""What is seen of a preference training while it goes: its rows of metrics.jsonl, what must end it, and who steers it.

TRL's trainer calls it as transformers' callback; which trainer, model and pairs these are it does not know.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training import checkpoint
from labkit.training.control import Control
from labkit.training.metrics_file import Write
from labkit.training.preference_recipe import PreferenceRecipe
from labkit.training.watching.ending import End, Ending

if TYPE_CHECKING:
    import torch

OnStep = Callable[[dict[str, Any]], None]

_ROW = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm", "kl": "divergence",
        "rewards/chosen": "chosen_reward", "rewards/rejected": "rejected_reward", "rewards/margins": "reward_margin",
        "rewards/accuracies": "reward_accuracy", "logps/chosen": "chosen_log_probability", "logps/rejected": "rejected_log_probability",
        "nll_loss": "likelihood_loss", "log_odds_chosen": "log_odds"}  # TRL's name: the row's


class Rows:
    """The rows of one training, and what each step is measured by.

    Args:
        before: the rows of the steps until `done`, of a training that goes on.

    Attributes:
        step: the last step that is done, of `steps`.
    """

    def __init__(self, recipe: PreferenceRecipe, write: Write, on_step: OnStep | None, control: Control, steps: int, done: int,
                 before: Sequence[Mapping[str, Any]] = ()) -> None:
        self.control, self.steps, self.step = control, steps, done
        self._write, self._on_step, self._spent = write, on_step, before[-1]["seconds"] if before else 0.0
        self._ending = Ending(recipe, [row["loss"] for row in before])
        self._held: dict[str, Any] | None = None
        self._began = time.perf_counter()
        self.restart()

    def restart(self) -> None:
        """Forget the parts of a step that has not come to its end."""
        self._loss, self._tokens, self._at = 0.0, 0, time.perf_counter()

    def part(self, inputs: Mapping[str, Any], loss: float) -> None:
        """One part of a step was passed: its tokens are those that the model saw, its loss its share of the step's."""
        masks = [mask for name, mask in inputs.items() if name.endswith("attention_mask") and not name.startswith("prompt")]
        self._tokens += sum(int(mask.sum()) for mask in masks)
        self._loss += loss

    def end_of(self, step: int, norm: float, weights: "Mapping[str, torch.Tensor]") -> End | None:
        """Why the step at hand must be the last, see `Ending.see`."""
        return self._ending.see(step, self._loss, norm, weights, lambda: "its pairs")

    def add(self, logs: Mapping[str, Any], step: int, epoch: float, waits: bool) -> None:
        """A step's row; with `waits` it is held until what it is measured by is there."""
        now = time.perf_counter()
        row = {"step": step, "steps": self.steps, "epoch": max(0, math.ceil(round(epoch, 6)) - 1)}
        row |= {name: float(logs[key]) for key, name in _ROW.items() if key in logs}
        row |= {"tokens": self._tokens, "tokens_per_second": round(self._tokens / max(1e-9, now - self._at), 1),
                "seconds": round(self._spent + now - self._began - self.control.paused_seconds, 3)}
        self._held, self.step = row, step
        self.restart()
        if not waits:
            self.write_held()

    def measured(self, metrics: Mapping[str, Any]) -> None:
        """Take what the held row's step is measured by, and write it."""
        if self._held is not None:
            found = {name: float(metrics[f"eval_{key}"]) for key, name in _ROW.items() if f"eval_{key}" in metrics}
            self._held |= {"validation_loss": found.pop("loss"), "validation": found}
        self.write_held()
        self._at = time.perf_counter()

    def write_held(self) -> None:
        if self._held is None:
            return
        row, self._held = self._held, None
        self._write(row)
        if self._on_step:
            self._on_step(row)

    @property
    def waits(self) -> bool:
        """Whether a step's row is held until what it is measured by is there."""
        return self._held is not None


def callback(rows: Rows, folder: Path, key: str, measures: bool) -> Any:
    """`rows` as transformers' trainer calls it.

    Args:
        folder: the run's, for a last checkpoint.
        key: how people name the run.
        measures: whether there are pairs to measure on.
    """
    from transformers import TrainerCallback

    class Follow(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **_):
            import torch

            weights = learning(model)
            norm = torch.nn.utils.get_total_norm([value.grad for value in weights.values() if value.grad is not None])
            end = rows.end_of(state.global_step + 1, norm.item(), weights)
            if end is None:
                return
            model.zero_grad()
            if end.sound:
                checkpoint.save(folder, state.global_step, weights, bare(optimizer))
            raise LabError(f"run {key}: {end.why}")

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                if rows.control.take_evaluate() and measures:
                    control.should_evaluate = True
                rows.add(logs, state.global_step, state.epoch, control.should_evaluate)
            elif "eval_loss" in logs:
                rows.measured(logs)
            if not rows.waits:
                control.should_training_stop |= rows.control.stopped
                control.should_save |= rows.control.stopped or rows.control.paused

        def on_save(self, args, state, control, **_):
            rows.control.wait_while_paused()  # after a checkpoint: who pauses may switch the machine off
            control.should_training_stop |= rows.control.stopped

    return Follow()


def learning(model: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """The weights that learn, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def bare(optimiser: Any) -> Any:
    """The optimiser without Accelerate's wrapper."""
    return getattr(optimiser, "optimizer", optimiser)
