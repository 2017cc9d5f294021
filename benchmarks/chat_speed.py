"""Two chat panes at once, one with an adapter and one base: labkit's engine against transformers' `generate`.

    .venv/bin/python benchmarks/chat_speed.py [--quick] [--rounds N]

Claims, the last line's JSON:
    two_pane_ratio_vs_transformers   tokens/s of both answers together, over those of transformers doing the same two answers
    ttft_ms                          milliseconds to the first token with both panes at work, the system prompt warmed
    ttft_cold_ms                     the same with nothing in the KV cache

An answer's time runs from the question to its last token, so it holds the prompt. Both sides answer the same prompts with as
many tokens; labkit's panes have the system prompt warmed, as the app has, transformers evaluates it each time. transformers
runs in bfloat16 where the processor has it, with the adapter through PEFT, in the better of its two ways: one answer after
the other on all threads, or both at once with one thread each. Speed does not depend on the adapter's values: where no run
is there, a random adapter of rank 16 on the top 10 layers takes its place. The sides take turns; medians over rounds.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from labkit import files, models, process, runs  # noqa: E402
from labkit.serving import Sampling, open_engine  # noqa: E402

SYSTEM = """You work at the help desk of a bank. Read the customer's message and answer in the customer's own language. \
Be polite, never ask for a password or a card number, and do not promise anything that is not certain.
Answer with these lines and nothing else:
Intent: one of card arrival, card lost or stolen, card not working, cash withdrawal, declined payment, exchange rate, \
identity check, pending transfer, top up, wrong amount, fee explained, change of address, close the account, other
Sentiment: one of positive, neutral, negative
Reply: a text of two or three sentences that says what happens next, what the customer can do now, and where to turn if \
that does not help. Name the place in the app where it is done. If anything in the message points to fraud, tell the \
customer to freeze the card in the app at once, and give the number of the emergency line, which is open day and night."""
QUESTION = "I moved {money} pounds to a friend on {day} and it still says pending, can you tell me when it will arrive?"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute")
    arguments.add_argument("--rounds", type=int, default=None)
    options = arguments.parse_args()
    process.prepare()
    rounds = options.rounds or (1 if options.quick else 5)
    tokens = 8 if options.quick else 64
    base = models.resolve()
    with tempfile.TemporaryDirectory(prefix="labkit-") as folder:
        run, origin = a_run(base, Path(folder) / "bench" / "random")
        result = measure(base, run, rounds, tokens, options.quick)
    result["detail"] |= {"adapter": origin, "rounds": rounds, "tokens_an_answer": tokens, "quick": options.quick}
    print(json.dumps(result))


def a_run(base: models.BaseModel, folder: Path) -> tuple[runs.Run, str]:
    """A sound run of this base from the catalogue, else one with a random adapter."""
    for run in runs.catalogue():
        if run.state() == "done" and run.manifest()["base"]["sha256"] == base.sha256:
            return run, run.key
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base.folder), dtype=torch.float32)
    layers = model.config.num_hidden_layers
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=targets, layers_to_transform=list(range(layers - 10, layers)))
    torch.manual_seed(0)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.002)
    adapted.save_pretrained(folder / "adapter")
    path = folder / "adapter" / "adapter_model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files.write_json(folder / "manifest.json", {"base": {"name": base.name, "sha256": base.sha256},
                                                "adapter": {"sha256": digest}, "files": {"adapter/" + path.name: digest}})
    return runs.Run(folder), "random, rank 16 on the top 10 layers"


def measure(base: models.BaseModel, run: runs.Run, rounds: int, tokens: int, quick: bool) -> dict:
    """Both sides in turn; the claims and what they are made of."""
    panes = [open_engine(base, run, kind="llama.cpp", threads=1), open_engine(base, kind="llama.cpp", threads=1)]
    rivals = [load_transformers(base, run), load_transformers(base, None)]
    system = {"role": "system", "content": SYSTEM}
    found: dict[str, list[float]] = {name: [] for name in ("llama.cpp", "llama.cpp_cold", "generation_only", "ttft_ms",
                                                          "ttft_cold_ms", "one_after_the_other", "both_at_once")}
    sizes = {}
    first = 0 if quick else 1  # a smoke run counts its only round
    for number in range(rounds + first):  # the first is not counted: it loads pages and starts threads
        counted = number >= first
        for name, warm in (("ttft_cold_ms", False), ("ttft_ms", True)):
            empty(panes)
            if warm:
                together([lambda pane=pane: pane.warm([system]) for pane in panes])
            chat = [system, question(number)]
            seconds, answers = answer(panes, chat, tokens)
            if counted:
                if not warm:
                    found["llama.cpp_cold"].append(sum(pane.speed.tokens for pane in panes) / seconds)
                found[name].append(1000 * max(pane.speed.first_token_seconds for pane in panes))
        drawn = [pane.speed.tokens for pane in panes]
        prompt = panes[0]._chat.encode(chat)
        sizes = {"prompt_tokens": len(prompt), "warmed_tokens": len(panes[0]._chat.prefix([system]))}
        other = {"one_after_the_other": one_after_the_other(rivals, prompt, drawn),
                 "both_at_once": both_at_once(rivals, prompt, drawn)}
        if counted:
            found["llama.cpp"].append(sum(drawn) / seconds)
            found["generation_only"].append(sum(pane.speed.tokens_per_second for pane in panes))
            for name, taken in other.items():
                found[name].append(sum(drawn) / taken)
    medians = {name: statistics.median(values) for name, values in found.items()}
    best = max(medians["one_after_the_other"], medians["both_at_once"])
    claims = {"two_pane_ratio_vs_transformers": round(medians["llama.cpp"] / best, 2),
              "ttft_ms": round(medians["ttft_ms"]), "ttft_cold_ms": round(medians["ttft_cold_ms"])}
    detail = {"tokens_per_second": {name: round(medians[name], 1) for name in medians if "ttft" not in name}, **sizes,
              "ratio_with_nothing_warmed": round(medians["llama.cpp_cold"] / best, 2),
              "all_rounds": {name: [round(value, 1) for value in values] for name, values in found.items()},
              "dtype": str(rivals[0].dtype), "cores": os.cpu_count(), "load_at_end": round(os.getloadavg()[0], 2),
              "weights": [pane.weights.adapter for pane in panes]}
    for pane in panes:
        pane.close()
    return {"claims": claims, "detail": detail}


def question(number: int) -> dict[str, str]:
    """A new one for each round, so that no answer is in the KV cache."""
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
    return {"role": "user", "content": QUESTION.format(money=100 + 7 * number, day=days[number % 5])}


def empty(panes) -> None:
    """Leave nothing in the KV caches."""
    for pane in panes:
        pane._forget(0)


def answer(panes, chat, tokens: int) -> tuple[float, list[str]]:
    """Both panes answer at the same time with this many tokens each; seconds until the later one is done, and the texts."""
    found = ["", ""]

    def work(row: int) -> None:
        found[row] = "".join(panes[row].stream(chat, Sampling(max_tokens=tokens)))

    ends = [pane._chat.ends for pane in panes]
    for pane in panes:
        pane._chat.ends = frozenset()  # every answer goes on to its last token, as transformers' does
    seconds = together([lambda: work(0), lambda: work(1)])
    for pane, kept in zip(panes, ends, strict=True):
        pane._chat.ends = kept
    return seconds, found


def load_transformers(base: models.BaseModel, run: runs.Run | None):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from labkit.serving.transformers_engine import best_dtype

    model = AutoModelForCausalLM.from_pretrained(str(base.folder), dtype=best_dtype())
    return (PeftModel.from_pretrained(model, str(run.adapter_folder)) if run else model).eval()


def generate(model, prompt: list[int], tokens: int, threads: int) -> None:
    """transformers' own `generate`, greedy, exactly `tokens` tokens."""
    import torch

    torch.set_num_threads(threads)
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                             min_new_tokens=tokens, max_new_tokens=tokens)
    assert out.shape[1] == len(prompt) + tokens


def one_after_the_other(models_, prompt: list[int], drawn: list[int]) -> float:
    """Seconds for both answers, each on all cores."""
    start = time.perf_counter()
    for model, tokens in zip(models_, drawn, strict=True):
        generate(model, prompt, tokens, os.cpu_count() or 1)
    return time.perf_counter() - start


def both_at_once(models_, prompt: list[int], drawn: list[int]) -> float:
    """Seconds until both answers are there, each on its share of the cores."""
    share = max(1, (os.cpu_count() or 2) // 2)
    return together([lambda row=row: generate(models_[row], prompt, drawn[row], share) for row in range(2)])


def together(jobs) -> float:
    """Seconds until all jobs, started at the same time, are done."""
    threads = [threading.Thread(target=job) for job in jobs]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
