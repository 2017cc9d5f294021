"""Training: records and a recipe in, a finished run out.

This module puts the parts together: what the records say (`chat_data`, `tasks`), what learns (a `learner`), and the loop. A training that
was killed goes on from its last checkpoint and ends in the same weights as one that was not.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs, scenarios
from labkit import records as recs
from labkit.errors import LabError
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training import chat_data, checkpoint, manifest, world
from labkit.training import recipe as recipes
from labkit.training.control import Control
from labkit.training.learner import Learner
from labkit.training.loop import Loop, OnStep
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import threading

    from datasets import Dataset

    from labkit.training.tasks.formats import TaskData

OnPrepare = Callable[[int, int], None]
Say = Callable[[str], None]

_CACHED = ("freeze", "lora", "rslora", "dora", "pissa", "ia3")  # these leave what is below the adapted layers alone


def train(recipe: Recipe, records: "Dataset", scenario: Scenario, on_step: OnStep | None = None, on_prepare: OnPrepare | None = None,
          stop: "threading.Event | None" = None, control: Control | None = None, say: Say | None = print) -> Run:
    """Train one run, or go on with it where it was left; a finished run of an equal recipe and data is given back as it is.

    Args:
        records: with splits; `train` is learned from, `validation` measured after each epoch.
        on_step: called with each row of metrics.jsonl as it is written.
        on_prepare: called with (records done, records in all) while the frozen layers are run.
        stop: when set, training ends after the step at hand with a checkpoint.
        control: to pause, stop or measure while it goes.
        say: told, before training starts, what the length limit cuts off; None: nobody.

    Raises:
        LabError: another process is training this run, the run's folder holds a finished run of another recipe, the data
            or the base cannot be used, the loss is not a number or runs away, memory does not suffice, or the disk is full.
    """
    def learner(base: models.BaseModel) -> tuple[Learner, dict[str, Any]]:
        return of_scenario(recipe, records, scenario, base)

    return _train(recipe, recs.fingerprint(records), learner, scenario, on_step, on_prepare, control or Control(stop=stop), say)


def train_task(recipe: Recipe, data: "TaskData", on_step: OnStep | None = None, on_prepare: OnPrepare | None = None,
               control: Control | None = None, say: Say | None = print) -> Run:
    """`train` on a task's own data (`tasks.formats`: GLUE, SQuAD, CoNLL-2003, chats) in place of a scenario's records."""
    from labkit.training.tasks import of_data

    if recipe.scenario != of_data.group(data.name):
        raise LabError(f"recipe: scenario is {recipe.scenario!r}, the data is {data.name!r}: write {of_data.group(data.name)!r}")
    return _train(recipe, of_data.fingerprint(data), lambda base: of_data.learner(recipe, data, base), None, on_step, on_prepare,
                  control or Control(), say)


def _train(recipe: Recipe, fingerprint: str, make: Callable[[models.BaseModel], tuple[Learner, dict[str, Any]]], scenario: Scenario | None,
           on_step: OnStep | None, on_prepare: OnPrepare | None, control: Control, say: Say | None) -> Run:
    import torch

    from labkit.training.tasks import of_data

    together = world.joined()
    run = Run(runs.folder_for(recipe.scenario, recipe.name))
    same = lambda: recipes.read(run.folder / "recipe.toml") == recipe  # noqa: E731
    with runs.training(run) if together.is_first else contextlib.nullcontext():
        if together.agreed(together.is_first and runs.is_finished(run, fingerprint, same)):
            return run
        control.listen(run.folder)
        started = datetime.now(UTC)
        base = models.resolve(recipe.base)
        torch.manual_seed(recipe.seed)
        learner, described = make(base)
        if recipe.teacher:
            described = {**described, "teacher": learner.teacher.told}
        if say and together.is_first:
            for line in of_data.warnings(learner):
                say(line)
        if together.is_first:
            _begin(run, recipe, fingerprint, base.sha256, described.get("teacher"))
            if scenario:
                scenarios.write(scenario, run.folder / "scenario.toml")
        began = time.perf_counter()
        learner.prepare(run.key, on_prepare)
        prepared = time.perf_counter() - began
        together.agreed(True)
        loop = Loop(recipe, learner, run.folder, run.key, on_step, control, together)
        if loop.run() and (together.is_first or recipe.shard):
            written = learner.save(run.folder)  # a divided model's by all processes together
            if together.is_first:
                manifest.finish(run, recipe, base, written, {"fingerprint": fingerprint, **described}, started, prepared, loop.kept_step)
    return run


def of_scenario(recipe: Recipe, records: "Dataset", scenario: Scenario, base: models.BaseModel) -> tuple[Learner, dict[str, Any]]:
    """What learns from a scenario's records, and what they are for the manifest."""
    splits = records["split"][:]
    described = {"sources": sorted(set(records["source"])), "licenses": sorted(set(records["license"])),
                 **{name: splits.count(name) for name in ("train", "validation", "test")}}
    if recipe.task != "chat":
        from labkit.training import encoders
        from labkit.training.tasks import of_scenario

        learner = encoders.Encoder(recipe, base, of_scenario.data(recipe, records, scenario, base))
        return learner, {**described, **learner.described()}
    if not base.is_decoder:
        raise LabError(f"base model {base.name} cannot write text; choose a causal language model")
    data = chat_data.read(recipe, records, scenario, base)
    return chat_learner(recipe, base, data), {**described, "left_out_as_too_long": data.left_out}


def chat_learner(recipe: Recipe, base: models.BaseModel, data: chat_data.ChatData) -> Learner:
    """The learner that the recipe's method needs: with the frozen layers kept wherever that is possible."""
    from labkit.training.chat import CachedChat
    from labkit.training.chat_plain import PlainChat
    from labkit.training.split import NotSplit

    if recipe.method == "head":
        raise LabError("recipe: method 'head' is for encoders; a chat model's head writes words and stays as it is")
    if recipe.method in _CACHED and not recipe.shard:
        try:
            return CachedChat(recipe, base, data)
        except NotSplit as error:
            learner = PlainChat(recipe, base, data)
            learner.notes = [f"{error}; the whole model runs at every step, which takes longer"]
            return learner
    return PlainChat(recipe, base, data)


def _begin(run: Run, recipe: Recipe, fingerprint: str, base_sha256: str, teacher: dict[str, str] | None) -> None:
    """Write the recipe; throw away what an earlier, unfinished training of another recipe, data, base or teacher left."""
    settings = recipes.plain(recipe)
    settings.pop("micro_tokens")  # which only divides a step: it may be lowered where memory does not suffice
    checkpoint.begin(run.folder, {"recipe": files.canonical_json(settings), "data": fingerprint, "base": base_sha256,
                                  **({"teacher": teacher["sha256"]} if teacher else {})})
    recipes.write(recipe, run.folder / "recipe.toml")
