"""The loss of each answer token from the decoder's last hidden states, with the memory for the vocabulary's scores bounded."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_TOKENS = 128       # scores that are held at once, in the model's number format: more leave the processor's cache
_EXACT_TOKENS = 16  # and of these in float32, so that they stay in the processor's cache


def token_losses(head: "torch.nn.Module", states: "torch.Tensor", answers: "torch.Tensor") -> "torch.Tensor":
    """The cross-entropy of each token in nats, float32 (tokens,), with a gradient for the states.

    Args:
        head: maps states to the vocabulary's scores; it is not trained.
        states: (tokens, hidden), each what stands before the token it predicts.
        answers: int64 (tokens,).
    """
    import torch

    if type(head) is not torch.nn.Linear or any(parameter.requires_grad for parameter in head.parameters()):
        return torch.nn.functional.cross_entropy(head(states).float(), answers, reduction="none")
    return _function().apply(states, head.weight, head.bias, answers)


@functools.cache
def _function() -> "type[torch.autograd.Function]":
    """Cross-entropy of a linear map's scores. The gradient of a token's loss with respect to its state, (softmax - one-hot) W, is
    made at once, part by part, so that the scores of all tokens never stand in memory together (seven copies of them else)."""
    import torch

    class TokenLosses(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, bias, answers):
            losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
            gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
            for start in range(0, len(states), _TOKENS):
                part = states[start : start + _TOKENS]
                count = len(part)
                if filling := -count % _EXACT_TOKENS:  # for each new shape of a product a kernel would be compiled (see `shared_prefix`)
                    part = torch.cat([part, part.new_zeros(filling, part.shape[1])])
                scores = torch.nn.functional.linear(part, weight, bias)
                for at in range(0, count, _EXACT_TOKENS):
                    rows = scores[at : min(at + _EXACT_TOKENS, count)]
                    place = answers[start + at : start + at + len(rows), None]
                    exact = rows.float()
                    highest = exact.amax(-1, keepdim=True)
                    own = exact.gather(1, place) - highest
                    exact.sub_(highest).exp_()
                    total = exact.sum(-1, keepdim=True)
                    losses[start + at : start + at + len(rows)] = (total.log() - own)[:, 0]
                    if gradient is not None:
                        exact.div_(total).scatter_add_(1, place, torch.full_like(total, -1.0))
                        rows.copy_(exact)
                if gradient is not None:
                    gradient[start : start + count] = torch.mm(scores, weight)[:count]
            if gradient is not None:
                ctx.save_for_backward(gradient)
            return losses

        @staticmethod
        def backward(ctx, by_loss):
            (gradient,) = ctx.saved_tensors
            return (gradient.float() * by_loss[:, None]).to(gradient.dtype), None, None, None

    return TokenLosses
