"""Parts of a decoder layer as single functions with gradients of their own, for fewer passes over memory and fewer, larger products.

    lora      x W' + b + s (x A') B' for several adapted linear maps of one input at once
    swiglu    silu(gate) * up, of both in one tensor
    rms_norm  x / sqrt(mean(x^2) + eps) * w

This module knows nothing about records, recipes or models.
"""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def lora(states: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None", scale: float,
         pairs: "list[tuple[torch.Tensor, torch.Tensor]]") -> "torch.Tensor":
    """The maps of `states` (any, in), side by side: (any, all out), with gradients for the states and the pairs' matrices.

    Args:
        weight: the frozen weights of all maps one below the other, (all out, in).
        bias: their biases, (all out,), or None.
        pairs: A (rank, in) and B (own out, rank) of each map (Hu et al. 2021, section 4.1).
    """
    return _lora().apply(states, weight, bias, scale, *(matrix for pair in pairs for matrix in pair))


def swiglu(both: "torch.Tensor") -> "torch.Tensor":
    """silu(gate) * up of a tensor that holds gate and up side by side: (any, 2 size) to (any, size) (Shazeer 2020,
    https://arxiv.org/abs/2002.05202)."""
    return _swiglu().apply(both)


def rms_norm(states: "torch.Tensor", weight: "torch.Tensor", eps: float) -> "torch.Tensor":
    """Root mean square norm over the last dimension (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), in float32 within;
    `weight` (hidden,) is frozen."""
    return _rms_norm().apply(states, weight.detach(), eps)


@functools.cache
def _lora() -> "type[torch.autograd.Function]":
    import torch

    class Lora(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, bias, scale, *matrices):
            flat = states.reshape(-1, states.shape[-1])
            downs, ups = matrices[::2], matrices[1::2]
            down, up = torch.cat(downs), ups[0] if len(ups) == 1 else torch.block_diag(*ups)  # (ranks, in), (all out, ranks)
            low = (flat @ down.T).mul_(scale)
            ctx.save_for_backward(flat, low, weight, down, up)
            ctx.scale, ctx.shape, ctx.sizes, ctx.ranks = scale, states.shape, [len(each) for each in ups], [len(each) for each in downs]
            return torch.nn.functional.linear(flat, weight, bias).addmm_(low, up.T).view(*states.shape[:-1], -1)

        @staticmethod
        def backward(ctx, gradient):
            flat, low, weight, down, up = ctx.saved_tensors
            gradient = gradient.reshape(-1, gradient.shape[-1])
            low_gradient = (gradient @ up).mul_(ctx.scale)
            entered = None
            if ctx.needs_input_grad[0]:
                entered = (gradient @ weight).addmm_(low_gradient, down).view(ctx.shape)
            downs = (low_gradient.T @ flat).split(ctx.ranks)
            ups = [(own.T @ part).T for own, part in zip(low.split(ctx.ranks, -1), gradient.split(ctx.sizes, -1), strict=True)]
            return entered, None, None, None, *(each for pair in zip(downs, ups, strict=True) for each in pair)

    return Lora


@functools.cache
def _swiglu() -> "type[torch.autograd.Function]":
    import torch

    class Swiglu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, both):
            ctx.save_for_backward(both)
            gate, up = both.chunk(2, -1)
            return torch.nn.functional.silu(gate).mul_(up)

        @staticmethod
        def backward(ctx, gradient):
            (both,) = ctx.saved_tensors
            gate, up = both.chunk(2, -1)
            found = torch.empty_like(both)
            for_gate, for_up = found.chunk(2, -1)
            torch.mul(gradient, torch.nn.functional.silu(gate), out=for_up)
            torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=for_gate)
            return found

    return Swiglu


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
