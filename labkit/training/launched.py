"""One of several processes that train a run together, started by torchrun or accelerate on one machine or several; see `launch`."""

import argparse
import contextlib
import functools
import sys

from labkit import process
from labkit.errors import LabError


def main() -> None:
    """Train the recipe in this process's share; a user's mistake is one line and exit code 2, as on the command line."""
    process.prepare()
    parser = argparse.ArgumentParser(prog="python -m labkit.training.launched", description=__doc__)
    parser.add_argument("recipe", help="A recipe file (TOML), the same for all processes.")
    parser.add_argument("--source", help="Prepared records (JSONL) in place of the scenario's samples.")
    parser.add_argument("--data", help="A task's own data in place of a scenario, as for `labkit train`.")
    parser.add_argument("--track", action="append", default=[], help="Where figures go too; may be given several times.")
    parser.add_argument("--language", default="en", help="The language of what is shown: en or zh.")
    chosen = parser.parse_args()
    try:
        _train(chosen.recipe, chosen.source, chosen.data, chosen.track, chosen.language)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _train(path: str, source: str | None, data: str | None, trackers: list[str], language: str) -> None:
    from labkit import files, records, runs, scenarios
    from labkit.cli_train import watched
    from labkit.cli_words import checked_language
    from labkit.training import presets, trainer, world
    from labkit.training import recipe as recipes
    from labkit.training.control import Control, interruptible
    from labkit.training.tasks import formats

    if data and source:
        raise LabError("--data is in place of --source; give one of them")
    checked_language(language)
    loaded = formats.named(data) if data else None
    recipe = presets.from_dict(files.read_toml(path), loaded, path) if loaded else recipes.read(path)
    together = world.joined()
    say = functools.partial(print, flush=True)
    control, run = Control(), runs.Run(runs.folder_for(recipe.scenario, recipe.name))
    shown = watched(run, recipe, trackers, language) if together.is_first else contextlib.nullcontext((None, None))
    with interruptible(control), shown as (on_prepare, on_step):
        if loaded:
            trainer.train_task(recipe, loaded, on_step, on_prepare, control, say=say)
        else:
            scenario = scenarios.load(recipe.scenario)
            rows = records.read(source, scenario) if source else records.samples(scenario)
            trainer.train(recipe, rows, scenario, on_step, on_prepare, control=control, say=say)
    world.leave(together)


if __name__ == "__main__":
    main()
