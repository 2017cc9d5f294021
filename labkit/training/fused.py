"""Parts of a decoder layer as single functions with gradients of their own, for fewer passes over memory.

    Adapted   x W' + b + s (x A') B', for one adapted map or several of the same states
    rms_norm  x / sqrt(mean(x^2) + eps) * w
    gated     silu(g) * u, g and u side by side
    dropout   some numbers 0, the others larger

This module knows nothing about records, recipes or models.
"""

import functools
from typing import TYPE_CHECKING

from labkit.training import kernels

if TYPE_CHECKING:
    import torch

_COLUMNS = 32


class Adapted:
    """Linear maps of the same states, each with LoRA beside it (Hu et al. 2021, section 4.1), as two products in place of three a map.

    What LoRA's first matrices give stands beside the states, and its second matrices beside the frozen weights, so that one product gives
    all outputs: [x, s x A'] [W, B]'. In the gradient the same product gives the states' and the low ranks' at once. For two maps:

        [ W1  B1  0  ]
        [ W2  0   B2 ]

    Behind these stand columns of 0 up to a multiple of 32: the gradient's product is up to half as fast again with them (oneDNN with
    AMX, 592 and 608 columns: 730 and 1,110 GF/s on one thread), the outputs' product does without.
    """

    def __init__(self, weights: "list[torch.Tensor]", biases: "list[torch.Tensor | None]", downs: "list[torch.nn.Parameter]",
                 ups: "list[torch.nn.Parameter]", scale: float) -> None:
        """Args: weights (out, in) and biases (out,), frozen; downs: A (rank, in); ups: B (out, rank); scale: s, the same for all."""
        import torch

        self.downs, self.ups, self.scale = downs, ups, scale
        self.sizes = [len(weight) for weight in weights]
        self._into, self._rank = weights[0].shape[1], downs[0].shape[0]
        self._width = self._into + len(weights) * self._rank
        self._whole = weights[0].new_zeros(sum(self.sizes), -(-self._width // _COLUMNS) * _COLUMNS)
        self._whole[:, : self._into] = torch.cat([weight.detach() for weight in weights])
        filled = [each if each is not None else weight.new_zeros(len(weight)) for each, weight in zip(biases, weights, strict=True)]
        self._bias = torch.cat(filled).detach() if any(each is not None for each in biases) else None
        self._down, self._seen = None, None

    def weight(self, place: int) -> "torch.Tensor":
        """The frozen weight of a map, (out, in), as it lies in the whole: what the map may keep in place of its own copy."""
        start = sum(self.sizes[:place])
        return self._whole[start : start + self.sizes[place], : self._into]

    def __call__(self, states: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
        """The outputs of all maps, each (any, out), for states (any, in), with gradients for states, A and B."""
        return self.together(states).split(self.sizes, -1)

    def together(self, states: "torch.Tensor") -> "torch.Tensor":
        """The outputs of all maps side by side, (any, sum of out): of use where what comes next takes them as one matrix."""
        self._refresh()
        room = vars(states).pop("labkit_room", None)  # see `_Room`
        return _adapted().apply(states, self, room if room is not None and room.shape[1] == self._width else None, *self.downs, *self.ups)

    def _refresh(self) -> None:
        """Take A and B over where they were changed since."""
        import torch

        versions = [(id(each), each._version) for each in (*self.downs, *self.ups)]
        if versions == self._seen:
            return
        with torch.no_grad():
            self._down = torch.cat(list(self.downs))
            start = 0
            for place, (size, up) in enumerate(zip(self.sizes, self.ups, strict=True)):
                column = self._into + place * self._rank
                self._whole[start : start + size, column : column + self._rank] = up
                start += size
        self._seen = versions


def rms_norm(states: "torch.Tensor", weight: "torch.Tensor", eps: float, then: Adapted | None = None) -> "torch.Tensor":
    """Root mean square norm over the last dimension (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), in float32 within;
    `weight` (hidden,) is frozen. `then`: the maps that are called with the result, alone: it is written where they want it."""
    if kernels.usable(states) and weight.dtype == states.dtype:
        room = _Room(states, states.shape[-1], then)
        return room.given(_norm_kernel().apply(states.contiguous(), weight.detach(), eps, room))
    return _rms_norm().apply(states, weight.detach(), eps)


def gated(both: "torch.Tensor", then: Adapted | None = None) -> "torch.Tensor":
    """silu(g) * u (Shazeer 2020, https://arxiv.org/abs/2002.05202, without the maps), (any, size), of g and u side by
    side (any, 2 size); for `then` see `rms_norm`."""
    import torch

    if kernels.usable(both):
        room = _Room(both, both.shape[-1] // 2, then)
        return room.given(_gated_kernel().apply(both.contiguous(), room))
    gate, value = both.chunk(2, -1)
    return torch.nn.functional.silu(gate) * value


def gelu(states: "torch.Tensor") -> "torch.Tensor":
    """x Phi(x), Phi the normal distribution's function (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)."""
    import torch

    return _gelu_kernel().apply(states.contiguous()) if kernels.usable(states) else torch.nn.functional.gelu(states)


def dropout(states: "torch.Tensor", probability: float) -> "torch.Tensor":
    """Each number 0 with this probability, else divided by 1 - it (Srivastava et al. 2014, section 4,
    https://jmlr.org/papers/v15/srivastava14a.html). What is drawn follows from torch's generator. PyTorch draws number after number on one
    thread, which took 40% of a small encoder's step."""
    import torch

    if not 0 < probability < 1 or not kernels.usable(states):
        return torch.nn.functional.dropout(states, probability)
    return _dropout_kernel().apply(states, probability, torch.randint(1 << 31, ()).item())


class _Room:
    """Where a function writes its result (any, size): with free columns behind each row where `then` wants them, so that `Adapted` need
    not copy the states to set their low ranks beside them. The first that asks for the room has it, and no other."""

    def __init__(self, like: "torch.Tensor", size: int, then: Adapted | None) -> None:
        self.stride = then._width if then is not None and then._into == size else size
        self.whole = like.new_empty(like.numel() // like.shape[-1], self.stride)
        view = self.whole[:, :size].unflatten(0, like.shape[:-1])
        # The same memory, but for autograd no view of the whole: what is written behind it does not change it.
        self.result = like.new_empty(0).set_(self.whole.untyped_storage(), 0, view.shape, view.stride())

    def given(self, result: "torch.Tensor") -> "torch.Tensor":
        """The function's result, with a note of the room behind it."""
        if self.stride > result.shape[-1]:
            result.labkit_room = self.whole
        return result


@functools.cache
def _norm_kernel() -> "type[torch.autograd.Function]":
    import torch

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, eps, room):
            rate = states.new_empty(states.shape[:-1], dtype=torch.float32)
            kernels.call("norm_forward", states, weight, eps, room.whole, rate, rate.numel(), states.shape[-1], room.stride)
            ctx.save_for_backward(states, weight, rate)
            return room.result

        @staticmethod
        def backward(ctx, gradient):
            states, weight, rate = ctx.saved_tensors
            out = torch.empty_like(states)
            kernels.call("norm_backward", gradient.contiguous(), states, weight, rate, out, rate.numel(), states.shape[-1])
            return out, None, None, None

    return Norm


@functools.cache
def _gated_kernel() -> "type[torch.autograd.Function]":
    import torch

    class Gated(torch.autograd.Function):
        @staticmethod
        def forward(ctx, both, room):
            kernels.call("gated_forward", both, room.whole, len(room.whole), both.shape[-1] // 2, room.stride)
            ctx.save_for_backward(both)
            return room.result

        @staticmethod
        def backward(ctx, gradient):
            (both,) = ctx.saved_tensors
            out, size = torch.empty_like(both), gradient.shape[-1]
            kernels.call("gated_backward", gradient.contiguous(), both, out, gradient.numel() // size, size)
            return out, None

    return Gated


@functools.cache
def _gelu_kernel() -> "type[torch.autograd.Function]":
    import torch

    class Gelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states):
            ctx.save_for_backward(states)
            out = torch.empty_like(states)
            kernels.call("gelu_forward", states, out, states.numel())
            return out

        @staticmethod
        def backward(ctx, gradient):
            (states,) = ctx.saved_tensors
            out = torch.empty_like(states)
            kernels.call("gelu_backward", gradient.contiguous(), states, out, states.numel())
            return out

    return Gelu


@functools.cache
def _dropout_kernel() -> "type[torch.autograd.Function]":
    import torch

    class Dropout(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, probability, seed):
            ctx.drawn = probability, seed
            return Dropout.of(states, probability, seed)

        @staticmethod
        def backward(ctx, gradient):
            return Dropout.of(gradient, *ctx.drawn), None, None

        @staticmethod
        def of(values, probability, seed):
            values, out = values.contiguous(), values.new_empty(values.shape)
            kernels.call("dropout", values, out, values.numel(), seed, round(probability * (1 << 32)), 1 / (1 - probability))
            return out

    return Dropout


@functools.cache
def _adapted() -> "type[torch.autograd.Function]":
    import torch

    class AdaptedMaps(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, maps, seen, *matrices):
            flat = states.reshape(-1, states.shape[-1])
            if seen is None:
                seen = flat.new_empty(len(flat), maps._width)  # the states, and behind them s x A'
                seen[:, : maps._into] = flat
            seen[:, maps._into :] = (flat @ maps._down.T).mul_(maps.scale)
            ctx.save_for_backward(seen)
            ctx.maps, ctx.shape = maps, states.shape
            bias = None if maps._bias is None else maps._bias.expand(len(seen), -1)
            found = kernels.product(seen, maps._whole[:, : maps._width].T, bias)
            return found.unflatten(0, states.shape[:-1])

        @staticmethod
        def backward(ctx, gradient):
            (seen,), maps = ctx.saved_tensors, ctx.maps
            into, rank, down = maps._into, maps._rank, maps._down
            gradient = gradient.reshape(-1, gradient.shape[-1])
            parts = gradient.split(maps.sizes, -1)
            entered = None
            if ctx.needs_input_grad[0]:
                both = kernels.product(gradient, maps._whole)  # of the states and of the low ranks
                low = both[:, into : maps._width].mul(maps.scale)
                entered = kernels.product(low, down, both[:, :into]).view(ctx.shape)
            else:
                low = (gradient @ maps._whole[:, into : maps._width]).mul_(maps.scale)
            of_downs = (low.T @ seen[:, :into]).split(rank)
            of_ups = [(seen[:, into + place * rank : into + (place + 1) * rank].T @ part).T for place, part in enumerate(parts)]
            return entered, None, None, *of_downs, *of_ups

    return AdaptedMaps


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
