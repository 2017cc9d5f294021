"""Several tasks on a shared trunk: how much each task's loss counts, and how often each task comes.

A task's loss here is its mean over the whole step, or in a micro-batch that part of it (summed losses over the step's weights): all
weightings below are linear in the losses, so the parts add up to the whole step's gradient.
"""

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    import torch

_LEAST = 1e-3  # below which no task's weight falls: at 0 or less it would never be learned again
SAMPLING = ("uniform", "proportional", "temperature")


def fixed(losses: "torch.Tensor", weights: "torch.Tensor | Sequence[float] | None" = None) -> "torch.Tensor":
    """The sum of the tasks' losses, float32 (tasks,), each times its weight (1 where there are none)."""
    import torch

    if weights is None:
        return losses.float().sum()
    return losses.float() @ torch.as_tensor(weights, dtype=torch.float32, device=losses.device)


def uncertainty(losses: "torch.Tensor", log_variances: "torch.Tensor", regression: Sequence[bool] | None = None,
                share: float = 1.0) -> "torch.Tensor":
    """Each task's loss over the variance of its noise, which is learned, and what keeps the variance small (Kendall et al. 2018,
    equations 7 and 10, https://arxiv.org/abs/1705.07115): L / sigma^2 + log sigma, for squared errors L / (2 sigma^2) + log sigma.

    Args:
        losses: (tasks,).
        log_variances: log sigma^2, float32 (tasks,), parameters that begin at 0 and are learned with the model, without weight decay.
        regression: which tasks' losses are squared errors; None: none of them.
        share: of a micro-batch in its step (they sum to 1), so that log sigma counts once a step.
    """
    import torch

    halves = torch.tensor([0.5 if each else 1.0 for each in regression or [False] * len(losses)], device=losses.device)
    exact = log_variances.float()
    return (halves * (-exact).exp() * losses.float()).sum() + share * exact.sum() / 2


def gradient_norms(losses: "torch.Tensor", shared: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """The norm of each task's own gradient to the shared parameters (in the paper: of the last shared layer), float32 (tasks,), without a
    graph; the losses' graph is kept. A task that these parameters do not reach has 0."""
    import torch

    found = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
        squares = [each.detach().float().square().sum() for each in gradients if each is not None]
        found.append(torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=losses.device))
    return torch.stack(found)


def gradient_norm_loss(weights: "torch.Tensor", norms: "torch.Tensor", losses: "torch.Tensor", first_losses: "torch.Tensor",
                       alpha: float = 1.5) -> "torch.Tensor":
    """How far the tasks' weighted gradients are from the norms they should have (GradNorm, Chen et al. 2018, equations 1 and 2,
    https://arxiv.org/abs/1711.02257): sum of |w_i n_i - mean(w n) r_i^alpha|, r_i being how slowly task i learns, L_i / first L_i over the
    mean of these. The gradient flows into `weights` alone, the target being a constant, as in the paper.

    Args:
        weights, norms, losses, first_losses: (tasks,); norms as `gradient_norms` gives them, first losses those of the first step.
        alpha: how strongly slow tasks are helped; 0 makes all norms equal.
    """
    own = weights * norms.detach()
    ratio = losses.detach().float() / first_losses.detach().float().clamp(min=1e-12)
    target = (own.mean() * (ratio / ratio.mean().clamp(min=1e-12)) ** alpha).detach()
    return (own - target).abs().sum()


def gradient_norm_step(weights: "torch.Tensor", norms: "torch.Tensor", losses: "torch.Tensor", first_losses: "torch.Tensor",
                       alpha: float = 1.5, rate: float = 0.025) -> "torch.Tensor":
    """The tasks' weights after one step down the gradient of `gradient_norm_loss`, brought back to a sum of their number (Chen et al.
    2018, algorithm 1). The loss is taken relative to the mean norm, so that `rate` means the same whatever the losses' scale; the
    paper reaches this by Adam. A weight falls to 0.001 at the lowest.

    Returns:
        float32 (tasks,), a new tensor without a graph.
    """
    import torch

    with torch.enable_grad():
        moved = weights.detach().float().clone().requires_grad_()
        mean = (moved.detach() * norms).mean()
        if mean <= 0:
            return moved.detach()
        (gradient,) = torch.autograd.grad(gradient_norm_loss(moved, norms, losses, first_losses, alpha) / mean, moved)
    stepped = (moved.detach() - rate * gradient).clamp(min=_LEAST)
    return stepped * len(stepped) / stepped.sum()


def task_shares(sizes: Sequence[int], how: str = "proportional", temperature: float = 1.0) -> list[float]:
    """How often each task comes, as shares that sum to 1: p ~ rows^(1 / temperature) (Arivazhagan et al. 2019, section 4.2,
    https://arxiv.org/abs/1907.05019; Raffel et al. 2020, section 3.5.2, https://arxiv.org/abs/1910.10683).

    Args:
        sizes: rows of each task.
        how: `uniform`, `proportional` to rows, or by `temperature` (1: proportional; large: uniform).

    Raises:
        LabError: another way, a temperature that is not above 0, or no row at all.
    """
    if how not in SAMPLING:
        raise LabError(f"tasks are sampled {', '.join(SAMPLING)}, not {how!r}")
    if not temperature > 0 or min(sizes, default=0) < 0 or sum(sizes) <= 0:
        raise LabError(f"task sampling needs a temperature above 0 and tasks with rows, not {temperature} and {list(sizes)}")
    largest, power = max(sizes), {"uniform": 0.0, "proportional": 1.0, "temperature": 1 / temperature}[how]
    found = [(size / largest) ** power if size else 0.0 for size in sizes]  # relative to the largest: no overflow
    return [each / sum(found) for each in found]


def sampled_tasks(shares: Sequence[float], steps: int, seed: int) -> list[int]:
    """Which task each step is of, drawn by the shares of `task_shares`."""
    return random.Random(seed).choices(range(len(shares)), cum_weights=list(accumulate(shares)), k=steps)
