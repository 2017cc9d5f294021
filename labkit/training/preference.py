"""Training on preferences: pairs of a better and a worse answer in, a finished run out, which is served like any other.

TRL's trainers do the work (DPO, KTO, and ORPO from its experimental part), with LoRA by PEFT, on a processor or a GPU; the losses are
those of `objectives.preference`. Pairs come from the app's votes (`labkit.labeling.preferences.pairs`) or from a JSONL file
(`preference_pairs.read`).

A run that starts from another run goes on with that run's adapter: the new adapter stands on the same base, so that every engine serves
it beside the others (merged into the base, it would need a base of its own: 270 MB a run for the embedded one, and no GGUF file). A
copy of the adapter as it was is then the reference that DPO and KTO measure from; without one, the base is.

Nothing is kept of a training that was stopped but its rows: begun again, it begins at the first step. (TRL's checkpoints hold pickles,
which the lab does not read.)
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs, scenarios
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training import checkpoint, manifest, methods, preference_recipe
from labkit.training import recipe as recipes
from labkit.training.control import Control
from labkit.training.precision import best_precision
from labkit.training.preference_pairs import Pair, as_texts, fingerprint, fitting, held_out, pairs_of
from labkit.training.preference_recipe import PreferenceRecipe

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, Trainer

OnStep = Callable[[dict[str, Any]], None]

_ROW = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm", "kl": "divergence",
        "rewards/chosen": "chosen_reward", "rewards/rejected": "rejected_reward", "rewards/margins": "reward_margin",
        "rewards/accuracies": "reward_accuracy", "logps/chosen": "chosen_log_probability", "logps/rejected": "rejected_log_probability",
        "nll_loss": "likelihood_loss", "log_odds_chosen": "log_odds"}  # TRL's name: the row's


def train(recipe: PreferenceRecipe, rows: Iterable[Mapping[str, Any] | Pair], scenario: Scenario, on_step: OnStep | None = None,
          control: Control | None = None) -> Run:
    """Train one run on pairs; a finished run of an equal recipe and equal pairs is given back as it is.

    Each row of metrics.jsonl has, beside what every training writes, the mean rewards of the chosen and the rejected answers (beta times
    how much likelier the model makes them than the reference; of ORPO beta times their mean log-probability), their difference, and
    the share of pairs in which the chosen one's is higher (not of KTO).

    Args:
        on_step: called with each row as it is written.
        control: to pause, stop or measure while it goes.

    Raises:
        LabError: a row is no pair, no pair fits, another process is training this run, its folder holds a finished run of another recipe
            or other pairs, `start` is no sound LoRA run of this base, the loss is not a number, or the disk is full.
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
        return _Training(recipe, pairs, scenario, run, on_step, control).go()


class _Training:
    """One call of `train`: what it holds while it goes."""

    def __init__(self, recipe: PreferenceRecipe, pairs: list[Pair], scenario: Scenario, run: Run, on_step: OnStep | None,
                 control: Control) -> None:
        self.recipe, self.pairs, self.scenario, self.run, self.on_step, self.control = recipe, pairs, scenario, run, on_step, control
        self.started = datetime.now(UTC)

    def go(self) -> Run:
        from transformers import AutoTokenizer

        self.start = self._checked_start()
        self.base = self._base()
        self.tokenizer = AutoTokenizer.from_pretrained(self.base.folder)
        kept, self.too_long = fitting(self.pairs, self.tokenizer, self.recipe.max_tokens)
        self.learned, self.measured = held_out(kept, self.recipe.held_out, self.recipe.seed)
        self._begin_folder()
        metrics = self.run.folder / "metrics.jsonl"
        with tempfile.TemporaryDirectory(prefix="labkit-") as folder, _without_bars(), metrics.open("w", encoding="utf-8") as file:
            rows = _Rows(self, file)
            trainer = self._trainer(folder, rows)
            trainer.train()
            rows.write_held()
        if rows.step == rows.steps:
            self._finish(trainer.model)
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
        checkpoint.delete(folder)
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

    def _trainer(self, folder: str, rows: "_Rows") -> "Trainer":
        import torch
        from transformers import PrinterCallback

        kind, config = _classes(self.recipe.method)
        a_pass = math.ceil(len(self.learned) / self.recipe.batch_size)
        steps = min(self.recipe.max_steps or math.inf, self.recipe.epochs * a_pass)
        bf16 = best_precision(self.recipe.precision) == "bf16"
        model = self._model(torch.bfloat16 if bf16 else torch.float32)
        with warnings.catch_warnings():
            # TRL and PEFT use the old name.
            warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
            arguments = config(**self._arguments(), output_dir=folder, bf16=bf16, eval_steps=a_pass,
                               warmup_steps=round(self.recipe.warmup * steps))
            trainer = kind(model=model, args=arguments, train_dataset=self._data(self.learned), processing_class=self.tokenizer,
                           eval_dataset=self._data(self.measured) if self.measured else None,
                           peft_config=None if self.start else _lora(model, self.recipe), callbacks=[_callback(rows)])
        trainer.remove_callback(PrinterCallback)
        trainer.training_step = functools.partial(_counted_step, trainer.training_step, rows)
        rows.begin(steps)
        return trainer

    def _arguments(self) -> dict[str, Any]:
        """The recipe in the words of TRL's settings."""
        import torch

        recipe, gpu = self.recipe, torch.cuda.is_available()
        at_once = recipe.micro_pairs or recipe.batch_size
        rows_at_once = at_once * (2 if recipe.method == "kto" else 1)  # KTO counts answers
        found = {
            "per_device_train_batch_size": rows_at_once, "per_device_eval_batch_size": rows_at_once,
            "gradient_accumulation_steps": recipe.batch_size // at_once, "num_train_epochs": recipe.epochs,
            "max_steps": recipe.max_steps or -1, "learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay,
            "max_grad_norm": recipe.clip, "beta": recipe.beta, "dataloader_pin_memory": gpu,
            "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
            "max_length": recipe.max_tokens, "seed": recipe.seed, "data_seed": recipe.seed, "use_cpu": not gpu,
            "gradient_checkpointing": gpu, "logging_steps": 1, "logging_nan_inf_filter": False, "save_strategy": "no",
            "eval_strategy": "steps" if self.measured else "no", "report_to": "none", "disable_tqdm": True,
            "remove_unused_columns": recipe.method != "orpo"}
        if recipe.method == "kto":
            found |= {"desirable_weight": recipe.desirable_weight, "undesirable_weight": recipe.undesirable_weight}
        return found

    def _model(self, dtype: "torch.dtype") -> "PreTrainedModel":
        """The base, or the start run's adapter on it, which learns on."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self.base.folder, dtype=dtype, local_files_only=True)
        if self.start is None:
            return model
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            return PeftModel.from_pretrained(model, str(self.start.adapter_folder), is_trainable=True)

    def _data(self, pairs: list[Pair]) -> "Dataset":
        from datasets import Dataset

        if self.recipe.method == "orpo":  # as texts: TRL would write a second end behind the template's line break
            return Dataset.from_list([as_texts(pair, self.tokenizer) for pair in pairs])
        if self.recipe.method == "dpo":
            return Dataset.from_list([{"prompt": pair.messages, "chosen": pair.with_answer(pair.chosen)[-1:],
                                       "rejected": pair.with_answer(pair.rejected)[-1:]} for pair in pairs])
        rows = [{"prompt": pair.messages, "completion": pair.with_answer(answer)[-1:], "label": good}
                for pair in pairs for answer, good in ((pair.chosen, True), (pair.rejected, False))]
        random.Random(self.recipe.seed).shuffle(rows)  # TRL keeps their order, and pairs each prompt with its neighbour's answer
        return Dataset.from_list(rows)

    def _finish(self, model: "torch.nn.Module") -> None:
        written = methods.save(model, {}, self.base, self.run.folder)
        data = {"fingerprint": fingerprint(self.pairs), "sources": ["preference pairs"], "licenses": [],
                "train": len(self.learned), "validation": len(self.measured), "test": 0, "left_out_as_too_long": self.too_long}
        if self.start:
            data["start"] = {"run": self.start.key, "adapter": self.start.manifest()["adapter"]["sha256"]}
        manifest.finish(self.run, self.plain, self.base, [*written, "preference.toml"], data, self.started)


class _Rows:
    """metrics.jsonl of one training, and what each step is measured by."""

    def __init__(self, training: _Training, file: Any) -> None:
        self._training, self._file = training, file
        self._held: dict[str, Any] | None = None
        self.step = self.steps = self.tokens = 0

    def begin(self, steps: int) -> None:
        self.steps, self._began, self._at = steps, time.perf_counter(), time.perf_counter()

    def add(self, logs: Mapping[str, Any], step: int, epoch: float, waits: bool) -> None:
        """A step's row; with `waits` it is held until what it is measured by is there."""
        run, recipe = self._training.run, self._training.recipe
        if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm")):
            raise LabError(f"run {run.key}: the loss is not a number at step {step}; lower learning_rate ({recipe.learning_rate}) "
                           "or use precision = \"fp32\"")
        now = time.perf_counter()
        row = {"step": step, "steps": self.steps, "epoch": max(0, math.ceil(round(epoch, 6)) - 1)}
        row |= {name: float(logs[key]) for key, name in _ROW.items() if key in logs}
        row |= {"tokens": self.tokens, "tokens_per_second": round(self.tokens / max(1e-9, now - self._at), 1),
                "seconds": round(now - self._began - self._training.control.paused_seconds, 3)}
        self._held, self.step, self._at, self.tokens = row, step, now, 0
        if not waits:
            self.write_held()

    def measured(self, metrics: Mapping[str, Any]) -> None:
        """Take what the held row's step is measured by, and write it."""
        if self._held is not None:
            found = {name: float(metrics[f"eval_{key}"]) for key, name in _ROW.items() if f"eval_{key}" in metrics}
            self._held |= {"validation_loss": found.pop("loss"), "validation": found}
        self.write_held()
        self._at = time.perf_counter()

    def write_held(self) -> None:
        if self._held is None:
            return
        row, self._held = self._held, None
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._training.on_step:
            self._training.on_step(row)

    @property
    def waits(self) -> bool:
        """Whether a step's row is held until what it is measured by is there."""
        return self._held is not None

    def steer(self, flow: Any) -> None:
        """Pause or stop where the training's control says so, by transformers' own flow control."""
        self._training.control.wait_while_paused()
        if self._training.control.stopped:
            flow.should_training_stop = True

    def measure_if_asked(self, flow: Any) -> None:
        if self._training.control.take_evaluate() and self._training.measured:
            flow.should_evaluate = True


def _callback(rows: _Rows) -> Any:
    """`rows` as transformers' trainer calls it."""
    from transformers import TrainerCallback

    class Follow(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                rows.measure_if_asked(control)
                rows.add(logs, state.global_step, state.epoch, control.should_evaluate)
            elif "eval_loss" in logs:
                rows.measured(logs)
            if not rows.waits:
                rows.steer(control)

    return Follow()


def _counted_step(step: Callable[..., Any], rows: _Rows, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
    """One part of a training step, with the tokens that the model sees counted."""
    masks = [mask for name, mask in inputs.items() if name.endswith("attention_mask") and not name.startswith("prompt")]
    rows.tokens += sum(int(mask.sum()) for mask in masks)
    return step(model, inputs, *rest, **more)


def _classes(method: str) -> tuple[type, type]:
    """TRL's trainer for this method, and its settings."""
    if method == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if method == "kto":
        from trl import KTOConfig, KTOTrainer

        return KTOTrainer, KTOConfig
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer, ORPOConfig


def _lora(model: "PreTrainedModel", recipe: PreferenceRecipe) -> Any:
    """LoRA on every linear map of the top `layers` layers. Not by the fused maps of `methods`: DPO and KTO switch the adapter off to have
    their reference, which those do not know."""
    import torch
    from peft import LoraConfig

    stack = methods.layers(model)
    targets = sorted({name.rsplit(".", 1)[-1] for name, module in stack[0].named_modules() if isinstance(module, torch.nn.Linear)})
    if not targets:
        raise LabError(f"{type(model).__name__} has no linear maps that LoRA could adapt")
    first = max(0, len(stack) - recipe.layers) if recipe.layers else 0
    return LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=targets, layers_to_transform=list(range(first, len(stack))),
                      layers_pattern="layers", task_type="CAUSAL_LM")


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
