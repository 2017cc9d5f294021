"""Gradients made part by part are those of the whole batch, dropout included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.training.objectives.caching import cached_gradients
from labkit.training.objectives.contrastive import batch_all, info_nce, supervised_contrastive
from tests.training.objectives.near import numbers, whole


def near(found, wanted):
    """Equal but for float32's rounding, as sums are made in another order: a hundred-thousandth of the largest number at most."""
    return (found - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max())


def encoder(seed, dropout=0.0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 4))


OBJECTIVES = {"supervised contrastive": lambda rows, labels: supervised_contrastive(rows, labels).mean(),
              "all triplets": lambda rows, labels: batch_all(rows, labels, margin=0.3).mean(),
              "pairs": lambda rows, _: info_nce(rows[0::2], rows[1::2]).mean()}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(OBJECTIVES)), st.lists(st.integers(1, 7), max_size=5), st.integers(0, 999))
def test_any_cut_of_a_batch_gives_the_whole_batchs_gradient(name, cuts, seed):
    inputs, labels = numbers(8, 5, seed=seed), whole(3, 8, seed=seed)
    objective = lambda rows: OBJECTIVES[name](rows, labels)  # noqa: E731
    plain, cached = encoder(seed), encoder(seed)
    wanted = objective(plain(inputs))
    wanted.backward()
    places = sorted({0, 8, *cuts})
    found = cached_gradients(cached, [inputs[start:end] for start, end in zip(places, places[1:], strict=False)], objective)
    assert torch.allclose(found, wanted, atol=1e-6) and not found.requires_grad
    for one, other in zip(plain.parameters(), cached.parameters(), strict=True):
        assert near(other.grad, one.grad)


def test_dropout_is_the_same_the_second_time():
    """As a reference, the parts are embedded with a graph once, in the same order, from the same random state."""
    inputs, labels = numbers(9, 5), whole(3, 9)
    parts = inputs.split(2)
    objective = OBJECTIVES["supervised contrastive"]
    plain, cached = encoder(0, dropout=0.5), encoder(0, dropout=0.5)
    torch.manual_seed(7)
    wanted = objective(torch.cat([plain(part) for part in parts]), labels)
    wanted.backward()
    after = torch.rand(1)
    torch.manual_seed(7)
    found = cached_gradients(cached, parts, lambda rows: objective(rows, labels))
    assert torch.equal(torch.rand(1), after)  # what comes next draws as if nothing had been done twice
    assert torch.allclose(found, wanted, atol=1e-6)
    for one, other in zip(plain.parameters(), cached.parameters(), strict=True):
        assert near(other.grad, one.grad)


def test_gradients_are_added_to_what_is_there_and_reach_the_objectives_own_parameters():
    inputs, labels = numbers(4, 5), torch.tensor([0, 0, 1, 1])
    model, scale = encoder(0), torch.nn.Parameter(torch.tensor(2.0))
    objective = lambda rows: scale * OBJECTIVES["all triplets"](rows, labels)  # noqa: E731
    objective(model(inputs)).backward()
    first = [each.grad.clone() for each in (*model.parameters(), scale)]
    cached_gradients(model, [inputs[:3], inputs[3:]], objective)
    for each, before in zip((*model.parameters(), scale), first, strict=True):
        assert torch.allclose(each.grad, 2 * before, atol=1e-6)


def test_an_encoder_that_is_random_by_itself_is_found_out():
    import random

    model, inputs = encoder(0), numbers(4, 5)
    with pytest.raises(RuntimeError, match="random"):
        cached_gradients(lambda part: model(part) * random.uniform(1, 5), [inputs[:2], inputs[2:]], lambda rows: rows.square().sum())


def test_an_encoder_that_has_run_away_is_seen_in_the_loss():
    model, inputs = encoder(0), numbers(4, 5)
    assert cached_gradients(lambda part: model(part) * torch.nan, [inputs[:2], inputs[2:]], lambda rows: rows.square().sum()).isnan()
