"""Training end to end on a tiny random model: what it learns, keeps, resumes and refuses."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import torch
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

from labkit import files, places, records, runs
from labkit.errors import LabError
from labkit.training import chat, packed_attention, schedules, trainer
from labkit.training import recipe as recipes
from labkit.training.examples import Encoded, Example, batches, encode, micro_batches
from labkit.training.recipe import Recipe
from tests.conftest import save_tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, tiny_base):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def recipe_of(tiny_base, **changes):
    return Recipe(**{"scenario": "small", "base": tiny_base, "rank": 4, "layers": 2, "epochs": 2, "batch_size": 2,
                     "precision": "fp32", "checkpoint_steps": 2, **changes})


def adapter_hash(run):
    return run.manifest()["adapter"]["sha256"]


def test_a_run_has_every_file_and_its_hashes(tiny_base, small_records, small_scenario):
    run = trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    assert run.state() == "done" and runs.verify(run) == []
    manifest = run.manifest()
    assert manifest["adapter"]["sha256"] == files.sha256_of(run.adapter_folder / "adapter_model.safetensors")
    assert manifest["data"]["train"] == 8 and manifest["data"]["fingerprint"] == records.fingerprint(small_records)
    assert [row["step"] for row in run.metrics()] == list(range(1, 9))
    assert all(math.isfinite(row["loss"]) and row["gradient_norm"] > 0 for row in run.metrics())
    assert sum("validation_loss" in row for row in run.metrics()) == 2
    assert recipes.read(run.folder / "recipe.toml") == recipe_of(tiny_base)
    assert run.scenario == small_scenario
    assert not (run.folder / "checkpoint").exists()


def test_the_saved_adapter_gives_the_reported_loss_in_plain_peft(tiny_base, small_records, small_scenario):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), run.adapter_folder).eval()
    held_out = records.in_split(small_records, "validation")
    total = count = 0
    for example in encode(held_out, small_scenario, AutoTokenizer.from_pretrained(tiny_base), 1024).examples:
        logits = model(input_ids=torch.tensor([example.tokens])).logits[0, example.answer_start - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(example.tokens[example.answer_start :]), reduction="sum").item()
        count += example.answer_tokens
    assert run.metrics()[-1]["validation_loss"] == pytest.approx(total / count, abs=1e-5)


def test_training_lowers_the_loss(tiny_base, small_records, small_scenario):
    # At this rate the last bit of a gradient decides how far 15 epochs come (0.15 to 0.25 over seeds and ways of computing); 25 come
    # further.
    recipe = recipe_of(tiny_base, epochs=25, learning_rate=0.1, layers=0, rank=8, label_weight=1.0)
    run = trainer.train(recipe, small_records, small_scenario)
    rows = run.metrics()
    first, last = sum(row["loss"] for row in rows[:4]) / 4, sum(row["loss"] for row in rows[-4:]) / 4
    assert last < first - 0.15  # with a random head of 48 dimensions it can fall by about 0.3


@pytest.mark.parametrize("changes", [{"layers": 0}, {"share_prefix": False}, {"micro_tokens": 1}, {"layers": 0, "share_prefix": False}])
def test_how_the_work_is_cut_does_not_change_the_losses(tiny_base, small_records, small_scenario, changes):
    """All layers with LoRA, but only the matrices of the top two are compared where `layers` differs: there the first loss is."""
    drop = 0.3 if "micro_tokens" in changes else 0.0  # what is left out depends on the cut, and not on how much goes through at once
    recipe = recipe_of(tiny_base, name="a", batch_size=8, max_steps=3, token_drop=drop)
    one = trainer.train(recipe, small_records, small_scenario)
    two = trainer.train(dataclasses.replace(recipe, name="b", **changes), small_records, small_scenario)
    first, second = [row["loss"] for row in one.metrics()], [row["loss"] for row in two.metrics()]
    assert first[0] == pytest.approx(second[0], abs=1e-5)
    if "layers" not in changes:
        assert first == pytest.approx(second, abs=1e-5)


def test_a_finished_run_is_not_trained_again(tiny_base, small_records, small_scenario):
    first = trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    at = (first.folder / "manifest.json").stat().st_mtime_ns
    steps = []
    again = trainer.train(recipe_of(tiny_base), small_records, small_scenario, on_step=steps.append)
    assert (again.folder / "manifest.json").stat().st_mtime_ns == at and steps == []


def test_a_finished_run_is_not_overwritten_by_another_recipe(tiny_base, small_records, small_scenario):
    trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    with pytest.raises(LabError, match="another recipe or other data"):
        trainer.train(recipe_of(tiny_base, epochs=3), small_records, small_scenario)


def test_a_stopped_training_goes_on_to_the_same_weights(tiny_base, small_records, small_scenario):
    whole = trainer.train(recipe_of(tiny_base, name="whole"), small_records, small_scenario)
    stop = threading.Event()
    run = trainer.train(recipe_of(tiny_base, name="parts"), small_records, small_scenario,
                        on_step=lambda row: stop.set() if row["step"] == 3 else None, stop=stop)
    assert run.state() == "stopped" and len(run.metrics()) == 3
    run = trainer.train(recipe_of(tiny_base, name="parts"), small_records, small_scenario)
    assert adapter_hash(run) == adapter_hash(whole)
    assert [row["loss"] for row in run.metrics()] == [row["loss"] for row in whole.metrics()]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tiny_base, small_records, small_scenario, tmp_path):
    recipe = recipe_of(tiny_base, epochs=40, checkpoint_steps=5, dropout=0.1)
    whole = trainer.train(recipes.from_dict({**vars(recipe), "name": "whole"}), small_records, small_scenario)
    records.write(small_records, tmp_path / "r.jsonl")
    from labkit import scenarios

    scenarios.write(small_scenario, tmp_path / "s.toml")
    recipes.write(recipe, tmp_path / "recipe.toml")
    code = ("import sys, torch\nfrom labkit import records, scenarios\nfrom labkit.training import recipe, trainer\n"
            f"torch.set_num_threads({torch.get_num_threads()})\n"
            f"s = scenarios.read({str(tmp_path / 's.toml')!r})\n"
            f"trainer.train(recipe.read({str(tmp_path / 'recipe.toml')!r}), records.read({str(tmp_path / 'r.jsonl')!r}, s), s)\n")
    metrics = places.runs_folder() / "small" / "default" / "metrics.jsonl"
    for wanted in (12, 57, 101):
        process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= wanted:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert runs.Run(metrics.parent).state() == "stopped"
    run = trainer.train(recipe, small_records, small_scenario)
    assert adapter_hash(run) == adapter_hash(whole)
    assert [row["step"] for row in run.metrics()] == list(range(1, len(whole.metrics()) + 1))


def test_a_half_written_metrics_line_is_dropped(tiny_base, small_records, small_scenario):
    stop = threading.Event()
    run = trainer.train(recipe_of(tiny_base), small_records, small_scenario,
                        on_step=lambda row: stop.set() if row["step"] == 4 else None, stop=stop)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 1.0}) + "\n" + '{"step": 6, "lo')
    assert len(run.metrics()) == 5
    run = trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    assert [row["step"] for row in run.metrics()] == list(range(1, 9))


def test_kernels_that_give_something_else_than_the_model_are_refused(tiny_base, small_records, small_scenario, monkeypatch):
    monkeypatch.setattr(packed_attention, "attend", lambda qkv, plan, heads, cos, sin: qkv[:, : heads.count * heads.group * heads.size])
    with pytest.raises(LabError, match="would not be exact"):
        trainer.train(recipe_of(tiny_base), small_records, small_scenario)


def test_a_decoder_that_cannot_be_cut_is_trained_whole_and_that_is_said(tiny_base, small_records, small_scenario, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    torch.manual_seed(0)
    OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                             word_embed_proj_dim=32, max_position_embeddings=512)).save_pretrained(tmp_path / "opt")
    tokenizer.save_pretrained(tmp_path / "opt")
    said = []
    run = trainer.train(recipe_of(str(tmp_path / "opt"), layers=1), small_records, small_scenario, say=said.append)
    assert run.state() == "done" and any("the whole model runs at every step" in line for line in said)
    losses = [row["loss"] for row in run.metrics()]
    assert losses[-1] < losses[0]


def test_another_recipe_begins_an_unfinished_run_anew(tiny_base, small_records, small_scenario):
    stop = threading.Event()
    trainer.train(recipe_of(tiny_base), small_records, small_scenario, on_step=lambda row: stop.set(), stop=stop)
    run = trainer.train(recipe_of(tiny_base, rank=2), small_records, small_scenario)
    assert [row["step"] for row in run.metrics()] == list(range(1, 9))


def test_the_frozen_layers_are_run_once_and_dropped_when_the_data_changes(tiny_base, small_records, small_scenario):
    calls = []
    train = lambda **changes: trainer.train(recipe_of(tiny_base, **changes), small_records_now, small_scenario,  # noqa: E731
                                            on_prepare=lambda done, total: calls.append(done))
    stores = lambda: {path.name for path in (places.cache_folder() / "frozen").iterdir()}  # noqa: E731
    small_records_now = small_records
    train(name="a")
    first, built = stores(), len(calls)
    assert built > 0
    train(name="b", learning_rate=0.002)
    assert len(calls) == built and stores() == first  # same base, data and cut
    import shutil

    shutil.rmtree(places.runs_folder() / "small" / "a")
    small_records_now = small_records.select(range(1, 12))
    train(name="a")
    assert len(calls) > built and not (first & stores() - {name for name in first if "validation" in name} == first)


def test_a_damaged_store_of_frozen_layers_is_never_read(tiny_base, small_records, small_scenario):
    trainer.train(recipe_of(tiny_base, name="a"), small_records, small_scenario)
    for manifest in (places.cache_folder() / "frozen").glob("*/manifest.json"):
        manifest.unlink()  # what a kill before the last file leaves
    two = trainer.train(recipe_of(tiny_base, name="b"), small_records, small_scenario)
    assert adapter_hash(two) == adapter_hash(runs.find("small/a"))


def test_two_processes_cannot_train_one_run(tiny_base, small_records, small_scenario):
    with runs.lock(runs.folder_for("small", "default")):
        code = ("from labkit import runs\nfrom filelock import Timeout\n"
                "try:\n  runs.lock(runs.folder_for('small', 'default')).acquire()\n  print('got it')\n"
                "except Timeout:\n  print('locked')")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "locked"


def test_too_long_records_are_listed_and_left_out(tiny_base, small_records, small_scenario):
    rows = small_records.to_list()
    rows[0]["messages"][0]["content"] = "apple " * 400
    run = trainer.train(recipe_of(tiny_base, max_tokens=300), records.from_list(rows), small_scenario)
    assert run.manifest()["data"]["left_out_as_too_long"] == [rows[0]["id"]]


def test_training_without_labelled_records_is_an_error(tiny_base, small_records, small_scenario):
    bare = records.from_list([{**row, "answer": {}} for row in small_records])
    with pytest.raises(LabError, match="no labelled record"):
        trainer.train(recipe_of(tiny_base), bare, small_scenario)


def test_a_loss_that_is_not_a_number_stops_with_what_to_do(small_records, small_scenario, tmp_path):
    folder = save_tiny(tmp_path / "nan")
    from safetensors.torch import load_file, save_file

    weights = load_file(f"{folder}/model.safetensors")
    weights["model.norm.weight"][:] = float("inf")
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match="weight model.norm.weight of the base is damaged; get the base again"):
        trainer.train(recipe_of(folder), small_records, small_scenario)


def test_an_encoder_cannot_be_trained_to_write(small_records, small_scenario):
    with pytest.raises(LabError, match="cannot write text"):
        trainer.train(recipe_of("minilm-l6"), small_records, small_scenario)


def test_every_row_is_in_one_batch_of_an_epoch_and_each_batch_has_its_share_of_each_language(tiny_base, small_records, small_scenario):
    from transformers import AutoTokenizer

    examples = encode(small_records, small_scenario, AutoTokenizer.from_pretrained(tiny_base), 1024).examples
    for epoch in range(3):
        found = batches(examples, 5, seed=1, epoch=epoch)
        assert sorted(row for batch in found for row in batch) == list(range(12))
        whole = Counter(example.group for example in examples)
        for batch in found:
            here = Counter(examples[row].group for row in batch)
            assert all(abs(here[group] - len(batch) * count / 12) <= 1 for group, count in whole.items())
    assert batches(examples, 5, 1, 0) == batches(examples, 5, 1, 0) != batches(examples, 5, 1, 1)


def test_a_micro_batch_holds_many_short_records_but_not_two_of_a_thousand_tokens():
    lengths = [100] * 8 + [1000, 1000]
    encoded = Encoded([Example(tuple(range(150 + length)), 150 + length - 5, row % 2) for row, length in enumerate(lengths)],
                      [tuple(range(150))] * 2, [])
    assert micro_batches(encoded, list(range(10)), 8192) == [[0, 2, 4, 6, 8, 1, 3, 5, 7], [9]]
    assert micro_batches(encoded, list(range(8)), 8192) == [[0, 2, 4, 6, 1, 3, 5, 7]]
    assert micro_batches(encoded, list(range(8)), 1) == [[row] for row in (0, 2, 4, 6, 1, 3, 5, 7)]


def test_the_schedule_warms_up_and_falls_to_its_floor():
    recipe = Recipe(scenario="x", warmup=0.1, final_rate=0.1)
    rates = [schedules.of_recipe(recipe, index, 100) for index in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and max(rates) <= 1.0
    assert rates[55] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 45 / 90)) / 2)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_the_labels_and_numbers_tokens_are_the_decisive_ones(tiny_base, small_records, small_scenario):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    for record, example in zip(small_records, encode(small_records, small_scenario, tokenizer, 1024).examples, strict=True):
        answer = example.tokens[example.answer_start :]
        found = tokenizer.decode([answer[place] for place in sorted(example.decisive)])
        titles = {"en": {"apple": "apple", "pear": "pear"}, "zh": {"apple": "苹果", "pear": "梨"}}[record["language"]]
        assert found.split("\n")[0].strip().startswith(titles[record["answer"]["kind"]])
        assert f"{record['answer']['weight']:.1f}" in found and "note" not in found


def test_a_label_weight_changes_the_weights_and_not_how_the_loss_is_told(tiny_base, small_records, small_scenario):
    one = trainer.train(recipe_of(tiny_base, name="a", label_weight=1.0, max_steps=2), small_records, small_scenario)
    two = trainer.train(recipe_of(tiny_base, name="b", label_weight=9.0, max_steps=2), small_records, small_scenario)
    assert one.metrics()[0]["loss"] == pytest.approx(two.metrics()[0]["loss"], abs=1e-6)
    assert adapter_hash(one) != adapter_hash(two)


def test_what_was_said_is_known_by_its_tokens(tiny_base, small_records, small_scenario):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    for record, example in zip(small_records, encode(small_records, small_scenario, tokenizer, 1024).examples, strict=True):
        assert tokenizer.decode([example.tokens[place] for place in sorted(example.spoken)]) == record["messages"][0]["content"].strip()


def test_the_adapted_layers_see_what_the_views_keep_and_predict_what_they_say(tiny_base, small_records, small_scenario, monkeypatch):
    from transformers import AutoTokenizer

    calls = []

    def watched(self, *arguments):
        calls.append((arguments, entered(self, *arguments)))
        return calls[-1][1]

    entered = chat.CachedChat._entered
    monkeypatch.setattr(chat.CachedChat, "_entered", watched)
    changes = {"token_drop": 0.5, "text_share": 0.5, "epochs": 4}
    one = trainer.train(recipe_of(tiny_base, **changes), small_records, small_scenario)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    train = encode(records.in_split(small_records, "train"), small_scenario, tokenizer, 1024)
    kept = said = there = 0
    for (data, _, rows, _, seen), found in calls:
        start = 0 if found.prefix is None else len(found.prefix)
        assert found.lengths == [sum(place >= start for place in seen[row].kept) for row in rows]
        assert len(found.wanted) == sum(len(seen[row].predicted) for row in rows)
        if data.examples == train.examples:
            kept += sum(len(seen[row].kept) for row in rows)
            said += sum(len(train.examples[row].spoken) for row in rows)
            there += sum(len(train.examples[row].spoken & set(seen[row].kept)) for row in rows)
        else:
            assert all(seen[row].kept == list(range(len(data.examples[row].tokens))) for row in rows)
    assert 0.4 < there / said < 0.6
    assert sum(row["tokens"] for row in one.metrics()) == kept < 4 * train.tokens
    two = trainer.train(recipe_of(tiny_base, name="again", **changes), small_records, small_scenario)
    assert adapter_hash(one) == adapter_hash(two)
