"""Tokens of a batch that stand one after the other without padding: which of them are chosen, and numbers of them that come again. What
`shared_prefix` (decoders) and `packed_encoder` have in common.
"""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STEP = 32  # tokens; so many, or an eighth, is what sequences are filled up to a multiple of
SMALL_STEP = 16  # the same for the chosen tokens of the last layer, and for the rows of attention


def rounded(count: int, least: int) -> int:
    """`count`, or a little more: one of few numbers, in steps of an eighth (and at least `least`)."""
    step = max(least, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


class Chosen:
    """Some tokens of a sequence of `count`, by their places (int64, at least one); filled up to one of few numbers."""

    def __init__(self, own: "torch.Tensor", count: int, least: int = SMALL_STEP) -> None:
        import torch

        device = own.device
        self.back = torch.zeros(count, dtype=torch.int64, device=device)
        self.back[own] = torch.arange(len(own), device=device)
        self.kept = torch.zeros(count, dtype=torch.bool, device=device)
        self.kept[own] = True
        filled = rounded(len(own), least)  # filled up with the first, which nobody looks at there
        self.places = torch.cat([own, own[:1].expand(filled - len(own))])
        self.real = torch.arange(filled, device=device) < len(own)

    def take(self, states: "torch.Tensor") -> "torch.Tensor":
        """(count, any) to (chosen, any)."""
        return rearrange().apply(states, self.places, self.back, self.kept)

    def put_back(self, states: "torch.Tensor") -> "torch.Tensor":
        """(chosen, any) to (count, any); what stands at the other places is no use to anybody."""
        return rearrange().apply(states, self.back, self.places, self.real)


@functools.cache
def rearrange() -> "type[torch.autograd.Function]":
    """Rows by number, with a gradient that goes back by number too (PyTorch's own adds up, at many times the cost)."""
    import torch

    class Rearrange(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, there, back, kept):
            ctx.back, ctx.kept = back, kept
            return states.index_select(0, there)

        @staticmethod
        def backward(ctx, gradient):
            found = gradient.index_select(0, ctx.back)
            return found if ctx.kept is None else found.masked_fill_(~ctx.kept[:, None], 0), None, None, None

    return Rearrange
