"""Where the figures of a training go besides metrics.jsonl: TensorBoard's files, and experiment trackers where they are installed.

A tracker only receives. The run's folder stays the truth: where a training goes on after a kill, a tracker gets the rows until then once
more, and `export` sends a run that was trained without one.
"""

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from labkit.errors import LabError
from labkit.runs import Run
from labkit.training import recipe as recipes

Row = dict[str, Any]

_SEND_SECONDS = 2.0


class Tracker(Protocol):
    """What a tracker must do."""

    def start(self, run: Run, settings: dict[str, Any], before: list[Row]) -> None:
        """A training begins, or goes on after the rows in `before`. `settings` are the recipe's."""

    def log(self, row: Row) -> None:
        """A row of metrics.jsonl."""

    def finish(self) -> None:
        """No more rows come, from this process at least."""


class MLflow:
    """MLflow, into a local database, `mlflow.sqlite` beside the runs (`mlflow ui --backend-store-uri sqlite:///…` shows it), or where
    MLFLOW_TRACKING_URI says. A training that goes on is a new MLflow run with all rows; the one that it replaces goes into MLflow's bin."""

    def start(self, run: Run, settings: dict[str, Any], before: list[Row]) -> None:
        import mlflow

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(f"sqlite:///{run.folder.parent.parent.resolve() / 'mlflow.sqlite'}")
        experiment = mlflow.set_experiment(run.folder.parent.name).experiment_id
        self._client, self._waiting, self._sent = mlflow.MlflowClient(), [], time.monotonic()
        if before:
            for earlier in self._client.search_runs([experiment], f"tags.labkit_run = '{run.key}'"):
                self._client.delete_run(earlier.info.run_id)
        self._id = self._client.create_run(experiment, tags={"labkit_run": run.key}, run_name=run.folder.name).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._id, name, value)
        for row in before:
            self.log(row)

    def log(self, row: Row) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._waiting += [Metric(name, value, now, row["step"]) for name, value in numbers(row).items()]
        if time.monotonic() - self._sent >= _SEND_SECONDS or len(self._waiting) > 900:
            self._send()

    def finish(self) -> None:
        self._send()
        self._client.set_terminated(self._id)

    def _send(self) -> None:
        """Together: each call is a transaction, and a step may take a few milliseconds. A call takes at most 1,000."""
        if self._waiting:
            self._client.log_batch(self._id, metrics=self._waiting)
        self._waiting, self._sent = [], time.monotonic()


class WeightsAndBiases:
    """Weights & Biases, offline (a folder `wandb` in the run's; `wandb sync` sends it) unless WANDB_MODE says otherwise. A
    training that goes on is a further W&B run, with all rows."""

    def start(self, run: Run, settings: dict[str, Any], before: list[Row]) -> None:
        import wandb

        self._run = wandb.init(project=run.folder.parent.name, name=run.folder.name, config=settings, dir=run.folder,
                               mode=os.environ.get("WANDB_MODE", "offline"))
        for row in before:
            self.log(row)

    def log(self, row: Row) -> None:
        self._run.log(numbers(row), step=row["step"])

    def finish(self) -> None:
        self._run.finish()


class Trackio:
    """Trackio, into its local database (`trackio show` shows it). A training that goes on is a further Trackio run, with all rows."""

    def start(self, run: Run, settings: dict[str, Any], before: list[Row]) -> None:
        import trackio

        self._trackio = trackio
        trackio.init(project=run.folder.parent.name, name=run.folder.name, config=settings, resume="never", embed=False)
        for row in before:
            self.log(row)

    def log(self, row: Row) -> None:
        self._trackio.log(numbers(row), step=row["step"])

    def finish(self) -> None:
        self._trackio.finish()


def _tensorboard() -> Tracker:
    from labkit.training.watching.tensorboard import TensorBoard

    return TensorBoard()


_KNOWN: dict[str, tuple[Callable[[], Tracker], str, str]] = {  # name: (how it is made, the module it needs, the package that brings it)
    "tensorboard": (_tensorboard, "tensorboardX", "tensorboardX"),
    "mlflow": (MLflow, "mlflow", "mlflow"),
    "wandb": (WeightsAndBiases, "wandb", "wandb"),
    "trackio": (Trackio, "trackio", "trackio"),
}
NAMES = tuple(_KNOWN)


def make(name: str) -> Tracker:
    """The tracker of this name; LabError where there is none, or where its package is not installed."""
    if name not in _KNOWN:
        raise LabError(f"there is no tracker {name!r}; known: {', '.join(NAMES)}")
    build, module, package = _KNOWN[name]
    if importlib.util.find_spec(module) is None:
        raise LabError(f"tracker {name} needs a package that is not installed; run: pip install {package}")
    return build()


@contextlib.contextmanager
def watchers(trackers: Iterable[str | Tracker], run: Run, say: Callable[[str], None] | None = None) -> Iterator[Callable[[Row], None]]:
    """`on_step` for `trainer.train`, which hands each row to all trackers (by name, or your own).

    A tracker that fails is told of and left out from then on: the training is worth more than a picture of it, and `export` sends the run
    later.

    Args:
        run: the run that is trained; its recipe must be written when the first row comes.
        say: told what failed; by default printed on the error stream.

    Raises:
        LabError: a tracker is unknown or not installed, before anything is trained.
    """
    made = [(each if isinstance(each, str) else type(each).__name__, make(each) if isinstance(each, str) else each) for each in trackers]
    say = say or (lambda line: print(line, file=sys.stderr))
    working: list[tuple[str, Tracker]] = []
    begun = False

    def attempt(name: str, tracker: Tracker, act: Callable[[], None]) -> bool:
        try:
            act()
            return True
        except Exception as error:  # whatever a foreign package raises
            say(f"tracker {name} failed and gets no more rows of run {run.key}: {type(error).__name__}: {error}")
            return False

    def on_step(row: Row) -> None:
        nonlocal begun, working
        if not begun:
            begun = True
            settings = recipes.plain(recipes.read(run.folder / "recipe.toml"))
            before = [old for old in run.metrics() if old["step"] < row["step"]]
            working = [each for each in made if attempt(*each, lambda each=each: each[1].start(run, settings, before))]
        working = [each for each in working if attempt(*each, lambda each=each: each[1].log(row))]

    try:
        yield on_step
    finally:
        for each in working:
            attempt(*each, each[1].finish)


def export(trackers: Iterable[str | Tracker], run: Run) -> int:
    """Send a run that is there already; the number of rows sent.

    Raises:
        LabError: a tracker is unknown or not installed, or the run has no metrics.
    """
    rows = run.metrics()
    if not rows:
        raise LabError(f"run {run.key} has no metrics yet")
    settings = recipes.plain(recipes.read(run.folder / "recipe.toml"))
    for each in [make(each) if isinstance(each, str) else each for each in trackers]:
        each.start(run, settings, rows[:-1])
        try:
            each.log(rows[-1])
        finally:
            each.finish()
    return len(rows)


def numbers(row: Row) -> dict[str, float]:
    """The figures of a row by name; those of a measurement as `validation/NAME`.

    Example:
        >>> numbers({"step": 3, "steps": 9, "epoch": 0, "loss": 0.5, "validation_loss": 0.7, "validation": {"f1": 0.9}, "answers": []})
        {'epoch': 0, 'loss': 0.5, 'validation_loss': 0.7, 'validation/f1': 0.9}
    """
    flat = {**row, **{f"validation/{name}": value for name, value in (row.get("validation") or {}).items()}}
    return {name: value for name, value in flat.items() if type(value) in (int, float) and name not in ("step", "steps")}


def folder_of(run: Run) -> Path:
    """Where TensorBoard's files of a run lie: `tensorboard --logdir` shows one such folder, or a folder of many runs."""
    return run.folder / "tensorboard"
