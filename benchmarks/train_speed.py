"""How fast labkit fine-tunes, and how well, against TRL's SFTTrainer on the same records.

Both train the same records (600 of Banking77 where `../shared/data` is there, else of the lab's samples) on the same base with
LoRA of the same rank, for 3 epochs at the same effective batch size; TRL with its defaults (`use_cpu=True` without a GPU), labkit with its
own, except that it leaves out no tokens (`token_drop=0`), so that both sides learn from all of them.
A second TRL is set as well as it can be on a processor: number format, packing, no checkpointing; the script searches and says which.
Each training is a process of its own, the sides in turn. Speed counts the records' real tokens, prompt and answer, no padding,
over the wall time of the training call (labkit's run of the frozen layers included, loading and saving left out on both sides).

`matmul_share` is another question: how much of a plain LoRA step on all layers its matrix products would take at the machine's best
rate.

Where there is a GPU both sides train on it, and peak memory is the GPU's; `matmul_share` is measured on processors alone. `--shape 0.5b`
takes random weights of Qwen2.5 0.5B's sizes (under the embedded model's tokenizer) in place of the embedded model: losses then say nothing,
speed and memory do.

    .venv/bin/python benchmarks/train_speed.py [--quick] [--seeds 3] [--only labkit] [--set layers=6] [--shape 0.5b]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import intents

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RANK, EPOCHS, BATCH = 16, 3, 8
STEADY_SECONDS = 0.33
BASE = "LABKIT_BENCHMARK_BASE"
SIDES = ("labkit", "trl", "tuned", "share")


def load(rows: int, seed: int):
    """(records, scenario): `rows` train records and a third as many held-out ones (at least 16); the prompt is about 45 tokens."""
    from labkit import records, scenarios

    text = {"en": "x", "zh": "x"}
    field = scenarios.Field("intent", "text", {"en": "Intent", "zh": "意图"}, text)
    scenario = scenarios.Scenario("speed", text, text, {"en": "You label customer messages with one intent.", "zh": "x"},
                                  text, {"en": (), "zh": ()}, (field,))
    train, test, source = intents.read()
    for pairs in (train, test):
        random.Random(seed).shuffle(pairs)
    train, test = train[:rows], test[: max(16, rows // 3)]
    made = [records.make("speed", "en", [{"role": "user", "content": question}], {"intent": answer.replace("_", " ")}, source=source,
                         license="", split=split) for split, pairs in (("train", train), ("test", test)) for question, answer in pairs]
    return records.from_list(made), scenario


def held_out_loss(model, encoded) -> float:
    """Mean cross-entropy over the answer tokens in float32, one record at a time: the same yardstick for both."""
    import torch

    total = count = 0
    model.eval()
    with torch.no_grad():
        for example in encoded.examples:
            tokens = torch.tensor([example.tokens], device=model.device)
            logits = model(input_ids=tokens).logits[0, example.answer_start - 1 : -1].float()
            total += torch.nn.functional.cross_entropy(logits, tokens[0, example.answer_start :], reduction="sum").item()
            count += example.answer_tokens
    return total / count


def one(side: str, rows: int, seed: int, settings: dict, epochs: int = EPOCHS) -> dict:
    """Train one side in this process; gives tokens/s, seconds, held-out loss, peak memory."""
    import torch
    from transformers import AutoTokenizer

    from labkit import models, records
    from labkit.training.examples import encode
    from labkit.training.watching import memory

    torch.set_num_threads(os.cpu_count())
    data, scenario = load(rows, seed)
    base = models.resolve(os.environ.get(BASE) or models.DEFAULT)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    train = encode(records.in_split(data, "train"), scenario, tokenizer, 1024)
    test = encode(records.in_split(data, "test"), scenario, tokenizer, 1024)
    with tempfile.TemporaryDirectory() as work:
        seconds, model = (_labkit if side == "labkit" else _trl)(work, data, scenario, base, tokenizer, seed, settings, epochs)
        peak = (memory.device_gb() or (0.0, memory.peak_gb()))[1]
        loss = held_out_loss(model.float(), test)
    tokens = train.tokens * epochs
    return {"tokens_per_s": tokens / seconds, "seconds": seconds, "heldout_loss": loss, "tokens": tokens, "peak_gb": peak,
            "settings": settings}


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"


def shaped(folder: Path) -> str:
    """Random weights of Qwen2.5 0.5B's sizes (its config.json on the hub) under the embedded model's tokenizer, in `folder`."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from labkit import models

    tokenizer = AutoTokenizer.from_pretrained(models.resolve().folder)
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                         num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
                         bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _labkit(work, data, scenario, base, tokenizer, seed: int, settings: dict, epochs: int):
    """(seconds of the frozen layers and of the steps, the adapted model)."""
    from labkit.evaluation import predict
    from labkit.training import trainer
    from labkit.training.recipe import Recipe

    os.environ["LABKIT_RUNS"] = work
    recipe = Recipe(**{"scenario": "speed", "name": f"seed{seed}", "rank": RANK, "alpha": 2 * RANK, "epochs": epochs, "batch_size": BATCH,
                       "base": base.name, "seed": seed, "token_drop": 0.0, **settings})
    only = data.filter(lambda split: split == "train", input_columns=["split"])
    run = trainer.train(recipe, only, scenario)
    told = run.manifest()["training"]
    return told["prepare_seconds"] + told["seconds"], predict.load(base, run.learned_folder, "fp32")


def _trl(work, data, scenario, base, tokenizer, seed: int, settings: dict, epochs: int):
    """(seconds of `train()`, the adapted model). `dtype` is the model's number format, all else goes to SFTConfig."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from labkit import records

    own = dict(settings)
    dtype = {"dtype": getattr(torch, own.pop("dtype"))} if "dtype" in own else {}
    pairs = [{"prompt": records.prompt(row, scenario), "completion": [{"role": "assistant", "content": records.target(row, scenario)}]}
             for row in records.in_split(data, "train")]
    config = SFTConfig(output_dir=work, use_cpu=not torch.cuda.is_available(), num_train_epochs=epochs,
                       per_device_train_batch_size=BATCH, seed=seed, report_to="none", save_strategy="no", disable_tqdm=True, **own)
    sft = SFTTrainer(model=AutoModelForCausalLM.from_pretrained(base.folder, **dtype), args=config, train_dataset=Dataset.from_list(pairs),
                     processing_class=tokenizer, peft_config=LoraConfig(r=RANK, task_type="CAUSAL_LM"))
    began = time.perf_counter()
    sft.train()
    return time.perf_counter() - began, sft.model


# What TRL may be set to on a processor, beside its defaults. Packing joins records up to max_length, so that a batch of 8 holds far
# more of them: fewer steps over the same tokens.
TUNED = [{"gradient_checkpointing": False, **format_, **packing}
         for format_ in ({}, {"bf16": False, "dtype": "bfloat16"}, {"bf16": False, "dtype": "float32"})
         for packing in ({}, {"packing": True, "max_length": 512})]


def matmul_share(rows: int, seed: int) -> dict:
    """How much of a step of LoRA on all layers its matrix products would take at the machine's best rate, in this process. Both are in the
    number format that a training takes here, `format`: bfloat16, or float32 where the processor does not multiply that in hardware.
    Rate and steps are measured in turn: a shared machine's rate halves and doubles within a minute. The same few batches go through
    twice, and the second time counts: a length of sequence that comes for the first time costs 20 ms a product for its compilation, once a
    training (`with_new_shapes` beside it). `of_steady_rate`: the same against what the machine multiplies over a third of a second,
    the larger of before and after the step; single products are faster than any work that lasts."""
    import torch

    from labkit import models, records
    from labkit.training import chat_data, precision
    from labkit.training.chat import CachedChat
    from labkit.training.recipe import Recipe
    from labkit.training.watching import memory
    from labkit.training.world import World

    torch.set_num_threads(os.cpu_count())
    data, scenario = load(rows, seed)
    base, format_ = models.resolve(), precision.best_precision()
    squares = [torch.randn(2, size, size, dtype=precision.dtype_of()) for size in (512, 1024, 2048)]

    def measured() -> tuple[float, float]:
        """The best rate of a dozen products, and the mean one of products that go on for a third of a second."""
        best, (left, right) = 0.0, squares[-1]
        for each in squares:
            for _ in range(4):
                at = time.perf_counter()
                each[0] @ each[1]
                best = max(best, 2 * each.shape[1] ** 3 / (time.perf_counter() - at))
        began, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < STEADY_SECONDS:
            left @ right
            count += 1
        return best, count * 2 * len(left) ** 3 / spent

    measured()
    found, rates = [], []
    for batch in (8, 32, 64, 128) if rows > 128 else (8,):
        recipe = Recipe(scenario="speed", rank=RANK, alpha=2 * RANK, batch_size=batch, layers=0, token_drop=0.0,
                        precision=format_, seed=seed)
        learner = CachedChat(recipe, base, chat_data.read(recipe, records.in_split(data, "train"), scenario, base))
        learner.prepare("speed")
        plan = learner.plan()
        shares = []
        for _ in ("new shapes", "known shapes"):
            taken, before = [], measured()
            for index, (_, places) in enumerate(plan[:6]):
                at = time.perf_counter()
                learner.step(places, index, World())
                seconds, after = time.perf_counter() - at, measured()
                learner.drop_gradients()
                rates.append([max(pair) for pair in zip(before, after, strict=True)])
                taken.append([flops(learner, places) / rate / seconds for rate in rates[-1]])
                before = after
            shares.append([round(statistics.median(each), 4) for each in zip(*taken, strict=True)])
        (with_new, _), (share, steady) = shares
        found.append({"batch": batch, "share": share, "with_new_shapes": with_new, "of_steady_rate": steady})
    best, steady = (round(statistics.median(each) / 1e9, 1) for each in zip(*rates, strict=True))
    return {"matmul_share": max(each["share"] for each in found), "format": format_, "gflops": best, "steady_gflops": steady,
            "by_batch": found, "peak_gb": memory.peak_gb()}


def flops(learner, places: list[int]) -> float:
    """Floating-point operations of the matrix products that a step of these records needs: the frozen maps there and back (4 a weight and
    token), LoRA's there and back (6), attention over each token's own past (6 x 2 products), and the scores of answer tokens. The system
    prompt counts once a batch: what need not be computed is no work done."""
    config, data = learner.model.config, learner.data.train
    groups = {data.examples[row].group for row in places}
    starts = {group: len(data.prefixes[group]) for group in groups}
    own = {row: len(data.examples[row].tokens) - starts[data.examples[row].group] for row in places}
    tokens = sum(own.values()) + sum(starts.values())
    frozen = lora = 0
    for name, parameter in learner.parts.upper.named_parameters():
        if parameter.ndim == 2 and "lora_" in name:
            lora += parameter.numel()
        elif parameter.ndim == 2 and "layers" in name:
            frozen += parameter.numel()
    pairs = sum(length**2 / 2 for length in starts.values())
    pairs += sum(length**2 / 2 + length * starts[data.examples[row].group] for row, length in own.items())
    size = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    answers = sum(data.examples[row].answer_tokens for row in places)
    attention = 6 * 2 * pairs * size * config.num_hidden_layers
    return tokens * (4 * frozen + 6 * lora) + attention + 4 * answers * config.vocab_size * config.hidden_size


def run(side: str, rows: int, seed: int, settings: dict | None = None, epochs: int = EPOCHS) -> dict:
    """`one` in a process of its own; labkit's cache of frozen layers is always empty at the start."""
    command = [sys.executable, __file__, "--side", side, "--rows", str(rows), "--seed", str(seed), "--settings", json.dumps(settings or {}),
               "--epochs", str(epochs)]
    with tempfile.TemporaryDirectory() as cache:
        from labkit import places

        models_folder = places.cache_folder() / "models"
        models_folder.mkdir(parents=True, exist_ok=True)
        (Path(cache) / "models").symlink_to(models_folder)
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LABKIT_CACHE": cache, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "tokens_per_s" in found:
        print(f"{side:7s} seed {seed}: {found['tokens_per_s']:7.1f} tokens/s, held-out loss {found['heldout_loss']:.4f}, "
              f"peak {found['peak_gb']:.2f} GB, {found['seconds']:.0f} s, {found['settings']}", flush=True)
    return found


def tuned(rows: int) -> dict:
    """TRL's fastest settings on a quarter of the records, one epoch each."""
    tried = [(run("trl", max(16, rows // 4), 0, settings, 1)["tokens_per_s"], settings) for settings in TUNED]
    return max(tried, key=lambda pair: pair[0])[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="16 records, one seed, one epoch, one of TRL's settings; TRL in "
                           "float32 where the processor does not multiply bfloat16")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--only", nargs="+", choices=SIDES, default=SIDES, help="some sides alone")
    arguments.add_argument("--set", action="append", default=[], help="a setting of labkit's recipe, KEY=VALUE")
    arguments.add_argument("--shape", choices=("0.5b",), help="random weights of a larger model's sizes")
    arguments.add_argument("--side", help=argparse.SUPPRESS)
    arguments.add_argument("--rows", type=int, default=600)
    arguments.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    arguments.add_argument("--epochs", type=int, default=EPOCHS, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    from labkit import models, process

    process.prepare()
    if chosen.side == "share":
        print(json.dumps(matmul_share(chosen.rows, chosen.seed)))
        return
    if chosen.side:
        print(json.dumps(one(chosen.side, chosen.rows, chosen.seed, json.loads(chosen.settings), chosen.epochs)))
        return
    from labkit.cli_words import settings

    models.resolve()
    if chosen.shape:
        folder = tempfile.TemporaryDirectory(prefix="labkit-shape-")  # removed when this process ends
        os.environ[BASE] = shaped(Path(folder.name))
    rows, seeds, epochs = (16, 1, 1) if chosen.quick else (chosen.rows, chosen.seeds, EPOCHS)
    wanted = [side for side in chosen.only if side != "share" or (device_name() == "processor" and not chosen.shape)]
    # A processor that does not multiply bfloat16 takes 100 times as long over TRL's default: a smoke run does not wait for that.
    plain = TUNED[4] if chosen.quick and not process.multiplies_bf16() else {}
    best = (plain or TUNED[2] if chosen.quick else tuned(rows)) if "tuned" in wanted else {}
    found: dict[str, list[dict]] = {"labkit": [], "trl": [], "tuned": []}
    for seed in range(seeds):
        for side in found:
            if side in wanted:
                own = settings(chosen.set) if side == "labkit" else best if side == "tuned" else plain
                found[side].append(run("trl" if side == "tuned" else side, rows, seed, own, epochs))
    share = run("share", min(rows, 300), 0) if "share" in wanted else {}
    ratio = lambda key, side: statistics.median(  # noqa: E731
        ours[key] / theirs[key] for ours, theirs in zip(found["labkit"], found[side], strict=True))
    claims = {}
    if found["labkit"] and found["trl"]:
        claims = {"train_ratio_vs_trl": round(ratio("tokens_per_s", "trl"), 2),
                  "heldout_loss_ratio": round(ratio("heldout_loss", "trl"), 4)}
    if found["labkit"] and found["tuned"]:
        claims |= {"train_ratio_vs_trl_tuned": round(ratio("tokens_per_s", "tuned"), 2)}
    if share:
        claims |= {"matmul_share": share["matmul_share"]}
    detail = {"device": device_name(), "shape": chosen.shape, "rows": rows, "rank": RANK, "epochs": epochs, "batch": BATCH, "tuned": best,
              "share": share, "runs": found}
    print(json.dumps({"claims": claims, "detail": detail}))


if __name__ == "__main__":
    main()
