"""TRL's trainers as the lab runs them: the recipe in their words, and the lab's own checkpoint in place of theirs, which hold pickles."""

import dataclasses
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training import checkpoint, methods
from labkit.training.precision import best_precision
from labkit.training.preference_recipe import PreferenceRecipe
from labkit.training.preference_rows import Rows, bare, callback, learning
from labkit.training.watching import memory

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer


class NoMemoryError(Exception):
    """Memory does not suffice for a part of a step; the weights are those that the step before left."""


def steps_of(recipe: PreferenceRecipe, pairs: int) -> tuple[int, int]:
    """(steps a pass over so many pairs, steps in all)."""
    a_pass = math.ceil(pairs / recipe.batch_size)
    return a_pass, int(min(recipe.max_steps or math.inf, recipe.epochs * a_pass))


def build(recipe: PreferenceRecipe, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", learned: "Dataset",
          measured: "Dataset | None", pairs: int, at_once: int, rows: Rows, folder: Path, key: str) -> "Trainer":
    """The trainer of the recipe's method.

    Args:
        model: the base, which gets a new adapter; or one with an adapter that learns on.
        learned, measured: as `preference_pairs.dataset` makes them.
        pairs: how many are learned from.
        at_once: pairs that go through the model at once, a divisor of the batch size.
        folder: the run's; its checkpoint is written there.
        key: how people name the run.
    """
    from transformers import PrinterCallback

    kind, config = _classes(recipe.method)
    a_pass, steps = steps_of(recipe, pairs)
    with warnings.catch_warnings():
        # TRL and PEFT use the old name.
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
        measured_at_once = 1 if measured is None else equal_parts(len(measured) // _rows_a_pair(recipe.method), at_once)
        arguments = config(**_arguments(recipe, at_once, measured_at_once), output_dir=str(folder / "checkpoint"), eval_steps=a_pass,
                           eval_strategy="no" if measured is None else "steps", max_steps=steps,
                           warmup_steps=round(recipe.warmup * steps))
        _ = arguments.device
        arguments._n_gpu = min(1, arguments.n_gpu)  # DPO's and KTO's trainers refuse several, ORPO's would divide each part
        trainer = _kept(kind, recipe.method, rows, folder, key)(
            model=model, args=arguments, train_dataset=learned, eval_dataset=measured, processing_class=tokenizer,
            peft_config=None if hasattr(model, "peft_config") else _lora(model, recipe),
            callbacks=[callback(rows, folder, key, measured is not None)])
    trainer.remove_callback(PrinterCallback)
    return trainer


def run(trainer: "Trainer", done: int, steps: int) -> None:
    """Take the steps that are left after `done`, from the run's checkpoint on.

    Raises:
        NoMemoryError: memory does not suffice for a part; a checkpoint holds what was learned before the step.
    """
    from transformers import TrainerState

    if done == steps:  # killed after the last checkpoint
        trainer.create_optimizer()
        trainer.put_back()
    elif done:
        state = TrainerState(global_step=done, train_batch_size=trainer.args.per_device_train_batch_size)
        state.compute_steps(trainer.args, steps)
        folder = Path(trainer.args.output_dir)
        files.write_json(folder / "trainer_state.json", dataclasses.asdict(state))
        trainer.train(resume_from_checkpoint=str(folder))
    else:
        trainer.train()


def equal_parts(pairs: int, most: int) -> int:
    """How many of these pairs go through the model at once, `most` or fewer but at least one, so that all parts are equal: the parts of a
    step count alike, and of what TRL's trainers measure they report the mean of the parts' means."""
    return max(part for part in range(1, max(1, most) + 1) if pairs % part == 0)


def _rows_a_pair(method: str) -> int:
    """KTO's rows are answers."""
    return 2 if method == "kto" else 1


def _kept(kind: type, method: str, rows: Rows, folder: Path, key: str) -> type:
    """TRL's trainer `kind` with the lab's checkpoint, and with parts for which memory does not suffice told apart."""
    import torch

    class Kept(kind):
        def training_step(self, model, inputs, *rest, **more):
            try:
                loss = super().training_step(model, inputs, *rest, **more)
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
            else:
                rows.part(inputs, loss.item())
                return loss
            self.model.zero_grad()
            if self.state.global_step:
                self._save_checkpoint(model, None)
            raise NoMemoryError  # outside of `except`, whose error holds all tensors of the part

        def evaluate(self, *arguments, **more):
            while True:
                try:
                    return super().evaluate(*arguments, **more)
                except (MemoryError, RuntimeError) as error:
                    if not memory.is_out_of_memory(error):
                        raise
                for name in ("_metrics", "_stored_metrics"):  # what the parts before said
                    getattr(self, name, {}).get("eval", {}).clear()
                each = _rows_a_pair(method)
                at_once = self.args.per_device_eval_batch_size // each
                if at_once == 1:
                    self._save_checkpoint(None, None)
                    rows.write_held()
                    raise LabError(f"run {key}: memory does not suffice to measure a single pair after step {self.state.global_step}; "
                                   "lower max_tokens or layers, or leave out none for measuring (held_out = 0)")
                self.args.per_device_eval_batch_size = each * equal_parts(len(self.eval_dataset) // each, at_once // 2)
                memory.make_room()

        def put_back(self):
            return checkpoint.load(folder, learning(self.model), bare(self.optimizer))

        def _save_checkpoint(self, model, trial):
            checkpoint.save(folder, self.state.global_step, learning(self.model), bare(self.optimizer))

        def _load_from_checkpoint(self, *_):
            """The weights come with the optimiser's state."""

        def _load_optimizer_and_scheduler(self, _):
            done = self.put_back()
            self._random = torch.get_rng_state()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.lr_scheduler.last_epoch = done - 1
                self.lr_scheduler.step()  # the rate of step `done`

        def _load_rng_state(self, _):
            torch.set_rng_state(self._random)

    return Kept


def _arguments(recipe: PreferenceRecipe, at_once: int, measured_at_once: int) -> dict[str, Any]:
    """The recipe in the words of TRL's settings."""
    import torch

    gpu = torch.cuda.is_available()
    each = _rows_a_pair(recipe.method)
    found = {
        "per_device_train_batch_size": at_once * each, "per_device_eval_batch_size": measured_at_once * each,
        "gradient_accumulation_steps": recipe.batch_size // at_once, "num_train_epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip, "beta": recipe.beta, "dataloader_pin_memory": gpu,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        "max_length": recipe.max_tokens, "seed": recipe.seed, "data_seed": recipe.seed, "use_cpu": not gpu,
        "bf16": best_precision(recipe.precision) == "bf16", "gradient_checkpointing": gpu, "logging_steps": 1,
        "logging_nan_inf_filter": False, "save_strategy": "steps", "save_steps": recipe.checkpoint_steps, "report_to": "none",
        "disable_tqdm": True, "remove_unused_columns": recipe.method != "orpo"}
    if recipe.method == "kto":
        found |= {"desirable_weight": recipe.desirable_weight, "undesirable_weight": recipe.undesirable_weight}
    return found


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
