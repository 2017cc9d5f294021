"""NEFTune: noise on the embeddings while learning (Jain et al. 2023, https://arxiv.org/abs/2310.05914).

A sequence of L tokens, d wide, gets independent noise from -1 to 1, times strength / sqrt(L d), so that its norm is the same for short and
long sequences. What a row gets depends on seed, step and row alone: the same whatever the batch, its parts and its padding, and whether
the training was cut off on the way.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    import torch


def drawn(length: int, hidden: int, *, strength: float, seed: int, step: int, row: int) -> "torch.Tensor":
    """The noise of one row's tokens at one step, float32 (length, hidden)."""
    import torch

    digest = hashlib.sha256(f"noise:{seed}:{step}:{row}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.empty(length, hidden).uniform_(-1, 1, generator=generator) * (strength / math.sqrt(max(1, length * hidden)))


def added(states: "torch.Tensor", lengths: Sequence[int], rows: Sequence[int], *, strength: float, seed: int, step: int) -> "torch.Tensor":
    """States that stand one row after the other, without padding, with each row's noise.

    Args:
        states: (tokens, hidden), the embeddings' output, in any number format.
        lengths: tokens of each row; they add up to the states'.
        rows: which they are, the training records' places.
    """
    import torch

    if sum(lengths) != len(states) or len(lengths) != len(rows):
        raise ValueError(f"{len(rows)} rows of {sum(lengths)} tokens for {len(states)} states")
    noise = [drawn(length, states.shape[-1], strength=strength, seed=seed, step=step, row=row)
             for length, row in zip(lengths, rows, strict=True)]
    return states + torch.cat(noise).to(states) if noise else states


class Noise:
    """The same for a model that is called as a whole: a hook on its embedding, which works only while that is in training mode."""

    def __init__(self, strength: float, seed: int) -> None:
        self._strength, self._seed, self._rows, self._mask, self._step = strength, seed, None, None, 0

    def at(self, step: int, rows: Sequence[int], mask: "torch.Tensor | None" = None) -> None:
        """Say what the next call of the model sees.

        Args:
            rows: the training records of the batch, in its order.
            mask: (batch, tokens), not 0 where a token is no padding; None: there is no padding.
        """
        self._step, self._rows, self._mask = step, list(rows), mask

    @contextlib.contextmanager
    def on(self, embedding: "torch.nn.Module") -> Iterator["Noise"]:
        """Within the block the embedding's output, (batch, tokens, hidden), has noise; see `at`."""
        handle = embedding.register_forward_hook(self._hook)
        try:
            yield self
        finally:
            handle.remove()

    def _hook(self, module: "torch.nn.Module", given: tuple, states: "torch.Tensor") -> "torch.Tensor | None":
        import torch

        if not module.training or not self._strength:
            return None
        if self._rows is None or len(self._rows) != len(states):
            raise ValueError(f"Noise.at must name the {len(states)} rows of the batch before the model is called")
        mask = torch.ones(states.shape[:2], dtype=torch.bool) if self._mask is None else self._mask.bool().cpu()
        noise = torch.zeros(states.shape)
        for place, row in enumerate(self._rows):
            noise[place, mask[place]] = drawn(int(mask[place].sum()), states.shape[-1], strength=self._strength, seed=self._seed,
                                              step=self._step, row=row)
        return states + noise.to(states)


def embedding_of(model: "torch.nn.Module") -> "torch.nn.Module":
    """The module of a transformers model that turns tokens into states; LabError where it has none."""
    found = getattr(model, "get_input_embeddings", lambda: None)()
    if found is None:
        raise LabError(f"{type(model).__name__} has no embedding of tokens that noise could be put on; set neftune = 0")
    return found
