"""Weighing and sampling tasks: the papers' formulas in float64, and the shares that rows and temperature give."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training.objectives.multitask import (
    fixed,
    gradient_norm_loss,
    gradient_norm_step,
    gradient_norms,
    sampled_tasks,
    task_shares,
    uncertainty,
)
from tests.training.objectives.near import assert_equal, numbers

quick = settings(max_examples=40, deadline=None)
positive = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


@quick
@given(positive)
def test_fixed_weights_multiply_the_losses(weights):
    losses = numbers(len(weights)).abs()
    assert_equal(lambda losses: fixed(losses, weights),
                 lambda losses: sum(each * weight for each, weight in zip(losses.double(), weights, strict=True)), losses)
    assert_equal(fixed, lambda losses: losses.sum(), losses)


@quick
@given(st.integers(1, 5), st.integers(0, 999))
def test_uncertainty_is_the_papers_formula_with_sigma(tasks, seed):
    losses, log_variances = numbers(tasks, seed=seed).abs(), numbers(tasks, seed=seed + 1)
    regression = [number % 2 == 1 for number in range(tasks)]

    def by_hand(losses, log_variances):
        sigma = torch.exp(log_variances.double() / 2)
        parts = [(losses[task].double(), 2 if regression[task] else 1, sigma[task]) for task in range(tasks)]
        return sum(loss / (halved * each**2) + torch.log(each) for loss, halved, each in parts)

    assert_equal(lambda losses, log_variances: uncertainty(losses, log_variances, regression), by_hand, losses, log_variances)


def test_uncertainty_of_micro_batches_adds_up_to_that_of_the_step():
    losses, log_variances = torch.tensor([0.5, 2.0]), torch.tensor([0.3, -0.4])
    parts = [(0.25, torch.tensor([0.1, 1.5])), (0.75, torch.tensor([0.4, 0.5]))]  # of sums over the step's weights
    assert_equal(lambda log_variances: sum(uncertainty(part, log_variances, share=share) for share, part in parts),
                 lambda log_variances: uncertainty(losses, log_variances), log_variances)


def test_learned_variances_settle_where_each_equals_its_loss():
    """The minimum of L / sigma^2 + log sigma is at sigma^2 = 2 L, of L / (2 sigma^2) + log sigma at sigma^2 = L."""
    losses, log_variances = torch.tensor([0.5, 3.0]), torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([log_variances], 0.05)
    for _ in range(600):
        optimiser.zero_grad()
        uncertainty(losses, log_variances, [False, True]).backward()
        optimiser.step()
    assert log_variances.exp().tolist() == pytest.approx([1.0, 3.0], rel=1e-3)


def test_gradient_norms_are_those_of_each_task_alone():
    torch.manual_seed(0)
    shared, first, second = torch.nn.Linear(4, 3), torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    inputs = numbers(6, 4)
    states = shared(inputs)
    losses = torch.stack([first(states).square().mean(), 3 * second(states).abs().mean(), torch.zeros((), requires_grad=True) * 1.0])
    found = gradient_norms(losses, list(shared.parameters()))
    for number, loss in enumerate((lambda: first(shared(inputs)).square().mean(), lambda: 3 * second(shared(inputs)).abs().mean())):
        shared.zero_grad()
        loss().backward()
        squares = sum(each.grad.square().sum().item() for each in shared.parameters())
        assert found[number].item() == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert found[2] == 0 and not found.requires_grad
    losses.sum().backward()  # the graph is still there


@quick
@given(st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.5]), st.integers(0, 999))
def test_the_gradient_norm_loss_is_the_papers_equation_2(tasks, alpha, seed):
    weights, norms, losses, first = (numbers(tasks, seed=seed + number).abs() + 0.1 for number in range(4))

    def equation_2(weights):
        own = [weights[task].double() * norms[task].double() for task in range(tasks)]
        mean = sum(each.detach() for each in own) / tasks
        slow = [losses[task].double() / first[task].double() for task in range(tasks)]
        return sum((own[task] - mean * (slow[task] / (sum(slow) / tasks)) ** alpha).abs() for task in range(tasks))

    assert_equal(lambda weights: gradient_norm_loss(weights, norms, losses, first, alpha), equation_2, weights)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 5), st.integers(0, 999))
def test_a_step_of_gradient_norms_lowers_their_loss_and_keeps_the_weights_sum(tasks, seed):
    norms, losses, first = (numbers(tasks, seed=seed + number).abs() + 0.1 for number in range(3))
    weights = torch.ones(tasks)
    for _ in range(400):
        weights = gradient_norm_step(weights, norms, losses, first, rate=0.005)
        assert weights.sum().item() == pytest.approx(tasks, rel=1e-4) and (weights > 0).all()
    before, after = (gradient_norm_loss(each, norms, losses, first) / (each * norms).mean() for each in (torch.ones(tasks), weights))
    assert after <= before + 0.05


def test_a_task_whose_gradient_is_too_small_gains_weight():
    weights = gradient_norm_step(torch.ones(2), torch.tensor([1.0, 3.0]), torch.ones(2), torch.ones(2))
    assert weights[0] > 1 > weights[1]
    assert torch.equal(gradient_norm_step(torch.ones(2), torch.zeros(2), torch.ones(2), torch.ones(2)), torch.ones(2))


def test_tasks_come_by_their_rows_and_the_temperature():
    assert task_shares([30, 10], "uniform") == [0.5, 0.5]
    assert task_shares([30, 10]) == pytest.approx([0.75, 0.25])
    assert task_shares([400, 100], "temperature", 2) == pytest.approx([20 / 30, 10 / 30])
    assert task_shares([400, 0, 100], "uniform") == [0.5, 0, 0.5]
    assert task_shares([10**9, 1], "temperature", 0.01) == pytest.approx([1, 0])


@pytest.mark.parametrize("mistake", [([1, 2], "often"), ([0, 0], "uniform"), ([1], "temperature", 0.0), ([], "uniform"),
                                     ([-1, 3], "uniform")])
def test_tasks_that_cannot_be_sampled_are_an_error(mistake):
    with pytest.raises(LabError, match="task"):
        task_shares(*mistake)


def test_sampled_tasks_follow_their_shares_and_the_seed():
    found = sampled_tasks([0.7, 0.0, 0.3], 10_000, 1)
    times = Counter(found)
    assert times[1] == 0 and abs(times[0] / 10_000 - 0.7) < 0.02
    assert found == sampled_tasks([0.7, 0.0, 0.3], 10_000, 1) != sampled_tasks([0.7, 0.0, 0.3], 10_000, 2)
