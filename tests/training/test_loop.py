"""The loop: the same weights however a batch is cut, stopping early, averages, measuring on demand, what happens when something breaks."""

import json
import math
import threading

import pytest
import torch

from labkit import records, runs
from labkit.errors import LabError
from labkit.training import chat, checkpoint, loop, trainer
from labkit.training.control import Control
from labkit.training.recipe import Recipe


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, tiny_base):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def recipe_of(tiny_base, **changes):
    return Recipe(**{"scenario": "small", "base": tiny_base, "rank": 4, "layers": 2, "epochs": 2, "batch_size": 8, "token_drop": 0.0,
                     "precision": "fp32", "checkpoint_steps": 2, **changes})


def weights_of(run):
    from safetensors.torch import load_file

    folder = run.folder / ("adapter" if (run.folder / "adapter").exists() else "model")
    return load_file(next(folder.glob("*.safetensors")))


def far(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


METHODS = ["full", "freeze", "lora", "rslora", "dora", "pissa", "ia3", "prefix", "prompt"]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_in_parts_gives_the_same_weights(tiny_base, small_records, small_scenario, method):
    """1 x 8, about 2 x 4 and 8 x 1 records at once. By SGD: AdamW divides by the gradient's size, which makes rounding large near 0."""
    found = []
    for parts, micro_tokens in (("one", 8192), ("some", 400), ("single", 1)):
        recipe = recipe_of(tiny_base, name=parts, method=method, micro_tokens=micro_tokens, optimiser="sgd", learning_rate=0.05)
        found.append(weights_of(trainer.train(recipe, small_records, small_scenario)))
    assert far(found[0], found[1]) < 1e-5 and far(found[0], found[2]) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_what_it_saves_gives_the_same_loss_again(tiny_base, small_records, small_scenario, method):
    recipe = recipe_of(tiny_base, method=method, epochs=6, learning_rate=0.005, text_share=1.0, label_weight=1.0)
    run = trainer.train(recipe, small_records, small_scenario)
    assert run.metrics()[-1]["loss"] < run.metrics()[0]["loss"]  # every step sees all eight records
    assert loss_of_saved(run, small_records, small_scenario, tiny_base) == pytest.approx(run.metrics()[-1]["validation_loss"], abs=1e-4)


def loss_of_saved(run, small_records, small_scenario, tiny_base):
    """By transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labkit.training.examples import encode

    if run.adapter_folder.exists():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), run.adapter_folder).eval()
    else:
        model = AutoModelForCausalLM.from_pretrained(run.folder / "model").eval()
    total = count = 0
    held_out = records.in_split(small_records, "validation")
    for example in encode(held_out, small_scenario, AutoTokenizer.from_pretrained(tiny_base), 1024).examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.tokens]), attention_mask=torch.ones(1, len(example.tokens))).logits
        logits = logits[0, -len(example.tokens) :][example.answer_start - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(example.tokens[example.answer_start :]), reduction="sum").item()
        count += example.answer_tokens
    return total / count


@pytest.mark.parametrize("method", ["full", "freeze", "dora", "prompt"])
def test_only_what_the_method_says_changes(tiny_base, small_records, small_scenario, method):
    from transformers import AutoModelForCausalLM

    run = trainer.train(recipe_of(tiny_base, method=method, learning_rate=0.01), small_records, small_scenario)
    if method in ("dora", "prompt"):
        assert not (run.folder / "model").exists() and "adapter" in run.manifest()
        return
    before, after = AutoModelForCausalLM.from_pretrained(tiny_base).state_dict(), weights_of(run)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    if method == "full":
        assert changed == set(after)
    else:
        assert changed == {name for name in after if name.startswith(("model.layers.2.", "model.layers.3.", "model.norm"))}


@pytest.mark.parametrize("changes", [{"optimiser": "lion", "learning_rate": 1e-3}, {"optimiser": "muon"},
                                     {"optimiser": "schedule_free"}, {"optimiser": "adafactor"},
                                     {"optimiser": "sgd", "schedule": "one_cycle"}, {"ema": 0.8, "schedule": "wsd"},
                                     {"patience": 2, "evaluate_steps": 1}, {"dropout": 0.2}, {"neftune": 5.0}, {"method": "dora"}])
def test_a_stopped_training_of_every_kind_goes_on_to_the_same_weights(tiny_base, small_records, small_scenario, changes):
    recipe = lambda name: recipe_of(tiny_base, name=name, batch_size=2, **changes)  # noqa: E731
    whole = trainer.train(recipe("whole"), small_records, small_scenario)
    stop = threading.Event()
    part = trainer.train(recipe("part"), small_records, small_scenario, on_step=lambda row: row["step"] == 3 and stop.set(), stop=stop)
    assert part.state() == "stopped"
    part = trainer.train(recipe("part"), small_records, small_scenario)
    assert far(weights_of(whole), weights_of(part)) == 0.0
    assert [row["loss"] for row in whole.metrics()] == [row["loss"] for row in part.metrics()]


def test_training_ends_when_nothing_gets_better_and_keeps_the_best_weights(tiny_base, small_records, small_scenario):
    recipe = recipe_of(tiny_base, patience=2, evaluate_steps=1, epochs=50, learning_rate=0.5, batch_size=8)
    run = trainer.train(recipe, small_records, small_scenario)
    seen = [row["validation_loss"] for row in run.metrics()]
    assert len(seen) < 50 and len(seen) - 1 - seen.index(min(seen)) == 2
    assert loss_of_saved(run, small_records, small_scenario, tiny_base) == pytest.approx(min(seen), abs=1e-4)
    told = run.manifest()["training"]
    assert (told["kept_step"], told["validation_loss"], told["steps"]) == (seen.index(min(seen)) + 1, min(seen), len(seen))


def test_averaged_weights_are_what_is_measured_and_saved(tiny_base, small_records, small_scenario):
    run = trainer.train(recipe_of(tiny_base, ema=0.9, learning_rate=0.05), small_records, small_scenario)
    assert loss_of_saved(run, small_records, small_scenario, tiny_base) == pytest.approx(run.metrics()[-1]["validation_loss"], abs=1e-4)


def test_a_measurement_can_be_asked_for_and_changes_nothing(tiny_base, small_records, small_scenario):
    control = Control()
    plain = trainer.train(recipe_of(tiny_base, name="plain", batch_size=2), small_records, small_scenario)
    asked = trainer.train(recipe_of(tiny_base, name="asked", batch_size=2), small_records, small_scenario, control=control,
                          on_step=lambda row: row["step"] == 1 and control.ask_evaluate())
    assert "validation_loss" in asked.metrics()[1] and "validation_loss" not in plain.metrics()[1]
    assert far(weights_of(plain), weights_of(asked)) == 0.0


def test_where_memory_does_not_suffice_the_parts_are_halved(tiny_base, small_records, small_scenario, monkeypatch):
    plain = trainer.train(recipe_of(tiny_base, name="plain", optimiser="sgd"), small_records, small_scenario)
    predicting, most = chat.CachedChat._predicting, []

    def limited(self, data, rows, seen):
        most.append(len(rows))
        if len(rows) > 2 and torch.is_grad_enabled():
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return predicting(self, data, rows, seen)

    monkeypatch.setattr(chat.CachedChat, "_predicting", limited)
    tight = trainer.train(recipe_of(tiny_base, name="tight", optimiser="sgd"), small_records, small_scenario)
    assert max(most) > 2 and far(weights_of(plain), weights_of(tight)) < 1e-6
    assert len(tight.metrics()) == len(plain.metrics())


def test_where_memory_does_not_suffice_for_measuring_the_parts_are_halved_too(tiny_base, small_records, small_scenario, monkeypatch):
    plain = trainer.train(recipe_of(tiny_base, name="plain"), small_records, small_scenario)
    predicting, failed = chat.CachedChat._predicting, []

    def limited(self, data, rows, seen):
        if not torch.is_grad_enabled() and self.micro_tokens > 100:
            failed.append(self.micro_tokens)
            raise torch.OutOfMemoryError("out of memory")
        return predicting(self, data, rows, seen)

    monkeypatch.setattr(chat.CachedChat, "_predicting", limited)
    tight = trainer.train(recipe_of(tiny_base, name="tight"), small_records, small_scenario)
    assert len(failed) == 7 and tight.metrics()[-1]["validation_loss"] == pytest.approx(plain.metrics()[-1]["validation_loss"], abs=1e-3)


def test_memory_that_does_not_suffice_for_one_record_says_which(tiny_base, small_records, small_scenario, monkeypatch):
    def nothing(self, *arguments):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(chat.CachedChat, "_predicting", nothing)
    with pytest.raises(LabError, match="memory does not suffice for a single record of step 1"):
        trainer.train(recipe_of(tiny_base), small_records, small_scenario)


def test_a_loss_that_is_no_number_stops_and_keeps_the_state_before_it(tiny_base, small_records, small_scenario, monkeypatch):
    predicting = chat.CachedChat._predicting
    steps = []

    def broken(self, data, rows, seen):
        found = predicting(self, data, rows, seen)
        if torch.is_grad_enabled():
            steps.append(1)
            if len(steps) == 3:
                return found[0] * math.nan, found[1]
        return found

    monkeypatch.setattr(chat.CachedChat, "_predicting", broken)
    with pytest.raises(LabError, match="not a number at step 3; weights are sound"):
        trainer.train(recipe_of(tiny_base, batch_size=2, checkpoint_steps=100), small_records, small_scenario)
    run = runs.Run(runs.folder_for("small", "default"))
    assert len(run.metrics()) == 2 and (run.folder / "checkpoint" / "state.safetensors").exists()
    monkeypatch.setattr(chat.CachedChat, "_predicting", predicting)
    assert trainer.train(recipe_of(tiny_base, batch_size=2, checkpoint_steps=100), small_records, small_scenario).state() == "done"


def test_a_loss_that_runs_away_is_stopped(tiny_base, tmp_path):
    looped = loop.Loop(recipe_of(tiny_base), _Sinking(), tmp_path, "small/run")
    with pytest.raises(LabError, match="runs away"):
        looped.run()
    assert 40 < len((tmp_path / "metrics.jsonl").read_text().splitlines()) < 100


class _Sinking:
    """Its loss falls to 1 and climbs from step 30 on."""

    micro_tokens = 1

    def __init__(self):
        self.masters = {"w": torch.nn.Parameter(torch.zeros(1))}

    def plan(self):
        return [(0, [0])] * 200

    def groups(self):
        return [{"params": list(self.masters.items()), "faster": 1.0}]

    def step(self, rows, index, world):
        from labkit.training.learner import Passed

        self.masters["w"].grad = torch.ones(1)
        return Passed(1.0 + max(0, index - 30) * 0.2, 1)

    def push(self):
        self.masters["w"].grad = None

    drop_gradients = push

    def measure(self):
        return {}

    def answers(self):
        return []

    def name_rows(self, rows):
        return ["row"]

    def tokens_of(self, rows):
        return 1


def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(tiny_base, small_records, small_scenario, monkeypatch):
    import safetensors.torch

    saved, calls = safetensors.torch.save_file, []

    def full(tensors, path, metadata=None):
        if "state.safetensors" in str(path):
            calls.append(path)
            if len(calls) == 2:
                saved(tensors, path, metadata)
                raise OSError(28, "No space left on device")
        return saved(tensors, path, metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(LabError, match="No space left on device; free some space"):
        trainer.train(recipe_of(tiny_base, batch_size=2), small_records, small_scenario)
    run = runs.Run(runs.folder_for("small", "default"))
    assert [path.name for path in (run.folder / "checkpoint").iterdir()] == ["state.safetensors"]
    monkeypatch.setattr(safetensors.torch, "save_file", saved)
    steps = []
    seen = lambda row: steps.append(row["step"])  # noqa: E731
    assert trainer.train(recipe_of(tiny_base, batch_size=2), small_records, small_scenario, on_step=seen).state() == "done"
    assert steps[0] == 3  # the checkpoint after step 2


def test_a_torn_checkpoint_is_named(tiny_base, small_records, small_scenario):
    stop = threading.Event()
    second = lambda row: row["step"] == 2 and stop.set()  # noqa: E731
    run = trainer.train(recipe_of(tiny_base, batch_size=2), small_records, small_scenario, on_step=second, stop=stop)
    path = run.folder / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LabError, match="state.safetensors is not a checkpoint of this run"):
        trainer.train(recipe_of(tiny_base, batch_size=2), small_records, small_scenario)
    checkpoint.delete(run.folder)
    assert trainer.train(recipe_of(tiny_base, batch_size=2), small_records, small_scenario).state() == "done"


def test_an_unknown_monitor_is_named(tiny_base, small_records, small_scenario):
    with pytest.raises(LabError, match="monitor 'accuracy' is not measured here; there is validation_loss"):
        trainer.train(recipe_of(tiny_base, patience=1, monitor="accuracy"), small_records, small_scenario)


def test_rows_of_metrics_can_be_read_by_anybody(tiny_base, small_records, small_scenario):
    run = trainer.train(recipe_of(tiny_base), small_records, small_scenario)
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        assert {"step", "steps", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "seconds"} <= json.loads(line).keys()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_noise_changes_what_is_learned_and_not_how_the_batch_is_cut(tiny_base, small_records, small_scenario, method):
    def run(name, **changes):
        recipe = recipe_of(tiny_base, name=name, method=method, optimiser="sgd", learning_rate=0.05, **changes)
        return weights_of(trainer.train(recipe, small_records, small_scenario))

    quiet, noisy, parted = run("quiet"), run("noisy", neftune=5.0), run("parted", neftune=5.0, micro_tokens=1)
    assert far(quiet, noisy) > 1e-4 and far(noisy, parted) < 1e-5


@pytest.mark.parametrize("method", ["lora", "full", "prompt"])
def test_the_model_answers_validation_records_as_it_learns(tiny_base, small_records, small_scenario, method):
    quiet = trainer.train(recipe_of(tiny_base, name="quiet", method=method), small_records, small_scenario)
    shown = trainer.train(recipe_of(tiny_base, name="shown", method=method, answers=2), small_records, small_scenario)
    told = [row["answers"] for row in shown.metrics() if "answers" in row]
    assert len(told) == 2 and all(len(answers) == 2 for answers in told)
    asked = {row["messages"][-1]["content"].strip() for row in records.in_split(small_records, "validation")}
    assert {each["prompt"] for each in told[0]} == asked
    assert all(each["wanted"].startswith(("Kind: ", "种类")) for each in told[0])
    assert far(weights_of(quiet), weights_of(shown)) == 0.0
