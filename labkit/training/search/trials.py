"""A trial that is a training: settings in, what it reached on the validation records out.

Trials keep their runs in a folder of their own, outside the lab's catalogue, and share what the frozen layers gave (`prefix_store`)
wherever they adapt the same layers. A run is deleted once its trial has ended, and what was kept for it when the search has.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files, places, process
from labkit.errors import LabError
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training.early_stopping import mode_of
from labkit.training.recipe import Recipe
from labkit.training.search.space import Settings, apply
from labkit.training.search.study import Report

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.training.tasks.formats import TaskData


@dataclass(frozen=True)
class Training:
    """Trains the recipe with the settings given; may be pickled, so that several workers can have it.

    Attributes:
        data: the scenario's records; without a scenario a task's own data.
        folder: where the trials' runs lie while they go: `FOLDER/SCENARIO/trial-…/`.
        keep: whether they stay there.
    """

    recipe: Recipe
    data: "Dataset | TaskData"
    scenario: Scenario | None
    folder: Path
    keep: bool = False

    def name(self, settings: Settings) -> str:
        """The name of these settings' run: a trial whose worker died goes on from its last checkpoint when it is tried again."""
        content = files.canonical_json([str(Path(self.folder).resolve()), settings])
        return f"trial-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def __call__(self, settings: Settings, report: Report) -> float:
        """Train; report the recipe's `monitor` each time it is measured, by the number of the measurement (from 1).

        Returns:
            the last measurement; where the recipe keeps its best weights (`patience`), the best.

        Raises:
            optuna.TrialPruned: as `report` does, but for the last measurement: then the training is paid for.
            LabError: as `trainer.train` does, or nothing was measured.
        """
        from labkit.training import trainer

        recipe = apply(self.recipe, settings, name=self.name(settings))
        run = Run(Path(self.folder) / recipe.scenario / recipe.name)
        watching = _Watching(recipe.monitor, run, report)
        try:
            with process.environment("LABKIT_RUNS", str(self.folder)):
                if self.scenario is None:
                    trainer.train_task(recipe, self.data, on_step=watching, say=None)
                else:
                    trainer.train(recipe, self.data, self.scenario, on_step=watching, say=None)
            values = [value for row in run.metrics() if (value := measured(row, recipe.monitor)) is not None]
        except Exception:
            self._end(run)
            raise  # what is no Exception (the search was stopped) leaves the run, which then goes on with the search
        finally:
            process.release_memory()
        self._end(run)
        if not values:
            raise LabError(f"search: {recipe.monitor} was never measured; are there validation records? is it a metric of the task?")
        if not recipe.patience:
            return values[-1]
        return min(values) if direction(recipe) == "minimise" else max(values)

    def _end(self, run: Run) -> None:
        if not self.keep:
            shutil.rmtree(run.folder, ignore_errors=True)


def trial_of(recipe: Recipe, data: "Dataset | TaskData", scenario: Scenario | None, folder: str | os.PathLike,
             keep: bool = False) -> Training:
    """A trial that trains this recipe on a scenario's records or, without a scenario, on a task's own data, for `workers.search`.

    Raises:
        LabError: the recipe does not fit the task's data, or that has nothing to compare trials on.
    """
    if scenario is None:
        from labkit.training.tasks import of_data

        of_data.check(recipe, data)
        if of_data.validation_of(data) is None:
            raise LabError(f"search: {data.name} has no validation split with answers, on which trials could be compared")
    return Training(recipe, data, scenario, Path(folder), keep)


def direction(recipe: Recipe) -> str:
    """`minimise` losses and errors, `maximise` every other `monitor`."""
    return "minimise" if mode_of(recipe.monitor) == "min" else "maximise"


def measured(row: dict[str, Any], monitor: str) -> float | None:
    """The monitor's value in a row of metrics.jsonl; None where it was not measured at that step."""
    if monitor in row:
        return row[monitor]
    return (row.get("validation") or {}).get(monitor)


def forget(trial: Training, tried: Iterable[Settings]) -> int:
    """Delete what the frozen layers gave for trials of these settings; gives how many stores that were. Only when no trial runs."""
    root, deleted = places.cache_folder() / "frozen", 0
    owners = {f"{trial.recipe.scenario}/{trial.name(settings)}" for settings in tried}
    for manifest in root.glob("*/manifest.json"):
        if str(files.read_json(manifest).get("owner", "")).split(":")[0] in owners:
            shutil.rmtree(manifest.parent, ignore_errors=True)
            deleted += 1
    return deleted


class _Watching:
    """`on_step` of a trial: reports what is measured, first what was measured before the training was killed and went on."""

    def __init__(self, monitor: str, run: Run, report: Report) -> None:
        self.monitor, self.run, self.report = monitor, run, report
        self.count, self.began = 0, False

    def __call__(self, row: dict[str, Any]) -> None:
        import optuna

        if not self.began:
            self.began = True
            for earlier in self.run.metrics():
                if earlier["step"] < row["step"]:
                    with contextlib.suppress(optuna.TrialPruned):
                        self._look(earlier)
        with contextlib.suppress(optuna.TrialPruned) if row["step"] == row["steps"] else contextlib.nullcontext():
            self._look(row)

    def _look(self, row: dict[str, Any]) -> None:
        value = measured(row, self.monitor)
        if value is not None:
            self.count += 1
            self.report(self.count, value)
