"""From sample data, or somebody's own file, to a trained and evaluated run: what `labkit build` and `make lab` do."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import process, runs, scenarios
from labkit import records as recs
from labkit.data import mapping as maps
from labkit.data import preparation
from labkit.data.plan import Plan
from labkit.errors import LabError
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What a run learns from: a scenario, its records, and where their rejects were written (None: none)."""

    scenario: Scenario
    records: "Dataset"
    rejects: Path | None = None


def from_samples(name: str) -> Source:
    """The lab's own sample data of a scenario."""
    scenario = scenarios.load(name)
    return Source(scenario, recs.samples(scenario))


def from_file(name: str, path: str, mapping: str | None, run_name: str, say: Say = print, plan: Plan | None = None) -> Source:
    """Somebody's own file as the data of a scenario's run; says what was taken and what was not. A file that `labkit prepare` wrote
    is taken as it is, every other one is prepared here (its account lies in the run's folder)."""
    scenario = scenarios.load(name)
    if mapping is None and plan is None and (found := preparation.from_records(path, scenario)):
        say(f"{path}: {len(found[0])} records")
        return Source(found[1], found[0])
    chosen = maps.parse(mapping, scenario) if mapping else None
    out = runs.folder_for(name, run_name) / "prepared.jsonl"
    done = preparation.prepare([path], scenario, out, mapping=chosen, plan=plan)
    say(f"{path}: {done.headline()}")
    for reject in islice(done.collected.rejects, 5):
        say(f"  row {reject['row']}: {reject['problem']}")
    if done.collected.rejects:
        say(f"  {len(done.collected.rejects)} rows did not work; all are in {done.paths.rejects}")
    say(f"  what became of every row: {done.paths.page}")
    labelled = [place for place, answer in enumerate(done.records["answer"][:]) if answer]
    if len(labelled) < len(done.records):
        say(f"  {len(done.records) - len(labelled)} records have no answer; nothing can be learned from them here")
    if not labelled:
        raise LabError(f"{path}: none of its {len(done.records)} records has an answer to learn from; map a column to a field")
    return Source(done.scenario, done.records.select(labelled), done.paths.rejects)


def is_current(run: Run) -> bool:
    """Whether a run is finished, sound, and evaluated with the weights it has now."""
    if run.state() != "done":
        return False
    found = run.evaluation()
    return bool(found) and found.get("adapter") == run.weights_sha256()


def build(recipe: Recipe, source: Source, on_step: Callable[[dict[str, Any]], None] | None = None,
          on_prepare: Callable[[int, int], None] | None = None, say: Say = print) -> Run:
    """Train what is missing of one run and evaluate it; a run that is finished and evaluated is given back as it is."""
    from labkit.evaluation import report
    from labkit.training import trainer

    run = trainer.train(recipe, source.records, source.scenario, on_step, on_prepare, say=say)
    process.release_memory()
    if not is_current(run):
        recs.write(source.records, run.folder / "records.jsonl")
        say(f"{run.key}: evaluating on {source.records['split'].count('test')} test records")
        report.evaluate(run, source.records)
        process.release_memory()
    return run


def recipe_for(name: str, run_name: str = "default", **changes: Any) -> Recipe:
    """The lab's recipe for a scenario with some settings changed; None leaves a setting as it is."""
    known = {key: value for key, value in changes.items() if value is not None}
    if unknown := set(known) - set(Recipe.__dataclass_fields__):
        raise LabError(f"{', '.join(sorted(unknown))} is not a setting of a recipe")
    return Recipe(scenario=name, name=run_name, **known)
