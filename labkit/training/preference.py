"""Training on preferences: pairs of a better and a worse answer in, a finished run out, which is served like any other.

TRL's trainers do the work (DPO, KTO, and ORPO from its experimental part), with LoRA by PEFT, on a processor or a GPU; the losses are
those of `objectives.preference`. Pairs come from the app's votes (`labkit.labeling.preferences.pairs`) or from a JSONL file
(`preference_pairs.read`).

A run that starts from another run goes on with that run's adapter: the new adapter stands on the same base, so that every engine serves
it beside the others (merged into the base, it would need a base of its own: 270 MB a run for the embedded one, and no GGUF file). A
copy of the adapter as it was is then the reference that DPO and KTO measure from; without one, the base is.

A training that was stopped or killed goes on from its last checkpoint when it is begun again with the same recipe, pairs and base, and
ends in the same weights as one that was not. Where memory does not suffice for a part of a step, training goes on in parts of half as
many pairs.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs, scenarios
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training import checkpoint, manifest, methods, metrics_file, preference_pairs, preference_recipe, preference_trl
from labkit.training import recipe as recipes
from labkit.training.control import Control
from labkit.training.precision import best_precision
from labkit.training.preference_pairs import Pair, fingerprint, fitting, held_out, pairs_of
from labkit.training.preference_recipe import PreferenceRecipe
from labkit.training.preference_rows import OnStep, Rows
from labkit.training.watching import memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Say = Callable[[str], None]


def train(recipe: PreferenceRecipe, rows: Iterable[Mapping[str, Any] | Pair], scenario: Scenario, on_step: OnStep | None = None,
          control: Control | None = None, say: Say | None = None) -> Run:
    """Train one run on pairs, or go on with it where it was left; a finished run of an equal recipe and equal pairs is given back as it is.

    Each row of metrics.jsonl has, beside what every training writes, the mean rewards of the chosen and the rejected answers (beta times
    how much likelier the model makes them than the reference; of ORPO beta times their mean log-probability), their difference, and
    the share of pairs in which the chosen one's is higher (not of KTO).

    Args:
        on_step: called with each row as it is written.
        control: to pause, stop or measure while it goes.
        say: told, before training starts, how many pairs are learned from and which are left out as too long; later, where memory does
            not suffice, in what parts it goes on.

    Raises:
        LabError: a row is no pair, no pair fits, another process is training this run, its folder holds a finished run of another recipe
            or other pairs, `start` is no sound LoRA run of this base, the loss is not a number or runs away, memory does not suffice
            for one pair, or the disk is full.
    """
    pairs = pairs_of(rows)
    if not pairs:
        raise LabError("there are no preference pairs; vote on the app's Compare page first, or give a file of pairs")
    run = Run(runs.folder_for(scenario.name, recipe.name))
    control = control or Control()
    written = run.folder / "preference.toml"
    with runs.training(run):
        if runs.is_finished(run, fingerprint(pairs), lambda: written.exists() and preference_recipe.read(written) == recipe):
            return run
        control.listen(run.folder)
        return _Training(recipe, pairs, scenario, run, on_step, control, say).go()


class _Training:
    """One call of `train`: what it holds while it goes."""

    def __init__(self, recipe: PreferenceRecipe, pairs: list[Pair], scenario: Scenario, run: Run, on_step: OnStep | None,
                 control: Control, say: Say | None) -> None:
        self.recipe, self.pairs, self.scenario, self.run = recipe, pairs, scenario, run
        self.on_step, self.control, self.say = on_step, control, say
        self.started = datetime.now(UTC)

    def go(self) -> Run:
        from transformers import AutoTokenizer

        self.start = self._checked_start()
        self.base = self._base()
        self.tokenizer = AutoTokenizer.from_pretrained(self.base.folder)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        kept, self.too_long = fitting(self.pairs, self.tokenizer, self.recipe.max_tokens)
        self.learned, self.measured = held_out(kept, self.recipe.held_out, self.recipe.seed)
        for line in preference_pairs.told(self.learned, self.measured, self.too_long, self.recipe.max_tokens) if self.say else ():
            self.say(line)
        self._begin_folder()
        done = checkpoint.last_step(self.run.folder)
        metrics = self.run.folder / "metrics.jsonl"
        before = metrics_file.rewind(metrics, done)
        with _without_bars(), metrics_file.appending(metrics) as write:
            _, steps = preference_trl.steps_of(self.recipe, len(self.learned))
            rows = Rows(self.recipe, write, self.on_step, self.control, steps, done, before)
            model = self._learn(rows)
            rows.write_held()
        if rows.step == rows.steps:
            self._finish(model)
        return self.run

    def _checked_start(self) -> Run | None:
        if not self.recipe.start:
            return None
        start = runs.find(self.recipe.start)
        problems = runs.verify(start)
        if problems:
            raise LabError(f"run {start.key} is damaged ({'; '.join(problems)}); choose another start")
        config = start.adapter_folder / "adapter_config.json"
        kind = files.read_json(config).get("peft_type") if config.exists() else "a whole model"
        if kind != "LORA":
            raise LabError(f"run {start.key} holds {kind}; preference training goes on with a LoRA run, or starts from a base")
        return start

    def _base(self) -> BaseModel:
        before = self.start.manifest()["base"] if self.start else None
        if before and self.recipe.base not in (models.DEFAULT, before["name"]):
            raise LabError(f"run {self.start.key} stands on {before['name']}, not on {self.recipe.base}; leave base out or choose that one")
        base = models.resolve(before["name"] if before else self.recipe.base)
        if before and base.sha256 != before["sha256"]:
            raise LabError(f"base model {base.name} is not the one that run {self.start.key} was trained on; its weights have changed")
        if not base.is_decoder:
            raise LabError(f"base model {base.name} cannot write text; choose a causal language model")
        return base

    def _begin_folder(self) -> None:
        folder = self.run.folder
        start = self.start.manifest()["adapter"]["sha256"] if self.start else ""
        settings = dataclasses.asdict(self.recipe)
        settings.pop("micro_pairs")  # which only divides a step: it may be lowered where memory does not suffice
        checkpoint.begin(folder, {"recipe": files.canonical_json(settings), "data": fingerprint(self.pairs),
                                  "base": self.base.sha256, "start": start})
        recipe = self.recipe.as_recipe()
        if self.start:
            config = files.read_json(self.start.adapter_folder / "adapter_config.json")
            adapted = config.get("layers_to_transform")
            recipe = dataclasses.replace(recipe, base=self.base.name, rank=config["r"], alpha=config["lora_alpha"],
                                         layers=len(adapted) if isinstance(adapted, list) else 0)
        else:
            recipe = dataclasses.replace(recipe, base=self.base.name)
        self.plain = recipe
        recipes.write(recipe, folder / "recipe.toml")
        preference_recipe.write(self.recipe, folder / "preference.toml")
        scenarios.write(self.scenario, folder / "scenario.toml")

    def _learn(self, rows: Rows) -> "torch.nn.Module":
        """Take the steps that are left; where memory does not suffice, with half as many pairs at once."""
        import torch

        recipe = self.recipe
        at_once = recipe.micro_pairs or recipe.batch_size
        learned = preference_pairs.dataset(self.learned, recipe.method, self.tokenizer, recipe.seed)
        measured = preference_pairs.dataset(self.measured, recipe.method, self.tokenizer) if self.measured else None
        while True:
            torch.manual_seed(recipe.seed)  # of a new adapter's matrices
            trainer = preference_trl.build(recipe, self._model(), self.tokenizer, learned, measured, len(self.learned), at_once, rows,
                                           self.run.folder, self.run.key)
            try:
                preference_trl.run(trainer, rows.step, rows.steps)
                return trainer.model
            except preference_trl.NoMemoryError:
                del trainer
            if at_once == 1:
                raise LabError(f"run {self.run.key}: memory does not suffice for a single pair at step {rows.step + 1}; lower max_tokens "
                               "or layers")
            fewer = preference_trl.equal_parts(recipe.batch_size, at_once // 2)
            if self.say:
                self.say(f"memory does not suffice for {at_once} pairs at once at step {rows.step + 1}; going on with {fewer} at once, and "
                         f"{recipe.batch_size} a step as before")
            at_once = fewer
            rows.restart()
            memory.make_room()

    def _model(self) -> "PreTrainedModel":
        """The base, or the start run's adapter on it, which learns on."""
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        dtype = torch.bfloat16 if best_precision(self.recipe.precision) == "bf16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(self.base.folder, dtype=dtype, local_files_only=True)
        if self.start is None:
            return model
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            return PeftModel.from_pretrained(model, str(self.start.adapter_folder), is_trainable=True)

    def _finish(self, model: "torch.nn.Module") -> None:
        written = methods.save(model, {}, self.base, self.run.folder)
        data = {"fingerprint": fingerprint(self.pairs), "sources": ["preference pairs"], "licenses": [],
                "train": len(self.learned), "validation": len(self.measured), "test": 0, "left_out_as_too_long": list(self.too_long)}
        if self.start:
            data["start"] = {"run": self.start.key, "adapter": self.start.manifest()["adapter"]["sha256"]}
        manifest.finish(self.run, self.plain, self.base, [*written, "preference.toml"], data, self.started)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of `datasets` for the few rows that TRL maps."""
    import datasets

    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()
