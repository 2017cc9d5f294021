"""`labkit train`, `search`, `prefer` and `runs`: training in all its forms, steering what runs, explaining what ran."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit.cli_words import Base, Settings, checked_language, settings
from labkit.errors import LabError

runs_app = typer.Typer(invoke_without_command=True, help="List the runs with their state; steer one that is being trained.")

Scenario = Annotated[str | None, typer.Option("--scenario", "-s", help="The scenario.")]
RecipeFile = Annotated[Path | None, typer.Option(help="A recipe file (TOML); --set changes it.")]
Name = Annotated[str | None, typer.Option(help="The run's name.")]
Source = Annotated[str | None, typer.Option(help="Prepared records (JSONL) in place of the scenario's samples.")]
Language = Annotated[str, typer.Option(help="The language of what is shown: en or zh.")]
Data = Annotated[str | None, typer.Option(help="A task's own data: samples/NAME, glue/NAME, squad, squad_v2, conll2003, …; with "
                                               "=FOLDER for files of your own. In place of a scenario.")]


def train(scenario: Scenario = None, recipe: RecipeFile = None, name: Name = None, set: Settings = None, base: Base = None,
          source: Source = None, data: Data = None,
          task: Annotated[str | None, typer.Option(help="chat, classify, multi_label, regress, tag, span or embed.")] = None,
          minutes: Annotated[float | None, typer.Option(
              min=0.1, help="Measure this machine for ten seconds, and choose number format, batch and layers that fit into so many "
                            "minutes (chat only).")] = None,
          track: Annotated[list[str] | None, typer.Option(help="Where figures go too: tensorboard, mlflow, wandb, trackio.")] = None,
          launcher: Annotated[str, typer.Option(help="none, or accelerate: several processes on this machine.")] = "none",
          nproc: Annotated[int, typer.Option(min=1, help="Processes of --launcher accelerate on this machine.")] = 1,
          find_rate: Annotated[bool, typer.Option("--find-rate", help="Sweep the learning rate over the recipe's own batches, show the "
                                                                      "losses and which rate to begin with, and end.")] = False,
          dry_run: Annotated[bool, typer.Option("--dry-run", help="Show recipe, data and what is cut off, and end.")] = False,
          language: Language = "en") -> None:
    """Train one run, or go on with it; see `labkit evaluate` for what comes next.

    A classifier on a task's samples: labkit train --data samples/sentiment

    On several machines that share the runs folder (LABKIT_RUNS), start on each: torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4
    --rdzv-endpoint HOST:PORT -m labkit.training.launched RECIPE.toml (also with --data, --source, --track, --language)
    """
    from labkit.training import launch

    language = checked_language(language)
    if find_rate and (launcher != "none" or track or dry_run):
        raise LabError("--find-rate trains nothing that lasts, in one process; leave out --launcher, --track and --dry-run")
    chosen, records, spec, task_data = _chosen(scenario, recipe, name, set, base, source, data, task)
    if minutes:
        chosen = _calibrated(chosen, records, spec, minutes)
    if find_rate:
        _find_rate(chosen, records if task_data is None else task_data, spec, language)
        return
    if dry_run:
        _show_plan(chosen, records, spec, task_data)
        return
    if launcher != "none":
        launch.check(launcher)
        launch.run(chosen, source, data, nproc, track or [], language)
        return
    run = _trained(chosen, records, spec, task_data, track or [], language)
    typer.echo(f"{run.key}: {'trained' if run.state() == 'done' else 'stopped; the same command goes on'}; {run.folder}")


def _chosen(scenario, recipe, name, set, base, source, data, task):
    """(recipe, records, scenario, task data) from what was given; the last is None for a scenario's records, else the two before it."""
    from labkit import files, scenarios
    from labkit import records as recs
    from labkit.training import presets
    from labkit.training import recipe as recipes

    changes = {"name": name, "base": base, "scenario": scenario, "task": task, **settings(set)}
    changes = {key: value for key, value in changes.items() if value is not None}
    where = str(recipe) if recipe else "train"
    if data:
        from labkit.training.tasks import formats

        if scenario or source:
            raise LabError("--data is in place of --scenario and --source; give one of them")
        loaded = formats.named(data)
        return presets.from_dict({**(files.read_toml(recipe) if recipe else {}), **changes}, loaded, where), None, None, loaded
    start = plain = recipes.plain(recipes.read(recipe)) if recipe else {}
    wanted = changes.get("task", plain.get("task", "chat"))
    if not recipe and wanted != "chat":
        start = presets.for_task(wanted, changes.get("base", ""), changes.get("method", ""))
    chosen = recipes.from_dict({**start, **changes}, where)
    spec = scenarios.load(chosen.scenario)
    return chosen, recs.read(source, spec) if source else recs.samples(spec), spec, None


def _calibrated(recipe, records, scenario, minutes: float):
    from labkit import models
    from labkit.training import calibration, chat_data

    if records is None or recipe.task != "chat":
        raise LabError("--minutes chooses how many layers a chat model adapts; leave it out for other tasks")
    base = models.resolve(recipe.base)
    found = calibration.calibrate(base)
    train = chat_data.read(recipe, records, scenario, base).train
    chosen = found.choose(recipe, train, minutes * 60)
    typer.echo(f"measured in {found.seconds:.0f} s: {chosen.precision}, batches of {chosen.batch_size}, {chosen.layers} of {found.layers} "
               f"layers; about {found.seconds_for(chosen, train) / 60:.1f} minutes")
    return chosen


def _show_plan(recipe, records, scenario, task_data) -> None:
    """What would be trained on, what is cut off, and how large the run is."""
    from labkit import models
    from labkit.training import recipe as recipes
    from labkit.training import trainer
    from labkit.training.tasks import of_data

    base = models.resolve(recipe.base)
    if task_data is not None:
        learner, described = of_data.learner(recipe, task_data, base)
    else:
        learner, described = trainer.of_scenario(recipe, records, scenario, base)
    plan = learner.plan()
    default = recipes.plain(recipes.Recipe(scenario=recipe.scenario))
    count = sum(value.numel() for value in learner.masters.values())
    typer.echo(f"{recipe.scenario}/{recipe.name}: {len(plan)} steps, {count:,} numbers learn")
    for key, value in recipes.plain(recipe).items():
        if value != default[key]:
            typer.echo(f"  {key} = {value!r}")
    for key, value in described.items():
        typer.echo(f"  {key}: {len(value) if isinstance(value, list) and len(value) > 8 else value}")
    for line in of_data.warnings(learner):
        typer.echo(f"  {line}")


_RATE_WORDS = {
    "en": {"frozen": "frozen layers", "records": " records", "sweep": "learning rates", "steps": " steps",
           "own": "the recipe's own rate is {own:.2g}", "next": "; train with the suggested one: --set learning_rate={found:.2g}"},
    "zh": {"frozen": "冻结层", "records": " 条", "sweep": "学习率", "steps": " 步",
           "own": "配方自己的学习率是 {own:.2g}", "next": "；用建议值训练：--set learning_rate={found:.2g}"},
}


def _find_rate(recipe, data, scenario, language: str) -> None:
    """Sweep, with a bar in the terminal; the curve, the suggestion and how to take it."""
    from tqdm import tqdm

    from labkit.training import rate_finder

    words = _RATE_WORDS[language]
    with contextlib.ExitStack() as open_bars:
        def bar(name: str, unit: str):
            shown = open_bars.enter_context(tqdm(desc=words[name], unit=words[unit], leave=False, disable=None))

            def tell(done: int, total: int) -> None:
                shown.total = total
                shown.update(done - shown.n)

            return tell

        found = rate_finder.of_recipe(recipe, data, scenario, on_prepare=bar("frozen", "records"), on_step=bar("sweep", "steps"))
    typer.echo(rate_finder.as_text(found, language))
    own = words["own"].format(own=recipe.learning_rate)
    typer.echo(own + (words["next"].format(found=found.suggestion) if found.suggestion else ""))


def _trained(recipe, records, scenario, task_data, trackers: list[str], language: str):
    from labkit import runs
    from labkit.training import trainer
    from labkit.training.control import Control, interruptible

    control = Control()
    run = runs.Run(runs.folder_for(recipe.scenario, recipe.name))
    with interruptible(control), watched(run, recipe, trackers, language) as (on_prepare, on_step):
        if task_data is not None:
            return trainer.train_task(recipe, task_data, on_step, on_prepare, control, say=typer.echo)
        return trainer.train(recipe, records, scenario, on_step, on_prepare, control=control, say=typer.echo)


@contextlib.contextmanager
def watched(run, recipe, trackers: list[str], language: str = "en") -> Iterator[tuple[Any, Any]]:
    """(on_prepare, on_step): a bar in the terminal, and the trackers."""
    from labkit.training.watching import terminal
    from labkit.training.watching.trackers import watchers

    with terminal.watch(run.key, language=language, max_seconds=recipe.max_seconds) as (on_prepare, show), watchers(trackers, run) as track:
        def on_step(row: dict[str, Any]) -> None:
            show(row)
            track(row)

        yield on_prepare, on_step


def search(recipe: Annotated[Path, typer.Argument(help="A recipe (TOML) with a [search] table, such as learning_rate = "
                                                       "{low = 1e-4, high = 1e-2, log = true}.")],
           source: Source = None, data: Data = None,
           trials: Annotated[int, typer.Option(min=1)] = 20,
           minutes: Annotated[float, typer.Option(min=0.0, help="End after so many minutes; 0: no limit.")] = 0.0,
           workers: Annotated[int, typer.Option(min=1, help="Processes that try settings side by side.")] = 1,
           sampler: Annotated[str, typer.Option(help="tpe, random, grid, cma_es or gp.")] = "tpe",
           pruner: Annotated[str, typer.Option(help="asha, hyperband, median or none: ends trials that will not win.")] = "asha",
           storage: Annotated[str, typer.Option(help="A database URL that several machines share; a file without it.")] = "",
           seeds: Annotated[int, typer.Option(help="Seeds with which the best and the recipe's own are trained again; 0: none.")] = 3,
           seed: Annotated[int, typer.Option(min=0)] = 0,
           keep: Annotated[bool, typer.Option("--keep", help="Keep the trials' runs.")] = False,
           language: Language = "en") -> None:
    """Search the settings of a recipe; stopped or killed, the same command goes on. Ends with a report that says what is noise.

    With --data the file need name nothing but what is searched: all else is as the task's preset has it.
    """
    from labkit import records as recs
    from labkit import scenarios
    from labkit.training.search import command, space

    language = checked_language(language)
    if data:
        from labkit.training.tasks import formats

        if source:
            raise LabError("--data is in place of --source; give one of them")
        spec, learned = None, formats.named(data)
    else:
        spec = scenarios.load(space.read(recipe)[0].scenario)
        learned = recs.read(source, spec) if source else recs.samples(spec)

    def tell(row: dict[str, Any]) -> None:
        value = "" if row["value"] is None else f" {row['value']:.4g}"
        typer.echo(f"trial {row['number']} {row['state']}{value}: {', '.join(f'{key}={found}' for key, found in row['settings'].items())}")

    done = command.run(recipe, learned, spec, trials=trials, seconds=minutes * 60, workers=workers, sampler=sampler, pruner=pruner,
                       storage=storage, seeds=seeds, seed=seed, keep=keep, language=language, on_trial=tell, say=typer.echo)
    for what, path in done.paths.items():
        typer.echo(f"  {what}: {path}")


def prefer(scenario: Annotated[str, typer.Option("--scenario", "-s", help="The scenario.")],
           source: Annotated[Path | None, typer.Option(help="Pairs as JSONL (prompt, chosen, rejected); without it the app's "
                                                             "votes.")] = None,
           method: Annotated[str, typer.Option(help="dpo, orpo or kto.")] = "dpo",
           start: Annotated[str, typer.Option(help="The run whose adapter goes on learning; a new one without it.")] = "",
           name: Annotated[str, typer.Option(help="The run's name.")] = "preferred",
           set: Settings = None) -> None:
    """Train on preferences: which of two answers people chose."""
    from labkit import runs, scenarios
    from labkit.labeling import preferences
    from labkit.training import preference, preference_pairs
    from labkit.training.control import Control, interruptible
    from labkit.training.preference_recipe import PreferenceRecipe

    spec = scenarios.load(scenario)
    given = settings(set)
    if unknown := given.keys() - PreferenceRecipe.__dataclass_fields__.keys():
        raise LabError(f"{', '.join(sorted(unknown))} is not a setting of preference training")
    recipe = PreferenceRecipe(**{"scenario": scenario, "name": name, "method": method, "start": start, **given})
    pairs = preference_pairs.read(source) if source else preferences.pairs(scenario=scenario).pairs
    control, run = Control(), runs.Run(runs.folder_for(scenario, name))
    with interruptible(control), watched(run, recipe.as_recipe(), []) as (_, on_step):
        run = preference.train(recipe, pairs, spec, on_step, control, say=typer.echo)
    done = run.state() == "done"
    typer.echo(f"{run.key}: " + (f"trained on {run.manifest()['data']['train']} of {len(pairs)} pairs" if done else
                                 "stopped; the same command goes on") + f"; {run.folder}")


@runs_app.callback(epilog="Example: labkit runs")
def list_runs(context: typer.Context) -> None:
    """List the runs with their state; damaged ones with what is wrong."""
    from labkit import runs as catalogue

    if context.invoked_subcommand:
        return
    found = catalogue.catalogue()
    if not found:
        typer.echo("no runs yet; `labkit build` trains the four scenarios")
    for run in found:
        state = run.state()
        line = f"{run.key:40s} {state:9s}"
        if state == "done":
            training = run.manifest()["training"]
            line += f" loss {training['loss']:.3f}  {training['seconds']:.0f} s  {'evaluated' if run.evaluation() else 'not evaluated'}"
        elif state == "damaged":
            line += " " + "; ".join(catalogue.verify(run))
        elif rows := run.metrics():
            line += f" step {rows[-1]['step']} of {rows[-1]['steps']}"
        typer.echo(line)


@runs_app.command(epilog="Example: labkit runs compare finance/default finance/careful")
def compare(runs: Annotated[list[str], typer.Argument(help="Two or more runs, SCENARIO/NAME.")], language: Language = "en") -> None:
    """What differs between runs, settings, data and base, and what came of them."""
    from labkit import runs as catalogue
    from labkit.training import comparing

    typer.echo(comparing.as_text([catalogue.find(key) for key in runs], checked_language(language)))


RunKey = Annotated[str, typer.Argument(help="The run, SCENARIO/NAME.")]


def _request(key: str, what: str) -> None:
    from labkit import runs
    from labkit.training import control

    run = runs.find(key)
    control.request(run.folder, what)
    typer.echo(f"{run.key}: asked to {what}")


@runs_app.command(epilog="Example: labkit runs pause finance/default")
def pause(run: RunKey) -> None:
    """Halt a training before its next step, until `resume` or `stop`."""
    _request(run, "pause")


@runs_app.command(epilog="Example: labkit runs resume finance/default")
def resume(run: RunKey) -> None:
    """Let a paused training go on."""
    _request(run, "resume")


@runs_app.command(epilog="Example: labkit runs stop finance/default")
def stop(run: RunKey) -> None:
    """End a training after the step at hand, with a checkpoint; `labkit train` goes on with it."""
    _request(run, "stop")


@runs_app.command("evaluate", epilog="Example: labkit runs evaluate finance/default")
def evaluate_now(run: RunKey) -> None:
    """Let a training measure itself on the validation records after the step at hand."""
    _request(run, "evaluate")
