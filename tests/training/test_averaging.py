"""The moving average is a weighted mean from the first step on, and gives the weights back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from labkit.errors import LabError
from labkit.training.averaging import Averages


def one_weight(value=0.0):
    return {"weight": torch.nn.Parameter(torch.tensor([value]))}


def put(parameters, value):
    with torch.no_grad():
        parameters["weight"].fill_(value)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30), st.floats(0, 0.999))
def test_it_is_the_weighted_mean_of_the_weights_after_each_step(values, decay):
    parameters = one_weight(1e6)  # what was before training has no part in it
    averages = Averages(parameters, decay)
    for value in values:
        put(parameters, value)
        averages.update()
    shares = [decay ** (len(values) - 1 - place) for place in range(len(values))]
    expected = sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)
    averages.settle()
    assert parameters["weight"].item() == pytest.approx(expected, abs=2e-3)


def test_far_from_the_start_it_is_pytorchs_average():
    from torch.optim import swa_utils

    model = torch.nn.Linear(3, 2)
    averages = Averages(dict(model.named_parameters()), 0.8)
    theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8))
    for seed in range(120):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        averages.update()
        theirs.update_parameters(model)
    averages.settle()
    assert torch.allclose(model.weight, theirs.module.weight, atol=1e-5)


def test_within_the_block_it_is_the_average_and_afterwards_the_weights_again_even_after_an_error():
    parameters = one_weight()
    averages = Averages(parameters, 0.5)
    for value in (1.0, 4.0):
        put(parameters, value)
        averages.update()
    with pytest.raises(RuntimeError), averages.swapped():
        assert parameters["weight"].item() == 3.0  # (1 x 0.5 + 4) / 1.5
        raise RuntimeError
    assert parameters["weight"].item() == 4.0


def test_before_the_first_step_nothing_changes():
    parameters = one_weight(7.0)
    with Averages(parameters, 0.9).swapped():
        assert parameters["weight"].item() == 7.0


def test_it_goes_on_from_its_tensors_bit_for_bit():
    parameters = {"weight": torch.nn.Parameter(torch.zeros(50))}

    def step(averages, seed):
        with torch.no_grad():
            parameters["weight"].copy_(torch.randn(50, generator=torch.Generator().manual_seed(seed)))
        averages.update()

    whole, part = Averages(parameters, 0.9), Averages(parameters, 0.9)
    for seed in range(10):
        step(whole, seed)
    for seed in range(5):
        step(part, seed)
    kept, again = save(part.state_tensors()), Averages(parameters, 0.9)
    again.load_state(load(kept))
    for seed in range(5, 10):
        step(again, seed)
    assert torch.equal(whole.state_tensors()["mean:weight"], again.state_tensors()["mean:weight"])


def test_averages_of_other_parameters_are_an_error():
    kept = Averages(one_weight(), 0.9).state_tensors()
    with pytest.raises(LabError, match="other parameters"):
        Averages({"bias": torch.nn.Parameter(torch.zeros(1))}, 0.9).load_state(kept)
    with pytest.raises(LabError, match="weight in the checkpoint is"):
        Averages({"weight": torch.nn.Parameter(torch.zeros(2))}, 0.9).load_state(kept)
