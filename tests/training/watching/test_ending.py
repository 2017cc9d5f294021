"""A loss that runs away ends a training; one that is merely noisy does not, also after the training went on from a checkpoint."""

import random

import pytest

from labkit.training.recipe import Recipe
from labkit.training.watching.ending import Ending


def ends_at(losses, before=()):
    """The step, counted from 1, that must be the last; None where there is none."""
    ending = Ending(Recipe(scenario="x"), before)
    for step, loss in enumerate(losses, len(before) + 1):
        if ending.see(step, loss, 1.0, {}, lambda: "rows"):
            return step
    return None


@pytest.mark.parametrize(("first", "then", "at", "until"), [
    (lambda step: 2.3, lambda step: 30.0, 40, 60),                       # at once
    (lambda step: 5 - 4 * step / 29, lambda step: step * 0.2 - 5, 30, 64),  # it sank, then climbs
    (lambda step: 2 * 1.1**step, lambda step: 2 * 1.1**step, 0, 32)])    # from the first step on
def test_a_loss_that_runs_away_is_found_within_some_thirty_steps(first, then, at, until):
    draw = random.Random(0)
    losses = [(first if step < at else then)(step) * draw.uniform(0.8, 1.2) for step in range(200)]
    found = ends_at(losses)
    assert found and at < found <= until
    assert ends_at(losses[found - 4 :], losses[: found - 4]) == found  # gone on with


@pytest.mark.parametrize("records", [1, 4])
def test_losses_that_jump_up_and_down_do_not_run_away(records):
    """Squared errors of a skewed number, and losses that are small mostly and large at times, of batches of few records."""
    draw = random.Random(1)
    skewed = lambda: ((draw.lognormvariate(0, 1) - 1.65) / 2.16) ** 2  # noqa: E731
    rare = lambda: draw.expovariate(1 / 1.8)  # noqa: E731
    found = [ends_at([sum(each() for _ in range(records)) / records for _ in range(100)]) for each in (skewed, rare) for _ in range(200)]
    assert sum(step is not None for step in found) <= 2


def test_a_loss_near_zero_may_double_many_times():
    assert ends_at([0.001] * 30 + [0.5] * 60) is None
