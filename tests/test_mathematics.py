"""What the mathematics notebooks look at a model with agrees with the model itself, run plainly."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from labkit import mathematics
from labkit.errors import LabError


@pytest.fixture(scope="module")
def pair(tiny_base):
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(tiny_base)


def plainly(model, tokens, tail):
    """ln P of the last `tail` of these tokens, one pass, without cache, padding or batch."""
    with torch.no_grad():
        chances = model(torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)
    return sum(chances[place - 1, tokens[place]].item() for place in range(len(tokens) - tail, len(tokens)))


@pytest.mark.parametrize("start", ["", "Red is good.\nBlue is bad.\n"])
def test_log_likelihoods_are_those_of_one_plain_pass_each(pair, start):
    model, tokenizer = pair
    texts, endings = ["green", "a much longer text about the sea and", "x y z"], [" good", " not so good", " not so bad", " bad"]
    found = mathematics.log_likelihoods(model, tokenizer, texts, endings, start)
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    wanted = [[plainly(model, ids(start) + ids(text) + ids(ending), len(ids(ending))) for ending in endings] for text in texts]
    assert found.shape == (3, 4) and torch.allclose(found, torch.tensor(wanted), atol=1e-4)


def test_many_texts_go_through_in_parts(pair, monkeypatch):
    model, tokenizer = pair
    texts, endings = [f"text {'and ' * number}" for number in range(7)], [" good", " not so bad"]
    whole = mathematics.log_likelihoods(model, tokenizer, texts, endings, "So.\n")
    monkeypatch.setattr(mathematics, "_ROWS", 3)
    assert torch.allclose(mathematics.log_likelihoods(model, tokenizer, texts, endings, "So.\n"), whole, atol=1e-4)


def test_an_empty_text_is_predicted_from_the_start_alone(pair):
    model, tokenizer = pair
    ids = tokenizer("So far good", add_special_tokens=False)["input_ids"]
    found = mathematics.log_likelihoods(model, tokenizer, [""], [" good"], "So far").item()
    assert found == pytest.approx(plainly(model, ids, 1), abs=1e-4)
    with pytest.raises(LabError, match="nothing before it"):
        mathematics.log_likelihoods(model, tokenizer, ["a", ""], [" good"])
    with pytest.raises(LabError, match="an ending is empty"):
        mathematics.log_likelihoods(model, tokenizer, ["a"], [" good", ""])


def test_the_mean_surprise_of_a_text_is_the_loss_that_transformers_reports(pair):
    model, tokenizer = pair
    given = tokenizer("The parcel is late again.", return_tensors="pt")
    pairs = mathematics.surprise(model, tokenizer, "The parcel is late again.")
    assert "".join(token for token, _ in pairs) == " parcel is late again."
    with torch.no_grad():
        assert sum(loss for _, loss in pairs) / len(pairs) == pytest.approx(model(**given, labels=given["input_ids"]).loss.item(), abs=1e-5)


def test_next_tokens_come_likeliest_first_and_all_of_them_add_up_to_one(pair):
    model, tokenizer = pair
    pairs = mathematics.next_tokens(model, tokenizer, "The parcel", most=model.config.vocab_size)
    chances = [chance for _, chance in pairs]
    assert chances == sorted(chances, reverse=True) and math.fsum(chances) == pytest.approx(1, abs=1e-4)
    with pytest.raises(LabError, match="empty"):
        mathematics.next_tokens(model, tokenizer, "")


def test_what_passed_a_module_is_kept_and_nothing_stays_hooked(pair):
    model, tokenizer = pair
    given = tokenizer("The parcel is late.", return_tensors="pt")
    names = ["model.layers.1", "model.layers.1.self_attn", "model.norm"]
    hooks = lambda: sum(len(module._forward_hooks) for module in model.modules())  # noqa: E731
    before = hooks()
    seen = mathematics.watched(model, names, **given)
    assert hooks() == before
    states = model(**given, output_hidden_states=True).hidden_states
    assert list(seen) == names and not seen["model.norm"].left.requires_grad
    assert torch.allclose(seen["model.layers.1"].entered, states[1]) and torch.allclose(seen["model.layers.1"].left, states[2])
    assert torch.allclose(seen["model.norm"].left, states[-1])
    assert torch.allclose(seen["model.layers.1.self_attn"].entered, model.model.layers[1].input_layernorm(states[1]))


def test_a_module_that_is_not_there_is_named(pair):
    model, tokenizer = pair
    with pytest.raises(LabError, match=r"no module 'model\.layers\.9'"):
        mathematics.watched(model, ["model.layers.9"], **tokenizer("a", return_tensors="pt"))
    with pytest.raises(LabError, match="did not run"):
        mathematics.watched(Half(), ["other"], x=torch.ones(1))


class Half(torch.nn.Module):
    """Runs one of its two parts."""

    def __init__(self):
        super().__init__()
        self.one, self.other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.one(x)
