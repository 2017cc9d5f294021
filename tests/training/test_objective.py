"""The loss that is made part by part is plain cross-entropy, and so is its gradient."""

import pytest
import torch

from labkit.training import objective
from labkit.training.objective import token_losses


def plain(head, states, answers):
    return torch.nn.functional.cross_entropy(head(states).float(), answers, reduction="none")


@pytest.mark.parametrize("tokens", [1, 16, 40, 75])
@pytest.mark.parametrize("bias", [False, True])
def test_losses_and_gradients_are_those_of_cross_entropy(tokens, bias, monkeypatch):
    monkeypatch.setattr(objective, "_TOKENS", 32)
    torch.manual_seed(tokens)
    head = torch.nn.Linear(12, 50, bias=bias).requires_grad_(False)
    answers, weights = torch.randint(0, 50, (tokens,)), torch.rand(tokens)
    ours, other = (torch.randn(tokens, 12, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab")
    got, want = token_losses(head, ours, answers), plain(head, other, answers)
    assert torch.allclose(got, want, atol=1e-5)
    (got @ weights).backward()
    (want @ weights).backward()
    assert torch.allclose(ours.grad, other.grad, atol=1e-6)


def test_in_bfloat16_losses_are_made_in_float32():
    torch.manual_seed(0)
    head = torch.nn.Linear(12, 5000, bias=False).bfloat16().requires_grad_(False)
    states, answers = torch.randn(40, 12).bfloat16(), torch.randint(0, 5000, (40,))
    assert torch.allclose(token_losses(head, states, answers), plain(head, states, answers), atol=1e-5)


def test_scores_far_apart_give_finite_losses():
    head = torch.nn.Linear(2, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[300.0, 0.0], [0.0, 300.0]]))
    states = torch.tensor([[1.0, -1.0]], requires_grad=True)
    losses = token_losses(head, states, torch.tensor([1]))
    assert losses.item() == 600
    losses.sum().backward()
    assert torch.equal(states.grad, torch.tensor([[300.0, -300.0]]))


def test_a_head_that_learns_gets_its_gradient():
    head = torch.nn.Linear(3, 7)
    token_losses(head, torch.randn(4, 3), torch.tensor([0, 1, 2, 6])).sum().backward()
    assert head.weight.grad.abs().sum() > 0
