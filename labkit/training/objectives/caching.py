"""Exact gradients of a loss over a whole batch whose activations do not fit into memory together."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Part = TypeVar("Part")


def cached_gradients(embed: "Callable[[Part], torch.Tensor]", parts: Sequence[Part],
                     objective: "Callable[[torch.Tensor], torch.Tensor]") -> "torch.Tensor":
    """Back-propagate a loss of all embeddings, holding the activations of one part at a time (Gao et al. 2021, section 3,
    https://arxiv.org/abs/2101.06983).

    All parts are embedded without a graph, the loss's gradient to the embeddings is taken, then each part is embedded again, with torch's
    random numbers as they were the first time (the same dropout), and its share is back-propagated. Gradients are added to what is
    there, as by `backward()`, and are those of the whole batch in one piece. Costs one more forward pass.

    Args:
        embed: gives a part's embeddings, (its texts, hidden). What is random in it must come from torch's own generators.
        parts: what `embed` takes; the first texts first.
        objective: gives a scalar from all embeddings, (texts, hidden), in the order of the parts.

    Returns:
        The loss, a scalar without a graph.

    Raises:
        RuntimeError: `embed` gives other embeddings the second time, so that the gradient would be wrong.
    """
    import torch

    states, found = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state())
            found.append(embed(part))
    whole = torch.cat(found).detach().requires_grad_()
    loss = objective(whole)
    loss.backward()
    after = _random_state()
    for part, state, first, gradient in zip(parts, states, found, whole.grad.split([len(each) for each in found]), strict=True):
        _set_random_state(state)
        again = embed(part)
        before, now = first.float().nan_to_num(), again.detach().float().nan_to_num()  # NaN is for the loop to find, in the loss
        if not torch.allclose(now, before, rtol=1e-2, atol=1e-2 * before.abs().max().item()):
            raise RuntimeError("embed gives other embeddings for the same part: something in it is random beside torch's generators")
        again.backward(gradient.to(again.dtype))
    _set_random_state(after)
    return loss.detach()


def _random_state() -> "tuple[torch.Tensor, list[torch.Tensor]]":
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_random_state(state: "tuple[torch.Tensor, list[torch.Tensor]]") -> None:
    import torch

    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
