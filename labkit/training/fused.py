"""Parts of a decoder layer as single functions with gradients of their own, for fewer passes over memory.

    lora      x W' + b + s (x A') B'
    rms_norm  x / sqrt(mean(x^2) + eps) * w

Larger ones were measured too and brought nothing on 2 cores: queries, keys and values (or gate and up) as one product, and
silu(gate) * up. This module knows nothing about records, recipes or models.
"""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def lora(states: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None", down: "torch.Tensor", up: "torch.Tensor",
         scale: float) -> "torch.Tensor":
    """An adapted linear map (Hu et al. 2021, section 4.1): `states` (any, in) to (any, out), with gradients for states, A and B.

    Args:
        weight: W (out, in), frozen; bias: b (out,), frozen, or None.
        down: A (rank, in).
        up: B (out, rank).
    """
    return _lora().apply(states, weight, bias, down, up, scale)


def rms_norm(states: "torch.Tensor", weight: "torch.Tensor", eps: float) -> "torch.Tensor":
    """Root mean square norm over the last dimension (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), in float32 within;
    `weight` (hidden,) is frozen."""
    return _rms_norm().apply(states, weight.detach(), eps)


@functools.cache
def _lora() -> "type[torch.autograd.Function]":
    import torch

    class Lora(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, bias, down, up, scale):
            flat = states.reshape(-1, states.shape[-1])
            low = (flat @ down.T).mul_(scale)  # (tokens, rank)
            ctx.save_for_backward(flat, low, weight, down, up)
            ctx.scale, ctx.shape = scale, states.shape
            return torch.nn.functional.linear(flat, weight, bias).addmm_(low, up.T).view(*states.shape[:-1], -1)

        @staticmethod
        def backward(ctx, gradient):
            flat, low, weight, down, up = ctx.saved_tensors
            gradient = gradient.reshape(-1, gradient.shape[-1])
            low_gradient = (gradient @ up).mul_(ctx.scale)
            entered = None
            if ctx.needs_input_grad[0]:
                entered = (gradient @ weight).addmm_(low_gradient, down).view(*ctx.shape)
            return entered, None, None, low_gradient.T @ flat, (low.T @ gradient).T, None

    return Lora


@functools.cache
def _rms_norm() -> "type[torch.autograd.Function]":
    import torch

    class RmsNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, eps):
            size = states.shape[-1]
            length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
            rate = length.square_().div_(size).add_(eps).rsqrt_()
            ctx.save_for_backward(states, rate, weight)
            return (states * rate).to(states.dtype).mul_(weight)

        @staticmethod
        def backward(ctx, gradient):
            states, rate, weight = ctx.saved_tensors
            weighted = gradient * weight
            along = (weighted * states).sum(-1, keepdim=True, dtype=torch.float32)
            along.mul_(rate.pow(3)).div_(states.shape[-1])
            return (weighted * rate).sub_(states * along).to(gradient.dtype), None, None

    return RmsNorm
