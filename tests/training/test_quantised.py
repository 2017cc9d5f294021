"""A base in 4 bits: what is learned beside it, and what is refused."""

import dataclasses
import importlib.util

import pytest
import torch

from labkit import models, records
from labkit.errors import LabError
from labkit.training import quantised, trainer
from labkit.training.examples import encode
from labkit.training.recipe import Recipe
from tests.conftest import save_tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, base):
    models.resolve()
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random Llama whose maps have multiples of 64 inputs: what 4 bits are blocked by, and what lets bitsandbytes repack them."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "llama", hidden_size=64, intermediate_size=128)


def recipe_of(base, **changes):
    return dataclasses.replace(Recipe(scenario="small", base=base, quantised="nf4", layers=2, rank=4, alpha=8, batch_size=4, epochs=6,
                                      precision="fp32", learning_rate=0.02, token_drop=0.0, text_share=1.0), **changes)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "prefix", "prompt"])
def test_a_run_beside_a_base_in_4_bits_says_again_what_was_measured(method, base, small_records, small_scenario):
    from peft import PeftModel
    from transformers import AutoTokenizer

    recipe = recipe_of(base, method=method)
    run = trainer.train(recipe, small_records, small_scenario)
    rows = run.metrics()
    assert sum(row["loss"] for row in rows[-2:]) < sum(row["loss"] for row in rows[:2])

    plain = quantised.decoder(recipe, models.resolve(base), torch.float32, "cpu")
    model = PeftModel.from_pretrained(plain, run.adapter_folder).eval()
    held_out = encode(records.in_split(small_records, "validation"), small_scenario, AutoTokenizer.from_pretrained(base), 1024)
    total = count = 0
    with torch.no_grad():
        for example in held_out.examples:
            virtual = recipe.virtual_tokens if method == "prompt" else 0
            logits = model(input_ids=torch.tensor([example.tokens])).logits[0, virtual + example.answer_start - 1 : -1]
            total += torch.nn.functional.cross_entropy(logits, torch.tensor(example.tokens[example.answer_start :]), reduction="sum").item()
            count += example.answer_tokens
    assert rows[-1]["validation_loss"] == pytest.approx(total / count, abs=1e-4)


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_the_linear_maps_take_about_half_a_byte_a_weight_and_stay_near_the_base(form, base):
    resolved = models.resolve(base)
    plain = quantised.decoder(recipe_of(base, quantised="none"), resolved, torch.float32, "cpu")
    small = quantised.decoder(recipe_of(base, quantised=form), resolved, torch.float32, "cpu")
    maps = [(one, other) for one, other in zip(plain.modules(), small.modules(), strict=True)
            if isinstance(one, torch.nn.Linear) and one is not plain.lm_head]
    assert len(maps) == 7 * 4
    assert all(other.weight.nbytes <= 0.51 * one.weight.numel() for one, other in maps)
    states = torch.randn(5, 64)
    far = [(one(states) - other(states)).norm() / one(states).norm() for one, other in maps if one.in_features == 64]
    assert 0.01 < max(far) < 0.3  # they are quantised, and not more than that


@pytest.mark.parametrize("method", ["full", "freeze", "pissa"])
def test_a_method_that_changes_the_bases_weights_is_refused(method, base, small_records, small_scenario):
    with pytest.raises(LabError, match="keeps in 4 bits; choose one of lora"):
        trainer.train(recipe_of(base, method=method), small_records, small_scenario)


def test_without_bitsandbytes_it_says_what_to_install(base, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError, match="pip install bitsandbytes"):
        quantised.decoder(recipe_of(base), models.resolve(base), torch.float32, "cpu")


def test_gradients_are_those_of_the_weights_that_the_4_bits_stand_for_also_after_a_measurement(base):
    from bitsandbytes.functional import dequantize_4bit

    model = quantised.decoder(recipe_of(base), models.resolve(base), torch.float32, "cpu").eval()
    tokens = torch.randint(0, 1000, (1, 9))
    with torch.no_grad():
        model(input_ids=tokens)
    model.train()
    linear = model.model.layers[0].mlp.down_proj
    states = torch.randn(3, 128, requires_grad=True)
    factor = torch.randn(3, 64)
    (linear(states) * factor).sum().backward()
    weight = dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    assert torch.allclose(states.grad, factor @ weight, atol=1e-5)


def test_it_is_for_chat_models():
    with pytest.raises(LabError, match="quantised is for task `chat`"):
        Recipe(scenario="x", task="classify", quantised="nf4")
