"""Training: records and a recipe in, a finished run out.

The loop is the plain one: batches of similar length, the loss over answer tokens only, AdamW in float32 on the LoRA
matrices, a checkpoint now and then. What is special is that the frozen layers below the lowest adapted one are run once a
record and their output is kept on disk (`split`, `prefix_store`). A training that was killed goes on from its last checkpoint
and ends in the same weights as one that was not.
"""

import contextlib
import itertools
import json
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import __version__, files, models, process, runs, scenarios
from labkit import records as recs
from labkit.errors import LabError
from labkit.runs import Run
from labkit.scenarios import Scenario
from labkit.training import adapter, checkpoint, views
from labkit.training import recipe as recipes
from labkit.training.examples import Encoded, batches, by_length, encode, micro_batches
from labkit.training.objective import token_losses
from labkit.training.prefix_store import PrefixStore, open_or_build
from labkit.training.recipe import Recipe
from labkit.training.shared_prefix import Rows
from labkit.training.split import SplitModel, check_exact, split
from labkit.training.views import View

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

_HELD_OUT_BATCH = 64

OnStep = Callable[[dict[str, Any]], None]
OnPrepare = Callable[[int, int], None]


def train(recipe: Recipe, records: "Dataset", scenario: Scenario, on_step: OnStep | None = None,
          on_prepare: OnPrepare | None = None, stop: threading.Event | None = None) -> Run:
    """Train one run, or go on with it where it was left; a finished run of an equal recipe and data is given back as it is.

    Args:
        records: with splits; `train` is learned from, `validation` measured after each epoch.
        on_step: called with each row of metrics.jsonl as it is written.
        on_prepare: called with (records done, records in all) while the frozen layers are run.
        stop: when set, training ends after the step at hand with a checkpoint.

    Raises:
        LabError: another process is training this run, the run's folder holds a finished run of another recipe, the data
            or the base cannot be used, the loss is not a number, or the disk is full.
    """
    from filelock import Timeout

    folder = runs.folder_for(scenario.name, recipe.name)
    run = Run(folder)
    try:
        with runs.lock(folder):
            if _is_finished(run, recipe, records):
                return run
            return _Training(recipe, records, scenario, run, on_step, on_prepare, stop).go()
    except Timeout:
        raise LabError(f"run {run.key} is being trained by another process; wait for it or choose another name") from None


def best_precision(wanted: str = "auto") -> str:
    """`bf16` or `fp32`: what `auto` means on this machine (bfloat16 where the processor or the GPU multiplies it natively)."""
    import torch

    if wanted != "auto":
        return wanted
    native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def _is_finished(run: Run, recipe: Recipe, records: "Dataset") -> bool:
    if not (run.folder / "manifest.json").exists():
        return False
    problems = runs.verify(run)
    if problems:
        raise LabError(f"run {run.key} is damaged ({'; '.join(problems)}); delete {run.folder} to train it anew")
    same = recipes.read(run.folder / "recipe.toml") == recipe
    if same and run.manifest()["data"]["fingerprint"] == recs.fingerprint(records):
        return True
    raise LabError(f"run {run.key} is finished already, with another recipe or other data; choose another name, "
                   f"or delete {run.folder}")


class _Training:
    """One call of `train`: what it holds while it goes."""

    def __init__(self, recipe: Recipe, records: "Dataset", scenario: Scenario, run: Run, on_step: OnStep | None,
                 on_prepare: OnPrepare | None, stop: threading.Event | None) -> None:
        self.recipe, self.records, self.scenario, self.run = recipe, records, scenario, run
        self.on_step, self.on_prepare, self.stop = on_step, on_prepare, stop
        self.started = datetime.now(UTC)

    def go(self) -> Run:
        import torch

        torch.manual_seed(self.recipe.seed)
        self.base = models.resolve(self.recipe.base)
        if not self.base.is_decoder:
            raise LabError(f"base model {self.base.name} cannot write text; choose a causal language model")
        self._encode()
        self._begin_folder()
        self._load_model()
        self._prepare_stores()
        finished = self._loop()
        if finished:
            self._finish()
        return self.run

    def _encode(self) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.base.folder)
        labelled = self.records.filter(lambda answer: bool(answer), input_columns=["answer"]) if len(self.records) else self.records
        train_records, held_out = recs.in_split(labelled, "train"), recs.in_split(labelled, "validation")
        if not len(train_records):
            raise LabError(f"scenario {self.scenario.name}: no labelled record is in the split `train`")
        settings = (self.scenario, self.tokenizer, self.recipe.max_tokens, self.recipe.share_prefix)
        self.train_data = encode(train_records, *settings)
        self.held_out = encode(held_out, *settings) if len(held_out) else None

    def _begin_folder(self) -> None:
        """Write recipe and scenario; throw away what an earlier, unfinished training of another recipe or data left."""
        folder = self.run.folder
        identity = {"recipe": files.canonical_json(vars(self.recipe)), "data": recs.fingerprint(self.records), "base": self.base.sha256}
        begun = folder / "begun.json"
        if not begun.exists() or files.read_json(begun) != identity:
            checkpoint.delete(folder)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        recipes.write(self.recipe, folder / "recipe.toml")
        scenarios.write(self.scenario, folder / "scenario.toml")
        files.write_json(begun, identity)

    def _load_model(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        precision = best_precision(self.recipe.precision)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(self.base.folder, dtype=self.dtype).to(self.device)
        count = model.config.num_hidden_layers
        cut = max(0, count - self.recipe.layers) if self.recipe.layers else 0
        parts = split(model, cut)
        first = self.train_data.examples[0]
        check_exact(model, parts, torch.tensor(first.tokens, device=self.device), len(self.train_data.prefixes[first.group]))
        self.model = adapter.add(model, self.recipe, cut)
        self.parts: SplitModel = split(self.model.get_base_model(), cut)
        self.masters = adapter.masters(self.model)
        self.model.train()
        if self.parts.lower is not None:
            self.parts.lower.eval()

    def _prepare_stores(self) -> None:
        open_store = lambda owner, data, progress: open_or_build(  # noqa: E731
            owner, self.parts, data, self.base.sha256, str(self.dtype), progress) if self.parts.cut else None
        self.model.eval()
        self.train_store = open_store(self.run.key, self.train_data, self.on_prepare)
        self.held_out_store = open_store(f"{self.run.key}:validation", self.held_out, None) if self.held_out else None
        self.model.train()

    def _plan(self) -> list[tuple[int, list[int]]]:
        """All steps of the training: (epoch, rows of the batch)."""
        recipe = self.recipe
        plan = [(epoch, rows) for epoch in range(recipe.epochs)
                for rows in batches(self.train_data.examples, recipe.batch_size, recipe.seed, epoch)]
        return plan[: recipe.max_steps] if recipe.max_steps else plan

    def _loop(self) -> bool:
        """Run the steps that are left; False when stopped before the last."""
        import torch

        recipe, plan = self.recipe, self._plan()
        groups = [{"params": [value for name, value in self.masters.items() if ("lora_B" in name) == second], "faster": faster}
                  for second, faster in ((False, 1.0), (True, recipe.lora_plus))]
        optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2),
                                      weight_decay=recipe.weight_decay, fused=True)
        state = checkpoint.load(self.run.folder, self.masters, optimiser)
        adapter.push(self.model, self.masters)
        spent = _rewind_metrics(self.run.folder / "metrics.jsonl", state)
        ends = [index for index in range(len(plan)) if index + 1 == len(plan) or plan[index + 1][0] != plan[index][0]]
        began = time.perf_counter()
        with (self.run.folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
            for index in range(state, len(plan)):
                epoch, rows = plan[index]
                at = time.perf_counter()
                rate = recipe.learning_rate * schedule(recipe, index, len(plan))
                seen = {row: views.drawn(self.train_data.examples[row], recipe, index, row) for row in rows}
                loss, norm = self._step(optimiser, rows, rate, seen)
                seconds = time.perf_counter() - at
                tokens = sum(len(view.kept) for view in seen.values())
                row = {"step": index + 1, "steps": len(plan), "epoch": epoch, "loss": loss, "learning_rate": rate,
                       "gradient_norm": norm, "tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}
                if index in ends and self.held_out:
                    row["validation_loss"] = self.validation_loss()
                row["seconds"] = round(spent + time.perf_counter() - began, 3)
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                if self.on_step:
                    self.on_step(row)
                late = bool(recipe.max_seconds) and row["seconds"] >= recipe.max_seconds
                asked = self.stop is not None and self.stop.is_set()
                if late or asked or (index + 1) % recipe.checkpoint_steps == 0:
                    checkpoint.save(self.run.folder, index + 1, self.masters, optimiser)
                    process.release_memory()
                if late:
                    return True
                if asked:
                    return index + 1 == len(plan)
        return True

    def _step(self, optimiser: "torch.optim.Optimizer", rows: list[int], rate: float, seen: dict[int, View]) -> tuple[float, float]:
        """One optimiser step; gives the loss (nats an answer token, mean) and the gradient's norm before clipping."""
        import torch

        weight, plain = sum(view.weight for view in seen.values()), sum(sum(view.plain) for view in seen.values())
        total = 0.0
        for part in micro_batches(self.train_data, rows, self.recipe.micro_tokens):
            losses = self._losses(self.train_data, self.train_store, part, seen)
            count = lambda name: torch.tensor([each for row in part for each in getattr(seen[row], name)], device=self.device)  # noqa: B023, E731
            (losses @ count("weights") / weight).backward()
            total += (losses.detach() @ count("plain")).item() / plain
        if not math.isfinite(total):
            raise LabError(f"run {self.run.key}: the loss is not a number; lower learning_rate "
                           f"({self.recipe.learning_rate}) or use precision = \"fp32\"")
        adapter.pull_gradients(self.model, self.masters)
        norm = torch.nn.utils.clip_grad_norm_(self.masters.values(), self.recipe.clip or math.inf).item()
        for group in optimiser.param_groups:
            group["lr"] = rate * group["faster"]
        optimiser.step()
        adapter.push(self.model, self.masters)
        return total, norm

    def _losses(self, data: Encoded, store: PrefixStore | None, rows: list[int], seen: dict[int, View]) -> "torch.Tensor":
        """The cross-entropy of each token that the rows' views predict, float32 (tokens,); the rows of a group stand together."""
        import torch

        groups = [self._entered(data, store, list(own), group, seen)
                  for group, own in itertools.groupby(rows, key=lambda row: data.examples[row].group)]
        answers = [data.examples[row].tokens[place] for row in rows for place in seen[row].predicted]
        return token_losses(self.parts.head, torch.cat(self.parts.finish(groups)), torch.tensor(answers, device=self.device))

    def _entered(self, data: Encoded, store: PrefixStore | None, rows: list[int], group: int, seen: dict[int, View]) -> Rows:
        """What enters the upper layers for rows of one group: kept, or the embeddings where all layers are adapted. Wanted is what
        stands before each predicted token, and so predicts it."""
        import torch

        lengths = [len(data.own(row)) for row in rows]
        start, prefix = data.prefixes[group], None
        if store is not None:
            entered = store.rows(rows).to(self.device)
            if start:
                prefix = store.prefix(group).to(self.device)
        else:
            tokens = [token for row in rows for token in data.own(row)]
            entered = self.parts.enter(torch.tensor(tokens, device=self.device), lengths)
            if start:
                prefix = self.parts.enter(torch.tensor(start, device=self.device), [len(start)])
        taken, positions, wanted, own_lengths = [], [], [], []
        for row, first in zip(rows, itertools.accumulate(lengths, initial=0), strict=False):
            kept = [place for place in seen[row].kept if place >= len(start)]
            end = len(taken) + len(kept)  # the answer stands last
            wanted += range(end - len(seen[row].predicted) - 1, end - 1)
            taken += [first + place - len(start) for place in kept]
            positions += kept
            own_lengths.append(len(kept))
        if len(taken) < len(entered):
            entered = entered[torch.tensor(taken, device=self.device)]
        return Rows(entered, own_lengths, prefix, wanted, torch.tensor(positions, device=self.device))

    def validation_loss(self) -> float:
        """Mean cross-entropy over the answer tokens of the validation records, nats."""
        import torch

        self.model.eval()
        total = 0.0
        with torch.no_grad():
            for rows in by_length(self.held_out.examples, _HELD_OUT_BATCH):
                for part in micro_batches(self.held_out, rows, self.recipe.micro_tokens):
                    seen = {row: views.whole(self.held_out.examples[row]) for row in part}
                    total += self._losses(self.held_out, self.held_out_store, part, seen).sum().item()
        self.model.train()
        return total / sum(example.answer_tokens for example in self.held_out.examples)

    def _finish(self) -> None:
        folder = self.run.folder
        adapter.save(self.model, self.masters, self.base, self.run.adapter_folder)
        rows = self.run.metrics()
        counted = ["recipe.toml", "scenario.toml", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
        digests = {name: files.sha256_of(folder / name) for name in counted}
        splits = self.records["split"]
        files.write_json(folder / "manifest.json", {
            "format": 1,
            "run": self.run.key,
            "base": {"name": self.base.name, "sha256": self.base.sha256},
            "adapter": {"sha256": digests["adapter/adapter_model.safetensors"]},
            "files": digests,
            "data": {"fingerprint": recs.fingerprint(self.records), "sources": sorted(set(self.records["source"])),
                     "licenses": sorted(set(self.records["license"])),
                     **{name: splits.count(name) for name in ("train", "validation", "test")},
                     "left_out_as_too_long": self.train_data.too_long + (self.held_out.too_long if self.held_out else [])},
            "training": {"steps": rows[-1]["step"], "loss": rows[-1]["loss"], "seconds": rows[-1]["seconds"],
                         "validation_loss": next((row["validation_loss"] for row in reversed(rows) if "validation_loss" in row), None),
                         "precision": str(self.dtype).removeprefix("torch."), "device": self.device},
            "seed": self.recipe.seed,
            "versions": versions(),
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        })
        checkpoint.delete(folder)
        (folder / "begun.json").unlink(missing_ok=True)


def schedule(recipe: Recipe, index: int, steps: int) -> float:
    """The learning rate at step `index` (from 0) of `steps` as a share of its peak."""
    warmup = max(1, round(recipe.warmup * steps))
    if index < warmup:
        return (index + 1) / warmup
    along = (index - warmup) / max(1, steps - warmup)
    if recipe.schedule == "constant":
        return 1.0
    fall = (1 + math.cos(math.pi * along)) / 2 if recipe.schedule == "cosine" else 1 - along
    return recipe.final_rate + (1 - recipe.final_rate) * fall


def versions() -> dict[str, str]:
    """The versions that a run's weights depend on."""
    import peft
    import torch
    import transformers

    return {"labkit": __version__, "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def _rewind_metrics(path: Path, step: int) -> float:
    """Drop the rows after `step` (a killed training wrote them after its last checkpoint); gives the seconds spent until then."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            with contextlib.suppress(ValueError):  # the last line may be half written
                row = json.loads(line)
                if row["step"] <= step:
                    rows.append(row)
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows[-1]["seconds"] if rows else 0.0
