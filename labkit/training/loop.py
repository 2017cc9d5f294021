"""The loop that every training shares: batch by batch, with checkpoints, measurements, early stopping and a way to steer it.

It knows a `Learner`, an optimiser and a schedule, and nothing about models, texts or tasks. What can go wrong on the way ends with a
checkpoint and a sentence that says what happened: a loss that is no number or runs away, memory that does not suffice (the
micro-batch is halved first), a full disk.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from labkit import process
from labkit.errors import LabError
from labkit.training import checkpoint, metrics_file, optimisers, schedules, sharding
from labkit.training.averaging import Averages
from labkit.training.control import Control
from labkit.training.early_stopping import EarlyStopping, Verdict, mode_of
from labkit.training.learner import Learner, Passed
from labkit.training.recipe import Recipe
from labkit.training.watching import memory
from labkit.training.watching.ending import Ending
from labkit.training.world import World

OnStep = Callable[[dict[str, Any]], None]
Found = TypeVar("Found")


@dataclass
class Loop:
    """One training.

    Attributes:
        folder: the run's folder, for metrics.jsonl and the checkpoint.
        key: how people name the run.
        on_step: called with each row of metrics.jsonl as it is written.
        kept_step: after `run`, the step whose weights were kept, where early stopping chose them; None: the last one's.
    """

    recipe: Recipe
    learner: Learner
    folder: Path
    key: str
    on_step: OnStep | None = None
    control: Control = field(default_factory=Control)
    world: World = field(default_factory=World)
    kept_step: int | None = field(default=None, init=False)

    def run(self) -> bool:
        """Run the steps that are left; False when stopped before the last. Leaves the weights to be saved in the learner.

        Raises:
            LabError: the loss is no number or runs away, memory does not suffice for one record, or the disk is full.
        """
        recipe = self.recipe
        self._plan = self.learner.plan()
        if recipe.max_steps:
            self._plan = self._plan[: recipe.max_steps]
        self._optimiser = optimisers.build(recipe.optimiser, self.learner.groups(), recipe.learning_rate, beta1=recipe.beta1,
                                           beta2=recipe.beta2, weight_decay=recipe.weight_decay, momentum=recipe.momentum)
        self._averages = Averages(self.learner.masters, recipe.ema) if recipe.ema else None
        self._stopping = EarlyStopping(recipe.patience, mode=mode_of(recipe.monitor))
        done = checkpoint.load(self.folder, self.learner.masters, self._optimiser, self._averages, self._stopping)
        self.learner.push()
        rows = self.world.agreed(metrics_file.rewind(self.folder / "metrics.jsonl", done) if self.world.is_first else None)
        self._spent = rows[-1]["seconds"] if rows else 0.0
        self._ending = Ending(recipe, [row["loss"] for row in rows])
        self._began = time.perf_counter()
        finished = self._steps(done)
        if finished:
            self._settle()
        return finished

    def _steps(self, done: int) -> bool:
        plan, ends = self._plan, self._measured_after()
        with self._metrics() as write:
            row: dict[str, Any] | None = None
            for index in range(done, len(plan)):
                if self.world.agreed(self.control.paused) and self._halted(index, row):
                    return False
                row = self._one(index)
                asked_to_measure = self.world.agreed(self.control.take_evaluate())
                verdict = None
                if index in ends or asked_to_measure:
                    verdict = self._measure(row, counts=index in ends)
                row["memory_gb"] = round(memory.resident_gb(), 3)
                if (device := memory.device_gb()) is not None:
                    row["gpu_memory_gb"] = round(device[0], 3)
                row["seconds"] = round(self._spent + time.perf_counter() - self._began - self.control.paused_seconds, 3)
                write(row)
                if self.on_step and self.world.is_first:
                    self.on_step(row)
                late = bool(self.recipe.max_seconds) and row["seconds"] >= self.recipe.max_seconds
                late, asked = self.world.agreed((late or verdict is Verdict.STOP, self.control.stopped))
                if late or asked or (index + 1) % self.recipe.checkpoint_steps == 0:
                    self._checkpoint(index + 1)
                    process.release_memory()
                if late:
                    return True
                if asked:
                    return index + 1 == len(plan)
        return True

    def _halted(self, index: int, last: dict[str, Any] | None) -> bool:
        """Wait while paused, with a checkpoint, for who pauses may switch the machine off; whether training was stopped meanwhile. A
        measurement that is asked for is shown beside the last step's figures; as it belongs to no step, it is not written."""
        def measure() -> None:
            row = {**(last or {}), "step": index, "steps": len(self._plan)}
            self._measure(row, counts=False)
            if self.on_step and self.world.is_first and last:
                self.on_step(row)

        self._checkpoint(index)
        self.control.wait_while_paused(evaluate=measure if self.world.size == 1 else None)
        return self.world.agreed(self.control.stopped)

    def _measured_after(self) -> set[int]:
        """The steps after which the validation records are measured: the last of each epoch, or every so many, and the very last."""
        plan, every = self._plan, self.recipe.evaluate_steps
        if every:
            return {index for index in range(len(plan)) if (index + 1) % every == 0 or index + 1 == len(plan)}
        return {index for index in range(len(plan)) if index + 1 == len(plan) or plan[index + 1][0] != plan[index][0]}

    def _one(self, index: int) -> dict[str, Any]:
        """One optimiser step; gives its row."""
        recipe, masters = self.recipe, self.learner.masters
        epoch, rows = self._plan[index]
        at = time.perf_counter()
        passed = self.passed(rows, index)
        self._add_up()
        norm = sharding.clip(masters.values(), recipe.clip or math.inf)
        self._check(index, rows, passed.loss, norm)
        rate = recipe.learning_rate * schedules.of_recipe(recipe, index, len(self._plan))
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["faster"]
        if recipe.schedule == "one_cycle":
            optimisers.set_momentum(self._optimiser, schedules.momentum_of_recipe(recipe, index, len(self._plan)))
        self._optimiser.step()
        if self._averages:
            self._averages.update()
        self.learner.push()
        seconds = time.perf_counter() - at
        return {"step": index + 1, "steps": len(self._plan), "epoch": epoch, "loss": passed.loss, "learning_rate": rate,
                "gradient_norm": norm, "tokens": passed.tokens, "tokens_per_second": round(passed.tokens / seconds, 1), **passed.more}

    def _add_up(self) -> None:
        """Make the gradients those of the whole batch in every process, also in one that had no record of it. Divided ones are already."""
        if self.world.size == 1:
            return
        import torch

        for value in self.learner.masters.values():
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad
        self.world.add_up(value.grad for value in self.learner.masters.values() if not sharding.is_divided(value))

    def passed(self, rows: list[int], index: int) -> Passed:
        """The batch there and back; where memory does not suffice, in parts half the size, which add up to the same gradient."""
        of_step = lambda: f"step {index + 1} ({', '.join(self.learner.name_rows(rows)[:4])})"  # noqa: E731
        return self._fitting(lambda: self.learner.step(rows, index, self.world), of_step, self.learner.tokens_of(rows))

    def _fitting(self, work: Callable[[], Found], name: Callable[[], str], tokens: int) -> Found:
        """What the work gives, done in parts half the size (`micro_tokens`) where memory does not suffice.

        Args:
            name: what it is of, for a person.
            tokens: how many there are in all.
        """
        import torch

        while True:
            state = torch.get_rng_state()
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                if self.world.size > 1:  # the others are in the midst of theirs
                    raise LabError(f"run {self.key}: memory does not suffice for {name()} in one of {self.world.size} processes; lower "
                                   f"micro_tokens ({self.learner.micro_tokens}), then go on with the same command") from None
                if self.learner.micro_tokens <= 1:
                    raise LabError(f"run {self.key}: memory does not suffice for a single record of {name()}; "
                                   "lower max_tokens or layers") from None
            self.learner.drop_gradients()
            self.learner.micro_tokens = max(1, min(self.learner.micro_tokens, tokens) // 2)
            torch.set_rng_state(state)
            memory.make_room()

    def _check(self, index: int, rows: list[int], loss: float, norm: float) -> None:
        """Stop with a diagnosis where the loss or its gradient is no number, or the loss runs away. The weights are those before the
        step."""
        batch = lambda: ", ".join(self.learner.name_rows(rows)[:4])  # noqa: E731
        end = self._ending.see(index + 1, loss, norm, self.learner.masters, batch)
        if end is None:
            return
        self.learner.drop_gradients()
        if end.sound:
            self._checkpoint(index)
        raise LabError(f"run {self.key}: {end.why}")

    def _measure(self, row: dict[str, Any], counts: bool) -> Verdict | None:
        """Measure on the validation records into the row; the verdict where it counts for early stopping."""
        with self._as_saved():
            takes_part = self.world.is_first or self.recipe.shard  # a divided model runs in all processes or in none
            measured = lambda: (self.learner.measure(), self.learner.answers())  # noqa: E731
            found, answers = {}, []
            if takes_part:
                found, answers = self._fitting(measured, lambda: "the validation records", self.learner.micro_tokens)
            if "validation_loss" in found:
                row["validation_loss"] = found.pop("validation_loss")
            if found:
                row["validation"] = found
            if answers:
                row["answers"] = answers
            if not counts or not self.recipe.patience:
                return None
            known = {**found, **({"validation_loss": row["validation_loss"]} if "validation_loss" in row else {})}
            if self.world.is_first and self.recipe.monitor not in known:
                there = ", ".join(sorted(known)) or "no validation data"
                raise LabError(f"recipe: monitor {self.recipe.monitor!r} is not measured here; there is {there}")
            value = self.world.agreed(known.get(self.recipe.monitor))
            verdict = self._stopping.see(row["step"], value)
            if verdict is Verdict.BETTER:
                checkpoint.save_best(self.folder, self.learner.masters, writes=self.world.is_first)
            return verdict

    @contextlib.contextmanager
    def _as_saved(self) -> Iterator[None]:
        """The weights as they would be saved now: averaged where the recipe says so."""
        with optimisers.averaged(self._optimiser), self._averages.swapped() if self._averages else contextlib.nullcontext():
            self.learner.push()
            yield
        self.learner.push()

    def _settle(self) -> None:
        """Leave the weights to be saved in the learner: the best ones, the averages, or the last."""
        if self.recipe.patience and checkpoint.load_best(self.folder, self.learner.masters):
            self.learner.push()
            self.kept_step = self._stopping.best_step
            return
        optimisers.settle(self._optimiser)
        if self._averages:
            self._averages.settle()
        self.learner.push()

    def _checkpoint(self, step: int) -> None:
        checkpoint.save(self.folder, step, self.learner.masters, self._optimiser, self._averages, self._stopping, self.world.is_first)

    @contextlib.contextmanager
    def _metrics(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        if not self.world.is_first:
            yield lambda row: None
            return
        with metrics_file.appending(self.folder / "metrics.jsonl") as write:
            yield write
