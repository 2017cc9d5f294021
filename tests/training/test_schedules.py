"""The schedules' shapes, against transformers' and PyTorch's, and against what old runs were trained by."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import optimization

from labkit.errors import LabError
from labkit.training import schedules
from labkit.training.recipe import Recipe

NAMES = st.sampled_from(schedules.NAMES)
STEPS = st.integers(1, 400)
SHARES = st.floats(0, 1)


def theirs(make, steps, **settings):
    """The shares of one of transformers' schedulers, index by index."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return [make(optimiser, **settings).lr_lambdas[0](index) for index in range(steps + 1)]


@settings(deadline=None)
@given(NAMES, STEPS, SHARES, SHARES, st.data())
def test_a_share_is_between_nothing_and_the_peak(name, steps, warmup, final, data):
    index = data.draw(st.integers(0, steps))
    assert 0 <= schedules.share(name, index, steps, warmup=warmup, final=final) <= 1 + 1e-12


@settings(deadline=None)
@given(NAMES, STEPS, SHARES, SHARES)
def test_the_warm_up_rises_to_the_peak(name, steps, warmup, final):
    rising = schedules.warmup_steps(steps, warmup)
    shares = [schedules.share(name, index, steps, warmup=warmup, final=final) for index in range(rising)]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


@settings(deadline=None)
@given(NAMES.filter(lambda name: name not in ("constant", "inverse_sqrt")), STEPS, st.floats(0, 0.9), SHARES)
def test_behind_the_last_step_the_rate_is_the_final_one(name, steps, warmup, final):
    rising = schedules.warmup_steps(steps, warmup)
    if rising < steps:
        assert schedules.share(name, steps, steps, warmup=warmup, final=final) == pytest.approx(final, abs=1e-12)


@settings(deadline=None)
@given(NAMES.filter(lambda name: name != "cosine_restarts"), STEPS, SHARES, SHARES)
def test_after_the_warm_up_none_but_the_restarts_rises(name, steps, warmup, final):
    shares = [schedules.share(name, index, steps, warmup=warmup, final=final)
              for index in range(schedules.warmup_steps(steps, warmup) - 1, steps + 1)]
    assert all(later <= earlier + 1e-12 for earlier, later in zip(shares, shares[1:], strict=False))


@settings(deadline=None)
@given(st.sampled_from(["constant", "linear", "cosine"]), STEPS, SHARES, SHARES, st.data())
def test_runs_trained_before_there_were_more_schedules_go_on_bit_for_bit(name, steps, warmup, final, data):
    """The rule that those runs were trained by, written out."""
    index = data.draw(st.integers(0, steps - 1))
    rising = max(1, round(warmup * steps))
    along = (index - rising) / max(1, steps - rising)
    falls = {"constant": None, "cosine": (1 + math.cos(math.pi * along)) / 2, "linear": 1 - along}
    expected = (index + 1) / rising if index < rising else 1.0 if name == "constant" else final + (1 - final) * falls[name]
    recipe = Recipe(scenario="x", schedule=name, warmup=warmup, final_rate=final)
    assert schedules.share(name, index, steps, warmup=warmup, final=final) == expected == schedules.of_recipe(recipe, index, steps)


def test_falls_are_those_of_transformers():
    steps, rising = 100, 10
    settings = {"num_warmup_steps": rising, "num_training_steps": steps}
    for name, final, expected in (
        ("linear", 0.0, theirs(optimization.get_linear_schedule_with_warmup, steps, **settings)),
        ("cosine", 0.0, theirs(optimization.get_cosine_schedule_with_warmup, steps, **settings)),
        ("cosine", 0.1, theirs(optimization.get_cosine_with_min_lr_schedule_with_warmup, steps, min_lr_rate=0.1, **settings)),
        ("cosine_restarts", 0.0, theirs(optimization.get_cosine_with_hard_restarts_schedule_with_warmup, steps, num_cycles=3, **settings)),
        ("wsd", 0.1, theirs(optimization.get_wsd_schedule, steps, num_decay_steps=20, num_warmup_steps=rising, num_training_steps=steps,
                            decay_type="linear", min_lr_ratio=0.1)),
    ):
        ours = [schedules.share(name, index, steps, warmup=0.1, final=final, decay=0.2, cycles=3) for index in range(rising, steps + 1)]
        assert ours == pytest.approx(expected[rising:], abs=1e-9), name


def test_the_warm_up_and_the_inverse_root_are_transformers_a_step_ahead():
    """Theirs gives the very first step a rate of 0."""
    expected = theirs(optimization.get_inverse_sqrt_schedule, 100, num_warmup_steps=10)
    assert [schedules.share("inverse_sqrt", index, 100, warmup=0.1) for index in range(99)] == pytest.approx(expected[1:100])


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.3), (37, 0.25), (50, 0.06)])
def test_one_cycle_is_pytorchs_rate_and_momentum(steps, warmup):
    rising, final = schedules.warmup_steps(steps, warmup), 0.01
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total_steps=steps + 1, pct_start=rising / (steps + 1),
                                                 div_factor=25, final_div_factor=1 / (25 * final), base_momentum=0.85, max_momentum=0.95)
    for index in range(steps + 1):
        group = optimiser.param_groups[0]
        assert schedules.share("one_cycle", index, steps, warmup=warmup, final=final) == pytest.approx(group["lr"], abs=1e-9)
        assert schedules.momentum(index, steps, warmup=warmup, high=0.95) == pytest.approx(group["momentum"], abs=1e-9)
        if index < steps:
            optimiser.step()
            theirs.step()


def test_a_recipe_moves_momentum_by_one_cycle_only():
    steady = Recipe(scenario="x", schedule="cosine", optimiser="sgd", momentum=0.8)
    assert {schedules.momentum_of_recipe(steady, index, 40) for index in range(40)} == {0.8}
    moved = Recipe(scenario="x", schedule="one_cycle", optimiser="adamw", beta1=0.95, warmup=0.25)
    values = [schedules.momentum_of_recipe(moved, index, 40) for index in range(41)]
    assert values[0] == values[40] == pytest.approx(0.95) and values[9] == min(values) == pytest.approx(0.85)


def test_wsd_stays_at_the_peak_and_halves_halfway_down():
    shares = [schedules.share("wsd", index, 100, warmup=0.1, decay=0.2) for index in range(100)]
    assert shares[9:81] == [1.0] * 72 and shares[90] == pytest.approx(0.5) and shares[99] == pytest.approx(0.05)


def test_an_unknown_schedule_is_an_error_that_names_those_there_are():
    with pytest.raises(LabError, match="constant, linear, cosine"):
        schedules.share("quadratic", 0, 10)
