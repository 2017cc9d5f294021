"""Preference training on a tiny random model: its losses are the formulas', it prefers what people do, and what it makes is served."""

import dataclasses
import json
import math
import shutil
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from labkit import models, runs, scenarios
from labkit.errors import LabError
from labkit.labeling import preferences
from labkit.training import preference, preference_pairs, preference_recipe
from labkit.training import recipe as recipes
from labkit.training.control import Control
from labkit.training.objectives import preference as objectives
from labkit.training.objectives.cross_entropy import sequence_log_likelihood
from labkit.training.preference_pairs import Pair, held_out
from labkit.training.preference_recipe import PreferenceRecipe

BETA = 0.2


def pairs(count=6):
    return [Pair((("system", "Be kind."), ("user", f"question {number}")), "yes, " + "very " * (number % 3) + "good",
                 "no " + "bad " * (number % 4 + 1)) for number in range(count)]


def recipe_of(base, **changes):
    return PreferenceRecipe(**{"scenario": "small", "base": base, "rank": 4, "alpha": 8, "batch_size": 2, "epochs": 2,
                               "learning_rate": 2e-2, "held_out": 0.2, "precision": "fp32", "beta": BETA, **changes})


@pytest.fixture(scope="module")
def scenario():
    return dataclasses.replace(scenarios.load(scenarios.names()[0]), name="small")


@pytest.fixture(scope="module")
def trained(tiny_base, scenario, tmp_path_factory):
    """One run of each method: five pairs learned from, one held out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        return {method: preference.train(recipe_of(tiny_base, method=method, name=method), pairs(), scenario)
                for method in preference_recipe.METHODS}


def test_more_steps_than_the_epochs_have_change_nothing(tiny_base, scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path))
    run = preference.train(recipe_of(tiny_base, epochs=1, max_steps=9, held_out=0.0), pairs(), scenario)
    assert run.state() == "done" and [row["steps"] for row in run.metrics()] == [3, 3, 3]


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_a_base_without_a_token_for_padding_learns_too(method, tiny_base, scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "runs"))
    bare = tmp_path / "bare"
    shutil.copytree(tiny_base, bare)
    told = json.loads((bare / "tokenizer_config.json").read_text())
    told.pop("pad_token")
    (bare / "tokenizer_config.json").write_text(json.dumps(told))
    (bare / "special_tokens_map.json").unlink(missing_ok=True)
    assert AutoTokenizer.from_pretrained(bare).pad_token is None
    assert preference.train(recipe_of(str(bare), method=method, max_steps=1), pairs(), scenario).state() == "done"


def log_probabilities(model, tokenizer, pair, *, strip=False):
    """Of the chosen and the rejected answer: (sum over its tokens, their number), and the chosen text's mean over all its tokens."""
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    start = len(ids(tokenizer.apply_chat_template(pair.messages, add_generation_prompt=True, tokenize=False)))
    found, plain = [], None
    for answer in (pair.chosen, pair.rejected):
        text = tokenizer.apply_chat_template(pair.with_answer(answer), tokenize=False)
        tokens = torch.tensor([ids(text.rstrip() if strip else text)])
        with torch.no_grad():
            scores = model(input_ids=tokens).logits
        labels = tokens.clone()
        labels[:, :start] = -100
        each = sequence_log_likelihood(scores, labels)
        found.append((each.values[0], each.weights[0]))
        if plain is None:
            plain = sequence_log_likelihood(scores, tokens).mean()
    return found, plain


def reference_loss(method, policy, plain, reference=None):
    (chosen, chosen_tokens), (rejected, rejected_tokens) = policy
    if method == "orpo":
        return objectives.orpo(chosen / chosen_tokens, rejected / rejected_tokens, -plain, beta=BETA).mean()
    (first, _), (second, _) = reference
    if method == "dpo":
        return objectives.dpo(chosen, rejected, first, second, beta=BETA).mean()
    both, of_reference = torch.stack([chosen, rejected]), torch.stack([first, second])
    return objectives.kto(both, of_reference, torch.tensor([True, False]), objectives.kto_divergence(both, of_reference), beta=BETA).mean()


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_the_loss_that_is_measured_is_the_formulas_of_the_saved_adapter_in_plain_peft(trained, tiny_base, method):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = trained[method]
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), run.adapter_folder).eval()
    (pair,) = held_out(pairs(), 0.2, 0)[1]
    policy, plain = log_probabilities(model, tokenizer, pair, strip=method == "orpo")
    with model.disable_adapter():
        reference, _ = log_probabilities(model, tokenizer, pair, strip=method == "orpo")
    last = run.metrics()[-1]
    assert last["validation_loss"] == pytest.approx(reference_loss(method, policy, plain, reference).item(), abs=2e-5)
    for place, name in enumerate(("chosen", "rejected")):
        value = policy[place][0] / (policy[place][1] if method == "orpo" else 1)
        assert last["validation"][f"{name}_log_probability"] == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_the_first_steps_loss_is_that_of_the_base(trained, tiny_base, method):
    """A new adapter changes nothing yet: DPO loses log 2, KTO a half, and ORPO what the base's own odds and likelihood give."""
    first = trained[method].metrics()[0]
    if method != "orpo":
        assert first["loss"] == pytest.approx({"dpo": math.log(2), "kto": 0.5}[method], abs=1e-6)
        return
    assert first["loss"] == pytest.approx(first["likelihood_loss"] - BETA * math.log(1 / (1 + math.exp(-first["log_odds"]))), abs=1e-2)


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_the_chosen_answer_gets_likelier_than_the_rejected_one(trained, method):
    rows = trained[method].metrics()
    assert [row["step"] for row in rows] == list(range(1, 7)) and [row["epoch"] for row in rows] == [0, 0, 0, 1, 1, 1]
    assert ["validation_loss" in row for row in rows] == [False, False, True] * 2
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["validation_loss"] < rows[2]["validation_loss"]
    assert rows[-1]["validation"]["reward_margin"] > 0.01
    assert all(row["tokens"] > 0 and row["gradient_norm"] > 0 for row in rows)


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_a_run_is_whole_and_llama_cpp_has_a_form_for_it(trained, tiny_base, method):
    from labkit.serving import adapters

    run = trained[method]
    assert run.state() == "done" and runs.verify(run) == []
    assert preference_recipe.read(run.folder / "preference.toml") == recipe_of(tiny_base, method=method, name=method)
    assert recipes.read(run.folder / "recipe.toml").rank == 4
    manifest = run.manifest()
    assert manifest["data"]["train"] == 5 and manifest["data"]["validation"] == 1 and "preference.toml" in manifest["files"]
    assert adapters.for_llamacpp(run, models.resolve(tiny_base)).stat().st_size > 0


def test_a_run_is_served(trained, tiny_base):
    from labkit.serving import open_engine
    from labkit.serving.sampling import Sampling

    engine = open_engine(models.resolve(tiny_base), trained["dpo"], "transformers", threads=1)
    try:
        assert engine.weights.adapter == trained["dpo"].manifest()["adapter"]["sha256"]
        assert isinstance("".join(engine.stream([{"role": "user", "content": "question"}], Sampling(max_tokens=3))), str)
    finally:
        engine.close()


def test_training_goes_on_with_another_runs_adapter_and_measures_from_it(trained, tiny_base, scenario, monkeypatch):
    start = trained["orpo"]
    monkeypatch.setenv("LABKIT_RUNS", str(start.folder.parents[1]))
    recipe = recipe_of(tiny_base, name="further", start=start.key, rank=9, layers=1, max_steps=2)
    run = preference.train(recipe, pairs(), scenario)
    rows, config = run.metrics(), json.loads((run.adapter_folder / "adapter_config.json").read_text())
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # the reference is the start, not the base
    assert config["r"] == 4 and len(config["layers_to_transform"]) == 4
    assert recipes.read(run.folder / "recipe.toml").rank == 4
    assert run.manifest()["data"]["start"] == {"run": start.key, "adapter": start.manifest()["adapter"]["sha256"]}
    assert run.manifest()["adapter"]["sha256"] != start.manifest()["adapter"]["sha256"]
    from safetensors.torch import load_file

    before, after = (load_file(each.adapter_folder / "adapter_model.safetensors") for each in (start, run))
    assert before.keys() == after.keys() and 0 < max((before[name] - after[name]).abs().max() for name in before) < 0.5


def test_a_start_that_cannot_be_gone_on_with_is_an_error(trained, tiny_base, scenario, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(trained["dpo"].folder.parents[1]))
    with pytest.raises(LabError, match="there is no run"):
        preference.train(recipe_of(tiny_base, name="a", start="small/nothing"), pairs(), scenario)
    with pytest.raises(LabError, match="stands on"):
        preference.train(recipe_of("minilm-l6", name="a", start="small/dpo"), pairs(), scenario)


def test_an_encoder_cannot_be_trained_to_write(scenario):
    with pytest.raises(LabError, match="cannot write text"):
        preference.train(recipe_of("minilm-l6"), pairs(), scenario)


def test_a_finished_run_is_given_back_and_not_overwritten(trained, tiny_base, scenario, monkeypatch):
    monkeypatch.setenv("LABKIT_RUNS", str(trained["dpo"].folder.parents[1]))
    steps = []
    recipe = recipe_of(tiny_base, method="dpo", name="dpo")
    assert preference.train(recipe, pairs(), scenario, on_step=steps.append) == trained["dpo"] and not steps
    for changed, data in ((dataclasses.replace(recipe, beta=0.5), pairs()), (recipe, pairs(5))):
        with pytest.raises(LabError, match="another recipe or other data"):
            preference.train(changed, data, scenario)


def test_a_stopped_training_goes_on_from_its_checkpoint(tiny_base, scenario):
    stop, rows = threading.Event(), []
    recipe = recipe_of(tiny_base, held_out=0.0, epochs=1, micro_pairs=1)
    run = preference.train(recipe, pairs(), scenario, on_step=lambda row: stop.set(), control=Control(stop=stop))
    assert run.state() == "stopped" and len(run.metrics()) == 1 and (run.folder / "checkpoint" / "state.safetensors").exists()
    run = preference.train(recipe, pairs(), scenario, on_step=rows.append)
    assert run.state() == "done" and rows == run.metrics()[1:] and [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert not (run.folder / "checkpoint").exists() and not (run.folder / "begun.json").exists()


def test_votes_are_learned_from_and_what_is_too_long_is_listed(tiny_base, scenario):
    shown = [{"side": "A", "run": "base", "answer": "no"}, {"side": "B", "run": "small/x", "answer": "yes"}]
    votes = [{"id": number, "scenario": "small", "language": "en", "choice": "B", "candidates": shown,
              "messages": [{"role": "system", "content": "Be kind."},
                           {"role": "user", "content": f"question {number} " + "word " * (400 if number == 2 else 0)}]}
             for number in range(3)]
    rows = preferences.pairs(votes).pairs
    said = []
    run = preference.train(recipe_of(tiny_base, max_tokens=200, max_steps=1, held_out=0.0), rows, scenario, say=said.append,
                           on_step=lambda row: said.append("a step"))
    assert said[0].startswith("1 of 3 pairs are left out, as they are longer with their longer answer than max_tokens (200): ")
    assert said[1:] == ["2 pairs are learned from, 0 are held out to measure", "a step"]
    assert preference_pairs.pairs_of(rows)[2].id in said[0]
    too_long = run.manifest()["data"]["left_out_as_too_long"]
    assert too_long == [preference_pairs.pairs_of(rows)[2].id] and run.manifest()["data"]["train"] == 2
    with pytest.raises(LabError, match="none of 1 pairs fits"):
        preference.train(recipe_of(tiny_base, name="b", max_tokens=200), [rows[2]], scenario)


def test_a_loss_that_is_not_a_number_stops_with_what_to_do(tiny_base, scenario, tmp_path):
    from safetensors.torch import load_file, save_file

    from tests.conftest import save_tiny

    folder = save_tiny(tmp_path / "nan")
    weights = load_file(f"{folder}/model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match="not a number at step 1; .*Lower learning_rate"):
        preference.train(recipe_of(folder, held_out=0.0), pairs(), scenario)


def test_no_pairs_are_an_error(tiny_base, scenario):
    with pytest.raises(LabError, match="no preference pairs"):
        preference.train(recipe_of(tiny_base), [], scenario)


def test_a_file_of_votes_is_read_back(tmp_path):
    votes = [{"id": 1, "scenario": "small", "language": "zh", "messages": [{"role": "user", "content": "苹果？"}], "choice": "A",
              "candidates": [{"side": "A", "run": "base", "answer": "好"}, {"side": "B", "run": "small/x", "answer": "不好"}]}]
    preferences.write(preferences.pairs(votes), tmp_path / "pairs.jsonl")
    assert preference_pairs.read(tmp_path / "pairs.jsonl") == [Pair((("user", "苹果？"),), "好", "不好")]


GOOD = {"prompt": [{"role": "user", "content": "q"}], "chosen": "yes", "rejected": [{"role": "assistant", "content": "no"}]}
BAD = {"not an object": [1], "missing: rejected": {key: GOOD[key] for key in ("prompt", "chosen")},
       "list of messages": {**GOOD, "prompt": "q"},
       "last message": {**GOOD, "prompt": [{"role": "assistant", "content": "q"}]}, "same answer": {**GOOD, "rejected": "yes"},
       "chosen must be a text": {**GOOD, "chosen": " "},
       "rejected must be a text": {**GOOD, "rejected": [{"role": "user", "content": "no"}]}}


@pytest.mark.parametrize("mistake", BAD)
def test_a_row_that_is_no_pair_is_named_by_file_and_line(tmp_path, mistake):
    (tmp_path / "pairs.jsonl").write_text(json.dumps(GOOD) + "\n\n" + json.dumps(BAD[mistake]) + "\n")
    said = "JSON object" if mistake == "not an object" else mistake
    with pytest.raises(LabError, match=rf"pairs\.jsonl, line 3: .*{said}"):
        preference_pairs.read(tmp_path / "pairs.jsonl")
    with pytest.raises(LabError, match=f"row 2: .*{said}"):
        preference_pairs.pairs_of([GOOD, BAD[mistake]])


@pytest.mark.parametrize(("content", "said"), [("", "has no pairs"), ("{", "line 1"), (None, "does not exist")])
def test_a_file_without_pairs_is_an_error(tmp_path, content, said):
    if content is not None:
        (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(LabError, match=said):
        preference_pairs.read(tmp_path / "p.jsonl")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.floats(0, 0.9), st.integers(0, 9))
def test_no_prompt_is_both_learned_from_and_measured_on(prompts, share, seed):
    all_of_them = [Pair((("user", str(prompt)),), f"yes {number}", "no") for number, prompt in enumerate(prompts)]
    learned, measured = held_out(all_of_them, share, seed)
    assert sorted((*learned, *measured), key=str) == sorted(all_of_them, key=str) and learned
    assert not {pair.prompt for pair in learned} & {pair.prompt for pair in measured}
    assert len({pair.prompt for pair in measured}) == int(share * len(set(prompts)))


def test_a_recipe_is_read_as_it_was_written(tmp_path):
    recipe = PreferenceRecipe("small", method="kto", beta=1, start="small/default", held_out=0.25)
    preference_recipe.write(recipe, tmp_path / "r.toml")
    assert preference_recipe.read(tmp_path / "r.toml") == recipe and recipe.beta == 1.0
    said = {line.split(":")[0].strip() for line in PreferenceRecipe.__doc__.splitlines()}
    assert said >= {field.name for field in dataclasses.fields(recipe)}


@pytest.mark.parametrize("changes", [{"method": "ppo"}, {"beta": 0.0}, {"beta": "high"}, {"held_out": 1.0}, {"micro_pairs": 3},
                                     {"schedule": "wsd"}, {"learning_rate": -1.0}, {"epochs": 0}, {"rank": 0}, {"precision": "int4"},
                                     {"undesirable_weight": float("nan")}])
def test_a_setting_that_cannot_be_is_an_error(changes):
    with pytest.raises(LabError, match=f"recipe: {next(iter(changes))} must"):
        PreferenceRecipe("small", **changes)


def test_a_file_that_is_no_recipe_is_an_error(tmp_path):
    for content, said in (("scenario = 1", "scenario must be"), ("name = 'x'", "scenario is missing"),
                          ("scenario = 'a'\nbetta = 1", "betta"), ("=", "TOML")):
        (tmp_path / "r.toml").write_text(content)
        with pytest.raises(LabError, match=said):
            preference_recipe.read(tmp_path / "r.toml")
    with pytest.raises(LabError, match="does not exist"):
        preference_recipe.read(tmp_path / "none.toml")
