"""Attention over packed rows, from the maps' outputs to the heads' results, as one function with a gradient of its own:
`kernels/attention.cpp`.

Gives what PyTorch's own gives, without padding and without a kernel to be compiled for every new shape; products, weights and sums are
float32. For decoders whose positions are turned by halves (Llama, Mistral, Qwen2) and rows with a shared prefix (`shared_prefix`), without
a sliding window; and for encoders (`packed_encoder`).
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.training import kernels

if TYPE_CHECKING:
    import torch

KINDS = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
_CHUNKS = 16  # at most so many to a prefix: each keeps the prefix's gradients on its own, so that they are always added up in one order


@dataclass(frozen=True)
class Group:
    """Rows of a sequence that stand one after the other.

    Attributes:
        start: the place of the group's first token.
        prefix: how many tokens stand there that all its rows begin with; 0: none.
        lengths: the tokens of each row, the prefix not among them.
    """

    start: int
    prefix: int
    lengths: list[int]


@dataclass(frozen=True)
class Heads:
    """count: key heads; group: query heads to a key head; size: numbers in a head; scale: of the scores."""

    count: int
    group: int
    size: int
    scale: float


class Plan:
    """Which rows there are, and which of them one thread goes through after another, as the kernels take it (int64).

    Attributes:
        rows: (rows, 2), first token and length; prefixes are rows too.
        chunks: (chunks, 6), first row, the one behind the last, first token and length of what the rows share, where its gradients stand
            among those gathered, and whether the row is itself what others share.
        shares: (prefixes, 4), first token, length, where the gradients of its first chunk stand, how many chunks.
        longest: the most tokens of a row, prefix included.
        gathered: the tokens of all chunks' shares.
    """

    def __init__(self, groups: list[Group]) -> None:
        import torch

        rows, chunks, shares, self.longest, self.gathered = [], [], [], 0, 0
        for group in groups:
            begun = self.gathered
            if group.prefix:
                chunks.append((len(rows), len(rows) + 1, 0, 0, self.gathered, 1))
                rows.append((group.start, group.prefix))
                self.gathered += group.prefix
            of_group, at = [], group.start + group.prefix
            for length in group.lengths:
                of_group.append((at, length))
                at += length
            for part in _evenly(of_group, group.prefix):
                chunks.append((len(rows), len(rows) + len(part), group.start, group.prefix, self.gathered, 0))
                rows += part
                self.gathered += group.prefix
            if group.prefix:
                shares.append((group.start, group.prefix, begun, (self.gathered - begun) // group.prefix))
            self.longest = max(self.longest, group.prefix + max(group.lengths, default=0))
        whole = lambda found, width: torch.tensor(found, dtype=torch.int64).reshape(-1, width)  # noqa: E731
        self.rows, self.chunks, self.shares = whole(rows, 2), whole(chunks, 6), whole(shares, 4)


def _evenly(rows: list[tuple[int, int]], prefix: int) -> list[list[tuple[int, int]]]:
    """The rows in at most `_CHUNKS` parts of about the same work, in their order."""
    work = [length * (prefix + length / 2) for _, length in rows]
    parts, done, whole = {}, 0.0, sum(work)
    for row, own in zip(rows, work, strict=True):
        parts.setdefault(int(_CHUNKS * (done + own / 2) / whole), []).append(row)
        done += own
    return list(parts.values())


def attend(qkv: "torch.Tensor", plan: Plan, heads: Heads, cos: "torch.Tensor | None" = None, sin: "torch.Tensor | None" = None,
           both_ways: bool = False, dropout: float = 0.0) -> "torch.Tensor":
    """What the query heads gather for each token, (tokens, count x group x size).

    Args:
        qkv: (tokens, count x (group + 2) x size): queries, keys and values of each token, head by head.
        plan: where the rows stand; tokens that are in none give 0.
        cos, sin: (tokens, size), by each token's place in its row; None: positions are not turned.
        both_ways: whether a token also sees those behind it in its row (which then shares no prefix).
        dropout: the probability with which a weight is left out, drawn from torch's generator.
    """
    import torch

    assert not both_ways or not len(plan.shares)
    seed = torch.randint(1 << 31, ()).item() if dropout else 0
    sizes = torch.tensor([heads.count, heads.group, heads.size, both_ways, seed, round(dropout * (1 << 32))])
    return _attend().apply(qkv, cos, sin, plan, heads, sizes, dropout)


@functools.cache
def _attend() -> "type[torch.autograd.Function]":
    import torch

    class Attend(torch.autograd.Function):
        @staticmethod
        def forward(ctx, qkv, cos, sin, plan, heads, sizes, dropout):
            qkv = qkv.contiguous()
            cos, sin = (0 if table is None else table.contiguous() for table in (cos, sin))  # 0: no address
            out = qkv.new_zeros(len(qkv), heads.count * heads.group * heads.size)
            logs = qkv.new_empty(len(qkv), heads.count * heads.group, dtype=torch.float32)  # of each query's sum
            kernels.call("attend_forward", qkv, cos, sin, plan.rows, plan.chunks, len(plan.chunks), plan.longest, out, logs, sizes,
                         heads.scale, 1 / (1 - dropout))
            ctx.save_for_backward(qkv, logs, sizes)
            ctx.tables, ctx.plan, ctx.heads, ctx.dropout = (cos, sin), plan, heads, dropout
            return out

        @staticmethod
        def backward(ctx, gradient):
            (qkv, logs, sizes), plan, heads = ctx.saved_tensors, ctx.plan, ctx.heads
            of_all = torch.zeros_like(qkv)
            gathered = logs.new_empty(plan.gathered, heads.count, 2, heads.size)
            kernels.call("attend_backward", gradient.contiguous(), qkv, *ctx.tables, logs, plan.rows, plan.chunks, len(plan.chunks),
                         plan.longest, plan.shares, len(plan.shares), gathered, of_all, sizes, heads.scale, 1 / (1 - ctx.dropout))
            return of_all, None, None, None, None, None, None

    return Attend
