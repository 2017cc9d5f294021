"""How fast labkit fine-tunes, and how well, against TRL's SFTTrainer on the same records.

Both train the same records (600 of Banking77 where `../shared/data` is there, else of the lab's samples) on the same base with
LoRA of the same rank, for 3 epochs at the same effective batch size; TRL with its defaults (`use_cpu=True`), labkit with its
own, except that it leaves out no tokens (`token_drop=0`), so that both sides learn from all of them.
Each training is a process of its own, the two in turn. Speed counts the records' real tokens, prompt and answer, no padding,
over the wall time of the training call (labkit's run of the frozen layers included, loading and saving left out on both sides).

    .venv/bin/python benchmarks/train_speed.py [--quick] [--seeds 3] [--only labkit]
"""

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BANKING = ROOT.parent / "shared" / "data"
RANK, EPOCHS, BATCH = 16, 3, 8


def load(rows: int, seed: int):
    """(records, scenario): `rows` train records and a third as many held-out ones (at least 16); the prompt is about 45 tokens."""
    from labkit import records, scenarios

    text = {"en": "x", "zh": "x"}
    field = scenarios.Field("intent", "text", {"en": "Intent", "zh": "意图"}, text)
    scenario = scenarios.Scenario("speed", text, text, {"en": "You label customer messages with one intent.", "zh": "x"},
                                  text, {"en": (), "zh": ()}, (field,))
    if (BANKING / "banking77_train.csv").exists():
        def read(name):
            with (BANKING / name).open(encoding="utf-8") as file:
                found = [(row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(file)]
            random.Random(seed).shuffle(found)
            return found
        train, test, source = read("banking77_train.csv")[:rows], read("banking77_test.csv")[: max(16, rows // 3)], "banking77"
    else:
        known = scenarios.load(scenarios.names()[0])
        first = known.label_fields[0].name
        found = [(row["messages"][-1]["content"], row["answer"][first].replace("_", " "))
                 for row in records.samples(known) if row["language"] == "en"]
        random.Random(seed).shuffle(found)
        train, test, source = found[: min(rows, len(found) - 50)], found[-50:], known.name
    made = [records.make("speed", "en", [{"role": "user", "content": question}], {"intent": answer}, source=source,
                         license="", split=split) for split, pairs in (("train", train), ("test", test)) for question, answer in pairs]
    return records.from_list(made), scenario


def held_out_loss(model, encoded) -> float:
    """Mean cross-entropy over the answer tokens in float32, one record at a time: the same yardstick for both."""
    import torch

    total = count = 0
    model.eval()
    with torch.no_grad():
        for example in encoded.examples:
            tokens = torch.tensor([example.tokens])
            logits = model(input_ids=tokens).logits[0, example.answer_start - 1 : -1].float()
            total += torch.nn.functional.cross_entropy(logits, tokens[0, example.answer_start :], reduction="sum").item()
            count += example.answer_tokens
    return total / count


def one(side: str, rows: int, seed: int, rate: float | None) -> dict:
    """Train one side in this process; gives tokens/s, seconds, held-out loss, peak memory."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labkit import models, records
    from labkit.training import trainer
    from labkit.training.examples import encode
    from labkit.training.recipe import Recipe

    torch.set_num_threads(os.cpu_count())
    data, scenario = load(rows, seed)
    base = models.resolve()
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    train = encode(records.in_split(data, "train"), scenario, tokenizer, 1024)
    test = encode(records.in_split(data, "test"), scenario, tokenizer, 1024)
    with tempfile.TemporaryDirectory() as work:
        os.environ["LABKIT_RUNS"] = work
        if side == "labkit":
            os.environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
            recipe = Recipe(scenario="speed", name=f"seed{seed}", rank=RANK, alpha=2 * RANK, epochs=EPOCHS, batch_size=BATCH, seed=seed,
                            token_drop=0.0, **({"learning_rate": rate} if rate else {}))
            run = trainer.Run(trainer.runs.folder_for("speed", recipe.name))
            training = trainer._Training(recipe, data, scenario, run, None, None, None)
            training.base = base
            training._encode()
            training._begin_folder()
            training._load_model()
            began = time.perf_counter()
            training._prepare_stores()
            training._loop()
            seconds = time.perf_counter() - began
            training._finish()
            whole = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
            model = PeftModel.from_pretrained(whole, training.run.adapter_folder)
        else:
            from datasets import Dataset
            from peft import LoraConfig
            from trl import SFTConfig, SFTTrainer

            pairs = [{"prompt": records.prompt(row, scenario),
                      "completion": [{"role": "assistant", "content": records.target(row, scenario)}]}
                     for row in records.in_split(data, "train")]
            config = SFTConfig(output_dir=work, use_cpu=True, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
                               seed=seed, report_to="none", save_strategy="no", disable_tqdm=True,
                               **({"learning_rate": rate} if rate else {}))
            model = AutoModelForCausalLM.from_pretrained(base.folder)
            sft = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer,
                             peft_config=LoraConfig(r=RANK, task_type="CAUSAL_LM"))
            began = time.perf_counter()
            sft.train()
            seconds = time.perf_counter() - began
            model = sft.model.float()
        loss = held_out_loss(model, test)
    return {"tokens_per_s": train.tokens * EPOCHS / seconds, "seconds": seconds, "heldout_loss": loss,
            "tokens": train.tokens * EPOCHS, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def run(side: str, rows: int, seed: int, rate: float | None = None) -> dict:
    """`one` in a process of its own; labkit's cache of frozen layers is always empty at the start."""
    command = [sys.executable, __file__, "--side", side, "--rows", str(rows), "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as cache:
        from labkit import places

        models_folder = places.cache_folder() / "models"
        models_folder.mkdir(parents=True, exist_ok=True)
        (Path(cache) / "models").symlink_to(models_folder)
        done = subprocess.run(command + (["--rate", str(rate)] if rate else []), capture_output=True, text=True,
                              env={**os.environ, "LABKIT_CACHE": cache, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{side:7s} seed {seed}: {found['tokens_per_s']:7.1f} tokens/s, held-out loss {found['heldout_loss']:.4f}, "
          f"peak {found['peak_gb']:.2f} GB, {found['seconds']:.0f} s", flush=True)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="16 records, one seed")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--only", choices=["labkit", "trl"])
    arguments.add_argument("--side", help=argparse.SUPPRESS)
    arguments.add_argument("--rows", type=int, default=600)
    arguments.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.side:
        print(json.dumps(one(chosen.side, chosen.rows, chosen.seed, chosen.rate)))
        return
    from labkit import models, process

    process.prepare()
    models.resolve()
    rows, seeds = (16, 1) if chosen.quick else (chosen.rows, chosen.seeds)
    found: dict[str, list[dict]] = {"labkit": [], "trl": []}
    for seed in range(seeds):
        for side in found:
            if chosen.only in (None, side):
                found[side].append(run(side, rows, seed))
    claims = {}
    if all(found.values()):
        pairs = list(zip(found["labkit"], found["trl"], strict=True))
        claims = {"train_ratio_vs_trl": round(statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs), 2),
                  "heldout_loss_ratio": round(statistics.median(a["heldout_loss"] / b["heldout_loss"] for a, b in pairs), 4)}
    print(json.dumps({"claims": claims, "detail": {"rows": rows, "rank": RANK, "epochs": EPOCHS, "batch": BATCH, **found}}))


if __name__ == "__main__":
    main()
