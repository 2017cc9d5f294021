"""Whether a training that is killed ends in the same weights as one that is not, and loses nothing.

Recipes of four kinds: LoRA on the embedded chat model over kept frozen layers, all weights of a small random decoder, the embedded encoder
as a classifier by AdamW, and LoRA by Muon with averaged weights and early stopping. Of each, one training runs without interruption;
then the same recipe under other names, each killed with SIGKILL at a moment drawn at random (a fifth while it loads, the others at a
step, in the middle of it, or in a checkpoint), and gone on with until it is finished. Compared are the sha256 of what was learned, and
every step's loss.

    .venv/bin/python benchmarks/resume.py [--quick] [--kills 20] [--seed 0]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

KINDS = ("lora", "full", "encoder", "muon_ema_patience")
CHECKPOINT_STEPS = 3
LOADING = 0.2  # share of the kills before the first step


def recipe(kind: str, name: str, steps: int, small: str):
    """A recipe of the kind; `small` is the folder of the random decoder."""
    from labkit import scenarios
    from labkit.training.recipe import Recipe

    common = {"scenario": scenarios.names()[0], "name": name, "max_steps": steps, "checkpoint_steps": CHECKPOINT_STEPS, "dropout": 0.05}
    changes = {
        "lora": {},
        "full": {"base": small, "method": "full", "learning_rate": 1e-3},
        "encoder": {"base": "minilm-l6", "task": "classify", "method": "freeze", "layers": 2, "learning_rate": 1e-4, "weight_decay": 0.01,
                    "max_tokens": 256},
        "muon_ema_patience": {"base": small, "optimiser": "muon", "ema": 0.9, "patience": 50, "evaluate_steps": 4},
    }[kind]
    return Recipe(**{**common, **changes})


def train(kind: str, name: str, steps: int, small: str) -> None:
    """Train in this process on the first scenario's samples."""
    from labkit import records, scenarios
    from labkit.training import trainer

    scenario = scenarios.load(scenarios.names()[0])
    samples = records.samples(scenario)
    rows = [row for split, count in (("train", 96), ("validation", 8))
            for row in list(records.rows(records.in_split(samples, split)))[:count]]
    trainer.train(recipe(kind, name, steps, small), records.from_list(rows), scenario)


def save_small_decoder(folder: Path) -> None:
    """A random Llama of 4 layers, 64 wide, with the embedded model's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from labkit import models

    tokenizer = AutoTokenizer.from_pretrained(models.resolve().folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=len(tokenizer),
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def outcome(folder: Path) -> dict[str, object]:
    """What a finished run is: the hash of what was learned, and each step's loss."""
    from labkit import runs

    run = runs.Run(folder)
    return {"weights": run.weights_sha256(), "losses": [(row["step"], row["loss"], row.get("validation_loss")) for row in run.metrics()]}


def rows_seen(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Trainings:
    """Trainings of the same data in processes of their own, with runs and a cache of their own."""

    def __init__(self, work: Path, steps: int) -> None:
        from labkit import places, scenarios

        self.steps, self.small, cache = steps, str(work / "small"), work / "cache"
        cache.mkdir()
        (cache / "models").symlink_to(places.cache_folder() / "models")
        self.environment = {**os.environ, "LABKIT_RUNS": str(work / "runs"), "LABKIT_CACHE": str(cache)}
        self.runs = work / "runs" / scenarios.names()[0]
        save_small_decoder(work / "small")

    def start(self, kind: str, name: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, __file__, "--train", kind, name, str(self.steps), self.small], env=self.environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, kind: str, name: str) -> Path:
        """Train to the end; gives the run's folder. SystemExit with what it said where it fails."""
        process = self.start(kind, name)
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"the training {kind}/{name} failed:\n{said[-2000:]}")
        return self.runs / name

    def kill(self, kind: str, name: str, loading: float, draw: random.Random) -> dict[str, object]:
        """Start a training and kill it; `loading`: seconds that an undisturbed one needs before its first step."""
        folder, process, began = self.runs / name, self.start(kind, name), time.perf_counter()
        if draw.random() < LOADING:
            wait = draw.uniform(0.1, 0.9) * loading
            while process.poll() is None and time.perf_counter() - began < wait:
                time.sleep(0.01)
        else:
            wanted = draw.randrange(self.steps)
            while process.poll() is None and rows_seen(folder) < wanted:
                time.sleep(0.002)
            time.sleep(draw.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return {"killed_after_s": round(time.perf_counter() - began, 2), "steps_seen": rows_seen(folder),
                "ended_before_the_kill": process.returncode == 0}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="two kills of short trainings")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--train", nargs=4, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    from labkit import models, process

    process.prepare()
    if chosen.train:
        kind, name, steps, small = chosen.train
        train(kind, name, int(steps), small)
        return
    models.resolve()
    kills, steps, kinds = (2, 5, ("encoder", "muon_ema_patience")) if chosen.quick else (chosen.kills, 24, KINDS)
    draw = random.Random(chosen.seed)
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as work:
        trainings = Trainings(Path(work), steps)
        for number, kind in enumerate(kinds):
            began = time.perf_counter()
            whole = outcome(trainings.finish(kind, f"{kind}-whole"))
            seconds = time.perf_counter() - began
            loading = seconds - json.loads((trainings.runs / f"{kind}-whole" / "manifest.json").read_text())["training"]["seconds"]
            for kill in range(number, kills, len(kinds)):
                name = f"{kind}-killed{kill}"
                row = trainings.kill(kind, name, loading, draw)
                now = outcome(trainings.finish(kind, name))
                row |= {"kind": kind, "identical": now["weights"] == whole["weights"], "rows_identical": now["losses"] == whole["losses"]}
                found.append(row)
                print(f"{kind}, kill {kill}: after {row['killed_after_s']:5.1f} s at step {row['steps_seen']:3d}: "
                      f"{'identical' if row['identical'] and row['rows_identical'] else 'DIFFERENT'}", flush=True)
    print(json.dumps({"claims": {"identical_after_kill": sum(row["identical"] and row["rows_identical"] for row in found)},
                      "detail": {"kills": kills, "steps": steps, "checkpoint_steps": CHECKPOINT_STEPS, "killed_before_the_end": sum(
                          not row["ended_before_the_kill"] for row in found), "moments": found}}))


if __name__ == "__main__":
    main()
