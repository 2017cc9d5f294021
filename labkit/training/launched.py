"""One of several processes that train a run together; see `launch`. Started as `-m labkit.training.launched RECIPE.toml`."""

import argparse
import contextlib
import sys

from labkit import process


def main() -> None:
    """Train the recipe in this process's share; a user's mistake is one line and exit code 2, as on the command line."""
    process.prepare()
    from labkit.errors import LabError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--source")
    parser.add_argument("--data")
    chosen = parser.parse_args()
    try:
        _train(chosen.recipe, chosen.source, chosen.data)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _train(path: str, source: str | None, data: str | None) -> None:
    from labkit import records, runs, scenarios
    from labkit.cli_train import watched
    from labkit.training import recipe as recipes
    from labkit.training import trainer, world
    from labkit.training.control import Control, interruptible

    recipe = recipes.read(path)
    together = world.joined()
    control, run = Control(), runs.Run(runs.folder_for(recipe.scenario, recipe.name))
    shown = watched(run, recipe, []) if together.is_first else contextlib.nullcontext((None, None))
    with interruptible(control), shown as (on_prepare, on_step):
        if data:
            from labkit.training.tasks import formats

            trainer.train_task(recipe, formats.named(data), on_step, on_prepare, control)
        else:
            scenario = scenarios.load(recipe.scenario)
            rows = records.read(source, scenario) if source else records.samples(scenario)
            trainer.train(recipe, rows, scenario, on_step, on_prepare, control=control)
    world.leave(together)


if __name__ == "__main__":
    main()
