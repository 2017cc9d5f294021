"""A run of every method is served, evaluated and listed, and answers what transformers and PEFT alone answer."""

import pytest
import torch

from apps import checkpoints
from labkit import models, records, runs, serving
from labkit.errors import LabError
from labkit.evaluation import report
from labkit.serving import Sampling, open_engine, transformers_engine
from labkit.training import trainer
from labkit.training.recipe import Recipe

LLAMACPP = ("lora", "rslora", "pissa")
METHODS = (*LLAMACPP, "full", "freeze", "dora", "ia3", "prefix", "prompt")
VIRTUAL = ("prefix", "prompt")
QUESTIONS = ["an apple, round and red", "第3个水果又圆又红", "a pear or so"]


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch, tiny):
    """A cache of its own; the tiny base, with its GGUF, under its name; exact arithmetic."""
    resolve = models.resolve
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "resolve", lambda name=models.DEFAULT: tiny if name == tiny.name else resolve(name))
    monkeypatch.setattr(transformers_engine, "best_dtype", lambda: torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture()
def run_of(tiny, small_records, small_scenario):
    def train(method, **changes):
        recipe = Recipe(**{"scenario": "small", "name": method, "base": tiny.name, "method": method, "layers": 2, "rank": 4, "alpha": 6,
                           "virtual_tokens": 5, "epochs": 3, "batch_size": 4, "learning_rate": 0.02, "precision": "fp32", **changes})
        return trainer.train(recipe, small_records, small_scenario)

    return train


def alone(run, base, chat, tokens):
    """What transformers (and PEFT) make of a run: greedy answers without any cache of keys and values, text."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    if (run.folder / "model").exists():
        model = AutoModelForCausalLM.from_pretrained(run.folder / "model", dtype=torch.float32).eval()
    else:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32), run.adapter_folder).eval()
    begun = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(begun, add_special_tokens=False)["input_ids"]
    written = []
    while len(written) < tokens:
        with torch.inference_mode():
            row = torch.tensor([ids + written])
            best = int(model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0, -1].argmax())
        if best == tokenizer.eos_token_id:
            break
        written.append(best)
    return tokenizer.decode(written, skip_special_tokens=True).rstrip("\ufffd")


def answers(engine, chats, tokens):
    return ["".join(engine.stream(chat, Sampling(max_tokens=tokens))) for chat in chats]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_every_method_answers_as_transformers_and_peft_alone_do(tiny, run_of, small_scenario, method):
    run = run_of(method)
    system = {"role": "system", "content": small_scenario.system_prompt("en")}
    chats = [[system, {"role": "user", "content": question}] for question in QUESTIONS]
    wanted = [alone(run, tiny, chat, 8) for chat in chats]
    engine, base = open_engine(tiny, run, threads=1), open_engine(tiny, kind="transformers", threads=1)
    try:
        assert engine.weights.engine == ("llama.cpp" if method in LLAMACPP else "transformers")
        assert engine.weights.base == tiny.sha256 and engine.weights.adapter == run.weights_sha256()
        assert answers(engine, chats, 8) == wanted
        assert answers(engine, chats, 8) == wanted  # again, over a cache that holds the last chat
        assert answers(base, chats, 8) != wanted
    finally:
        engine.close()
        base.close()


@pytest.mark.parametrize("method", VIRTUAL)
def test_what_stands_before_the_chat_takes_room_in_the_context_and_is_warmed_with_it(tiny, run_of, method):
    engine = open_engine(tiny, run_of(method), threads=1)
    try:
        assert engine._backend.context == 1024 - 5
        chat = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "When?"}]
        fresh = answers(engine, [chat], 8)
        engine._held = []
        engine._backend.forget(0)
        engine.warm(chat[:1])
        assert engine._backend._cache.get_seq_length() == 5 + len(engine._held)
        assert answers(engine, [chat], 8) == fresh
    finally:
        engine.close()


@pytest.mark.parametrize("method", [method for method in METHODS if method not in VIRTUAL])
def test_a_run_of_every_method_is_evaluated_listed_and_described(tiny, run_of, small_records, small_scenario, monkeypatch, method):
    monkeypatch.setattr(checkpoints.scenarios, "load", lambda name: small_scenario)
    run = run_of(method)
    found = report.evaluate(run, small_records)
    assert found["weights"]["adapter"]["sha256"] == run.weights_sha256()
    assert found["fine_tuned"]["overall"]["fields"]["kind"]["n"] == 2
    card = (run.folder / "README.md").read_text()
    assert "sha256" in card and ("LoRA" in card) == (method in ("lora", "rslora", "dora", "pissa"))
    head = card.split("---")[1]
    assert ("library_name: peft" in head) == run.adapter_folder.exists() != ("library_name: transformers" in head)
    listed = checkpoints.listing("small").available
    assert run.key in listed and listed[run.key].identity() == (str(run.folder), run.weights_sha256())


@pytest.mark.parametrize("method", VIRTUAL)
def test_what_no_weights_can_hold_is_not_evaluated_in_batches_and_says_so(run_of, small_records, method):
    with pytest.raises(LabError, match="prefix or prompt, which cannot be merged"):
        report.evaluate(run_of(method), small_records)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in LLAMACPP])
def test_llamacpp_refuses_what_it_cannot_express_in_one_line(tiny, run_of, method):
    with pytest.raises(LabError, match="transformers engine") as error:
        open_engine(tiny, run_of(method), kind="llama.cpp")
    assert "\n" not in str(error.value)


def test_a_model_in_several_files_is_served_by_the_hash_of_all(tiny, run_of):
    """As transformers writes a large one."""
    import hashlib

    from transformers import AutoModelForCausalLM

    from labkit import files

    run = run_of("full")
    model = AutoModelForCausalLM.from_pretrained(run.folder / "model", dtype=torch.float32)
    model.save_pretrained(run.folder / "model", max_shard_size="200KB")
    (run.folder / "model" / "model.safetensors").unlink(missing_ok=True)
    parts = sorted((run.folder / "model").glob("*.safetensors"))
    assert len(parts) > 1
    digests = {str(path.relative_to(run.folder)): files.sha256_of(path) for path in parts}
    whole = hashlib.sha256("\n".join(sorted(digests.values())).encode()).hexdigest()
    files.write_json(run.folder / "manifest.json", {**run.manifest(), "files": digests, "model": {"sha256": whole}})
    engine = open_engine(tiny, runs.Run(run.folder), threads=1)
    assert engine.weights.adapter == whole
    engine.close()


def test_an_encoder_is_not_listed_for_chat_and_a_damaged_model_is_not_served(tiny, run_of, small_records, small_scenario, monkeypatch,
                                                                             tmp_path):
    from tests.training.tasks.tiny import save_tiny_bert

    monkeypatch.setattr(checkpoints.scenarios, "load", lambda name: small_scenario)
    encoder = trainer.train(Recipe(scenario="small", name="encoder", base=save_tiny_bert(tmp_path / "bert"), task="classify", method="full",
                                   epochs=1), records.from_list(list(small_records)), small_scenario)
    full = run_of("full")
    assert encoder.key not in checkpoints.listing("small").available and full.key in checkpoints.listing("small").available
    path = full.weights_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert checkpoints.listing("small").missing[full.key] == "damaged"
    with pytest.raises(LabError, match="damaged and not served"):
        serving.open_engine(tiny, full)
