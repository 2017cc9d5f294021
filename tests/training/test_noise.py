"""NEFTune's noise is as large as its paper says, and the same however a batch is put together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training import noise
from labkit.training.noise import Noise

SETTINGS = {"strength": 5.0, "seed": 3, "step": 7}


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 10**6))
def test_no_value_is_larger_than_the_strength_over_the_root_of_length_and_width(length, hidden, row):
    drawn = noise.drawn(length, hidden, row=row, **SETTINGS)
    assert drawn.shape == (length, hidden) and drawn.abs().max() <= 5 / math.sqrt(length * hidden) + 1e-7


def test_its_norm_is_the_same_for_short_and_long_rows():
    """Uniform from -1 to 1 has a variance of 1/3: the expected squared norm is strength^2 / 3."""
    for length in (20, 400):
        assert noise.drawn(length, 64, row=1, **SETTINGS).norm().item() == pytest.approx(5 / math.sqrt(3), rel=0.05)


def test_it_differs_by_row_step_and_seed_and_is_else_the_same():
    settings = {"strength": 1.0, "seed": 0, "step": 0, "row": 0}
    first = noise.drawn(4, 3, **settings)
    assert torch.equal(first, noise.drawn(4, 3, **settings))
    assert not any(torch.equal(first, noise.drawn(4, 3, **{**settings, name: 1})) for name in ("seed", "step", "row"))


def test_rows_get_the_same_noise_in_one_batch_and_in_its_parts_and_the_random_state_is_not_touched():
    before = torch.get_rng_state()
    states, lengths, rows = torch.zeros(9, 4), [2, 3, 4], [11, 5, 8]
    whole = noise.added(states, lengths, rows, **SETTINGS)
    parts = [noise.added(states[:2], [2], [11], **SETTINGS), noise.added(states[2:], [3, 4], [5, 8], **SETTINGS)]
    assert torch.equal(whole, torch.cat(parts)) and torch.equal(before, torch.get_rng_state())


def test_the_hook_gives_padded_batches_what_the_function_gives_packed_ones():
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(10, 4)
    tokens, mask = torch.randint(0, 10, (2, 5)), torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
    plain = embedding(tokens)
    with Noise(5.0, seed=3).on(embedding) as hook:
        hook.at(7, [11, 5], mask)
        noisy = embedding(tokens)
        packed = noise.added(plain[mask.bool()], [3, 4], [11, 5], **SETTINGS)
        assert torch.allclose(noisy[mask.bool()], packed) and torch.equal(noisy[~mask.bool()], plain[~mask.bool()])
        embedding.eval()
        assert torch.equal(embedding(tokens), plain)  # never while measuring
        embedding.train()
    assert torch.equal(embedding(tokens), plain)  # nor afterwards


def test_gradients_are_those_without_noise():
    states = torch.randn(5, 4, requires_grad=True)
    noise.added(states, [5], [0], **SETTINGS).sum().backward()
    assert torch.equal(states.grad, torch.ones(5, 4))


def test_a_number_format_stays():
    assert noise.added(torch.zeros(3, 4, dtype=torch.bfloat16), [3], [0], **SETTINGS).dtype == torch.bfloat16


def test_rows_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="2 rows of 5 tokens for 4 states"):
        noise.added(torch.zeros(4, 2), [2, 3], [0, 1], **SETTINGS)
    embedding = torch.nn.Embedding(4, 2)
    with Noise(1.0, 0).on(embedding), pytest.raises(ValueError, match="must name the 3 rows"):
        embedding(torch.zeros(3, 2, dtype=torch.long))


def test_the_embedding_of_a_model_is_found_or_its_lack_said():
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    assert noise.embedding_of(model) is model.embeddings.word_embeddings
    with pytest.raises(LabError, match="neftune = 0"):
        noise.embedding_of(torch.nn.Linear(2, 2))
