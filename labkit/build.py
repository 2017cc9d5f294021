"""From sample data, or somebody's own file, to a trained and evaluated run: what `labkit build` and `make lab` do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import process, runs, scenarios
from labkit import records as recs
from labkit.data import own
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


def from_file(name: str, path: str, mapping: str, run_name: str, say: Say = print) -> Source:
    """Somebody's own file as the data of a scenario's run; says what was taken and what was not."""
    scenario = scenarios.load(name)
    imported = own.read(path, scenario, own.parse_mapping(mapping, scenario))
    counts = {split: imported.records["split"].count(split) for split in ("train", "validation", "test")}
    say(f"{path}: {len(imported.records)} rows became records "
        f"({counts['train']} train, {counts['validation']} validation, {counts['test']} test)")
    rejects = None
    if imported.rejects:
        rejects = runs.folder_for(name, run_name) / "rejects.jsonl"
        own.write_rejects(imported.rejects, rejects)
        for reject in imported.rejects[:5]:
            say(f"  line {reject['line']}: {reject['problem']}")
        say(f"  {len(imported.rejects)} rows did not work; all are in {rejects}")
    return Source(imported.scenario, imported.records, rejects)


def is_current(run: Run) -> bool:
    """Whether a run is finished, sound, and evaluated with the weights it has now."""
    if run.state() != "done":
        return False
    found = run.evaluation()
    return bool(found) and found.get("adapter") == run.manifest()["adapter"]["sha256"]


def build(recipe: Recipe, source: Source, on_step: Callable[[dict[str, Any]], None] | None = None,
          on_prepare: Callable[[int, int], None] | None = None, say: Say = print) -> Run:
    """Train what is missing of one run and evaluate it; a run that is finished and evaluated is given back as it is."""
    from labkit.evaluation import report
    from labkit.training import trainer

    run = trainer.train(recipe, source.records, source.scenario, on_step, on_prepare)
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
