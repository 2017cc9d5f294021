"""What this machine can do is measured in a few seconds, and the choice fits into the time."""

import dataclasses

import pytest

from labkit import models
from labkit.errors import LabError
from labkit.training.calibration import Calibration, Rate, calibrate
from labkit.training.examples import Encoded, Example
from labkit.training.recipe import Recipe


def data_of(records, tokens, prefix):
    """So many records, each of `tokens` tokens behind `prefix` that all share, the last two the answer."""
    whole = tuple(range(prefix + tokens))
    return Encoded([Example(whole, prefix + tokens - 2) for _ in range(records)], [whole[:prefix]], [])


CALIBRATION = Calibration((Rate("bf16", 128, 2e-5, 1e-5), Rate("bf16", 512, 1e-5, 0.5e-5), Rate("fp32", 512, 3e-5, 1e-5)), 30, 1e-4, 0.0)


def test_the_seconds_are_those_of_the_frozen_layers_once_and_of_the_others_each_epoch():
    recipe = Recipe(scenario="x", layers=10, epochs=3, batch_size=10)
    found = CALIBRATION.seconds_for(recipe, data_of(100, 40, 50))
    own, shared = 100 * 40, 10 * 50  # the shared tokens once a step
    assert found == pytest.approx(own * 0.5e-5 * 20 + 3 * ((own + shared) * 1e-5 * 10 + 200 * 1e-4))


def test_as_many_layers_are_chosen_as_fit():
    recipe, data = Recipe(scenario="x", epochs=3), data_of(1000, 40, 50)
    chosen = CALIBRATION.choose(recipe, data, 30.0)
    assert chosen.precision == "bf16" and chosen.batch_size == round(512 / 40)
    assert CALIBRATION.seconds_for(chosen, data) <= 30.0
    more = dataclasses.replace(chosen, layers=chosen.layers + 1)
    assert chosen.layers < 30 and CALIBRATION.seconds_for(more, data) > 30.0


def test_too_little_time_is_said_with_what_would_help():
    with pytest.raises(LabError, match="more than 0 s; give it more time, fewer records, or fewer epochs"):
        CALIBRATION.choose(Recipe(scenario="x"), data_of(1000, 40, 50), 0.1)


def test_a_real_model_is_measured(tiny_base):
    found = calibrate(models.resolve(tiny_base), seconds=2.0)
    assert found.layers == 4 and found.head > 0
    assert all(0 < rate.frozen < rate.step for rate in found.rates)
    assert 1 <= len({rate.precision for rate in found.rates}) <= 2
