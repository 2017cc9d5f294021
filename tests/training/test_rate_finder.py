"""The range test finds rates that learn, stops where the loss runs away, and says so where it cannot tell."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training import rate_finder


def descent(curvature, start=1.0):
    """Plain descent on curvature / 2 x^2, which diverges from a rate of 2 / curvature on."""
    place = [start]

    def step(rate):
        loss = curvature / 2 * place[0] ** 2
        place[0] -= rate * curvature * place[0]
        return loss
    return step


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1000))
def test_on_a_parabola_the_suggestion_learns_and_is_below_where_descent_diverges(curvature):
    found = rate_finder.sweep(descent(curvature), 1e-7, 1e3, 120)
    assert found.suggestion is not None and 1e-3 / curvature < found.suggestion < 2 / curvature
    assert found.suggestion == min(found.steepest, found.lowest / 10)


def test_the_suggestion_is_a_starting_point_for_a_real_network():
    """Trained at the suggested rate, the loss is lower after 60 steps than at a thirtieth of it and at the rate where the sweep ended."""
    data = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    wanted = torch.tanh(data @ torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))

    def learner():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4))
        optimiser = torch.optim.AdamW(model.parameters())
        draw = random.Random(0)

        def step(rate):
            rows = draw.sample(range(256), 32)
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            loss = (model(data[rows]) - wanted[rows]).square().mean()
            loss.backward()
            optimiser.step()
            return loss.item()
        return step

    found = rate_finder.sweep(learner(), 1e-6, 10, 100)

    def after(rate):
        step = learner()
        return sum([step(rate) for _ in range(60)][-10:])

    assert after(found.suggestion) < min(after(found.suggestion / 30), after(found.rates[-1]))


def test_a_loss_that_runs_away_or_is_no_number_ends_the_sweep():
    for far in (1e9, math.nan, math.inf):
        seen = []

        def step(rate, far=far, seen=seen):
            seen.append(rate)
            return 3.0 - 2 * len(seen) / 40 if rate < 0.1 else far

        found = rate_finder.sweep(step, 1e-4, 10, 50)
        assert found.diverged and len(seen) < 40 and all(math.isfinite(loss) for loss in found.losses)
        assert found.suggestion is not None and found.suggestion < 0.1


def test_where_nothing_is_learned_there_is_no_suggestion_and_a_reason():
    dice = random.Random(0)
    found = rate_finder.sweep(lambda rate: 2.0 + dice.gauss(0, 0.05), 1e-6, 1, 80)
    assert found.suggestion is None and "never fell" in found.reason and "噪声" in found.zh


def test_where_the_first_rate_is_too_high_already_there_is_no_suggestion():
    found = rate_finder.sweep(descent(1e6), 1.0, 10, 40)
    assert found.suggestion is None and found.diverged
    gone = rate_finder.sweep(lambda rate: math.nan, 1e-3, 1, 40)
    assert gone.suggestion is None and gone.losses == () and "lower rate" in gone.reason


def test_where_the_loss_still_falls_at_the_end_it_says_so():
    found = rate_finder.sweep(descent(1.0), 1e-5, 1e-1, 60)
    assert found.suggestion is not None and "still falls" in found.reason and not found.diverged


def test_rates_rise_by_a_constant_factor_and_progress_is_told():
    told = []
    found = rate_finder.sweep(lambda rate: 1.0, 1e-4, 1.0, 41, lambda done, every: told.append((done, every)))
    factors = {round(later / earlier, 9) for earlier, later in zip(found.rates, found.rates[1:], strict=False)}
    assert factors == {round(10 ** (4 / 40), 9)} and found.rates[-1] == pytest.approx(1.0)
    assert told[0] == (1, 41) and told[-1] == (41, 41)


@pytest.mark.parametrize(("low", "high", "steps"), [(1.0, 0.1, 50), (0.0, 1.0, 50), (1e-3, 1.0, 3)])
def test_sweeps_that_cannot_be_are_errors(low, high, steps):
    with pytest.raises(LabError, match="a sweep needs"):
        rate_finder.sweep(lambda rate: 1.0, low, high, steps)
