"""All of a search in one call: what `labkit search` does. Search, repeat seeds, write the report."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files, models, places, runs
from labkit import records as recs
from labkit.errors import LabError
from labkit.scenarios import Scenario
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.search import noise as noises
from labkit.training.search import report as reports
from labkit.training.search import space as spaces
from labkit.training.search import trials as trainings
from labkit.training.search import workers as working
from labkit.training.search.study import Row
from labkit.training.tasks import of_data

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.training.tasks.formats import TaskData

OnTrial = Callable[[Row], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A search that has ended: where it lies, its report, and the files of it (by name)."""

    folder: Path
    report: dict[str, Any]
    paths: dict[str, Path]


def run(recipe_path: str | os.PathLike, data: "Dataset | TaskData", scenario: Scenario | None = None, *, trials: int = 20,
        seconds: float = 0.0, workers: int = 1, sampler: str = "tpe", pruner: str = "asha", reduction: int = 3, storage: str = "",
        seed: int = 0, seeds: int = 3, keep: bool = False, folder: str | os.PathLike | None = None, language: str = "en",
        on_trial: OnTrial | None = None, say: Say = print, stop: threading.Event | None = None) -> Done:
    """Search over the `[search]` table of a recipe's file; where such a search was begun before, go on with it.

    The recipe's own settings are the first trial. The best settings and the recipe's own are then trained again with new seeds.

    Args:
        data: the scenario's records; without a scenario a task's own data, see `space.read`.
        trials, seconds, workers, sampler, pruner, reduction, storage, seed: see `workers.search` and `plan.Plan`.
        seeds: how many seeds both are trained with again; 0: none, and the report says that nobody knows what is noise.
        keep: whether the trials' runs stay, in `FOLDER/trials/`.
        folder: of the search; by default `runs/searches/SCENARIO/NAME` of the recipe.
        say: called with a line now and then, for a person.

    Raises:
        LabError: what `space.read`, `trials.trial_of`, `workers.search` and `noise.repeat` refuse, or the recipe is of another scenario.
    """
    recipe, space = spaces.read(recipe_path, data if scenario is None else None)
    if scenario and recipe.scenario != scenario.name:
        raise LabError(f"{recipe_path}: the recipe is for {recipe.scenario}, the records are of {scenario.name}")
    if seeds == 1 or seeds < 0:
        raise LabError("search: seeds must be 0, or at least 2 to tell a gain from noise")
    folder = Path(folder) if folder is not None else folder_for(recipe)
    trial = trainings.trial_of(recipe, data, scenario, folder / "trials", keep)
    identity = {"recipe": {name: value for name, value in recipes.plain(recipe).items() if name != "name"},
                "data": recs.fingerprint(data) if scenario else of_data.fingerprint(data), "base": models.resolve(recipe.base).sha256}
    found = working.search(
        trial, space, folder=folder, trials=trials, seconds=seconds, workers=workers, on_trial=on_trial, stop=stop, sampler=sampler,
        pruner=pruner, reduction=reduction, storage=storage, seed=seed, direction=trainings.direction(recipe), identity=identity,
        name=f"{recipe.scenario}/{recipe.name}", first=(space.default(),) if space.holds(space.default()) else ())
    noise = None
    tried = [row["settings"] for row in found.rows]
    stopped = stop is not None and stop.is_set()
    if seeds and found.best and found.best["settings"] != space.default() and not stopped:
        say(f"training the best settings and the recipe's own again with {seeds} new seeds")
        noise = _repeat(found, recipe, trial, seeds, folder, workers, say)
        tried += [{**settings, "seed": each} for settings in (found.best["settings"], space.default()) for each in noise["seeds"]]
    if not stopped:
        trainings.forget(trial, tried)
    report = reports.build(found, recipe, noise=noise, language=language, seed=seed)
    paths = reports.write(report, folder)
    say(reports.sentence(report, language))
    say(reports.how_sure(report, language))
    return Done(folder, report, paths)


def folder_for(recipe: Recipe) -> Path:
    """Where a recipe's search lives: `runs/searches/SCENARIO/NAME`; LabError for names that cannot be a folder's."""
    inside = runs.folder_for(recipe.scenario, recipe.name).relative_to(places.runs_folder())
    return places.runs_folder() / "searches" / inside


def _repeat(found: working.Found, recipe: Recipe, trial: trainings.Training, seeds: int, folder: Path, workers: int,
            say: Say) -> noises.Noise:
    default = next((row["value"] for row in found.rows if row["state"] == "complete" and row["settings"] == found.space.default()), None)
    searched = {"best": found.best["value"], "default": default, "trials": found.count("complete")}
    chosen = [recipe.seed + place for place in range(1, seeds + 1)]
    tell = lambda side, seed, value: say(f"  seed {seed}, {'best' if side == 'best' else 'own'}: {value:.4g}")  # noqa: E731
    return noises.repeat(trial, found.best["settings"], found.space.default(), chosen, direction=found.direction, searched=searched,
                         folder=folder, workers=workers, on_value=tell)


def read(folder: str | os.PathLike) -> dict[str, Any]:
    """The report of a search that has ended; LabError where there is none."""
    return files.read_json(Path(folder) / "report.json")
