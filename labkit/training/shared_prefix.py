"""A batch whose rows begin with the same tokens, run through a decoder as one sequence without padding: the prefix, then the
rows one after the other; then the next group of rows with its own prefix.

Every map of the decoder sees one matrix of states in which each token stands once; only attention knows where a row begins.
Gradients flow into the prefix from all rows. On 2 cores a LoRA step of 8 records takes half the time that it takes with padded
rows and the prefix's keys and values expanded over them.

The sequence is filled up to one of few lengths: for every new shape of a product oneDNN compiles a kernel (20 ms each with AMX, where the
product itself takes a fraction of one), and packed batches have ever other lengths.

This module knows nothing about training, records or layers that are frozen.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.training import kernels, packed_attention
from labkit.training.packed_attention import Group, Heads, Plan
from labkit.training.packing import SMALL_STEP, STEP, Chosen, rearrange, rounded

if TYPE_CHECKING:
    import torch

    from labkit.training import fused

_NAME = "labkit_shared_prefix"


@dataclass(frozen=True)
class Rows:
    """Rows that all come after one prefix. States are what enters the decoder's first layer.

    Attributes:
        states: (tokens, hidden) of the rows one after the other.
        lengths: the tokens of each row.
        prefix: the prefix's states (prefix tokens, hidden), or None.
        wanted: the places in `states` of the tokens whose results are wanted; None: all.
        positions: int64 (tokens,), where each token stands in its row, prefix included; None: without gaps.
    """

    states: "torch.Tensor"
    lengths: list[int]
    prefix: "torch.Tensor | None" = None
    wanted: list[int] | None = None
    positions: "torch.Tensor | None" = None


def run(decoder: "torch.nn.Module", groups: list[Rows]) -> "list[torch.Tensor]":
    """The decoder's last hidden states for the wanted tokens of each group, (wanted, hidden), all groups in one pass."""
    import torch

    layouts, packed, start = [], [], 0
    for group in groups:
        layouts.append(_Layout(start, 0 if group.prefix is None else len(group.prefix), group.lengths, group.states.device,
                               group.positions))
        packed += [group.states] if group.prefix is None else [group.prefix, group.states]
        start = layouts[-1].end
    count = rounded(start, STEP)
    filling = packed[0].new_zeros(count - start, packed[0].shape[1])
    nowhere = torch.zeros(count - start, dtype=torch.int64, device=filling.device)
    places = [layout.own + place for layout, group in zip(layouts, groups, strict=True)
              for place in (range(len(group.states)) if group.wanted is None else group.wanted)]
    chosen = Chosen(torch.tensor(places, device=packed[0].device), count)
    positions = torch.cat([*(layout.positions for layout in layouts), nowhere])[None]
    with _attention(decoder), _only(chosen, decoder.layers[-1]):
        found = decoder(inputs_embeds=torch.cat([*packed, filling])[None], use_cache=False, labkit_layouts=layouts,
                        labkit_plan=Plan([layout.group for layout in layouts]), position_ids=positions).last_hidden_state[0]
    wanted = [len(group.states) if group.wanted is None else len(group.wanted) for group in groups]
    return list(chosen.take(found)[: len(places)].split(wanted))


@contextlib.contextmanager
def _only(chosen: Chosen, layer: "torch.nn.Module") -> Iterator[None]:
    """Let the last layer's MLP see the chosen tokens alone: nothing comes after it that would need the others."""
    import torch

    mlp = getattr(layer, "mlp", None)
    if mlp is None:
        yield
        return
    whole = mlp.forward

    def forward(states: "torch.Tensor") -> "torch.Tensor":
        found = whole(chosen.take(states[0])[None])
        return chosen.put_back(found[0])[None] if isinstance(found, torch.Tensor) else whole(states)

    own = "forward" in vars(mlp)
    mlp.forward = forward
    try:
        yield
    finally:
        if own:
            mlp.forward = whole
        else:
            del mlp.forward


class _Layout:
    """Where the tokens of one group stand: `prefix` tokens from `start`, then rows of `lengths` from `own` up to `end`. For
    PyTorch's attention alone the rows are padded to `widest`; where the kernel attends, nobody asks for the padded places."""

    def __init__(self, start: int, prefix: int, lengths: list[int], device: "torch.device",
                 positions: "torch.Tensor | None" = None) -> None:
        import torch

        self.start, self.prefix, self.rows, self.widest = start, prefix, len(lengths), rounded(max(lengths), SMALL_STEP)
        self.own = start + prefix
        self.end = self.own + sum(lengths)
        self.group = Group(start, prefix, lengths)
        self._lengths = torch.tensor(lengths, device=device)
        self._firsts = self._lengths.cumsum(0) - self._lengths
        if positions is None:
            positions = torch.arange(self.end - self.own, device=device) - self._firsts.repeat_interleave(self._lengths) + prefix
        self.positions = torch.cat([torch.arange(prefix, device=device), positions])  # rotary, int64 (prefix + tokens,)

    @functools.cached_property
    def kept(self) -> "torch.Tensor":
        """Which padded places hold a token, bool (rows * widest,)."""
        return (self._places < self._lengths[:, None]).flatten()

    @functools.cached_property
    def padded(self) -> "torch.Tensor":
        """The token of each padded place."""
        return (self._firsts[:, None] + self._places).flatten().where(self.kept, 0)

    @functools.cached_property
    def packed(self) -> "torch.Tensor":
        """The padded place of each token."""
        return self.kept.nonzero()[:, 0]

    @property
    def _places(self) -> "torch.Tensor":
        import torch

        return torch.arange(self.widest, device=self._lengths.device)

    def pad(self, states: "torch.Tensor") -> "torch.Tensor":
        """(tokens, any) to (rows * widest, any); what stands on padding is no use to anybody."""
        return rearrange().apply(states, self.padded, self.packed, None)

    def pack(self, states: "torch.Tensor") -> "torch.Tensor":
        """(rows * widest, any) to (tokens, any)."""
        return rearrange().apply(states, self.packed, self.padded, self.kept)


@contextlib.contextmanager
def _attention(decoder: "torch.nn.Module") -> Iterator[None]:
    """Let the decoder's layers attend by `_attend` for a while."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    configs = {id(config): config for config in [decoder.config, *(layer.self_attn.config for layer in decoder.layers)]}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


def attention(module: "torch.nn.Module", plain: Callable, maps: "fused.Adapted", hidden_states: "torch.Tensor",
              position_embeddings: "tuple[torch.Tensor, torch.Tensor]", **others) -> "tuple[torch.Tensor, None]":
    """The forward of an attention module whose queries, keys and values are `maps`: by `packed_attention` within `run` where that can be,
    else `plain`, the module's own."""
    plan = others.get("labkit_plan")
    dropout = module.training and module.attention_dropout
    cos, sin = (table[0] for table in position_embeddings)
    windows = getattr(module, "sliding_window", None) or getattr(module.config, "sliding_window", None)
    able = (plan and kernels.usable(hidden_states) and not dropout and not windows
            and cos.shape[-1] == module.head_dim and cos.dtype == hidden_states.dtype)
    if not able:
        return plain(hidden_states=hidden_states, position_embeddings=position_embeddings, **others)
    sizes = maps.sizes
    heads = Heads(sizes[1] // module.head_dim, sizes[0] // sizes[1], module.head_dim, module.scaling)
    found = packed_attention.attend(maps.together(hidden_states)[0], plan, heads, cos, sin)
    return module.o_proj(found[None]), None


def _attend(module, query, key, value, attention_mask, scaling, dropout=0.0, sliding_window=None, *,
            labkit_layouts: list[_Layout], **others) -> "tuple[torch.Tensor, None]":
    """Transformers' attention interface: query (1, query heads, tokens, size), key and value (1, heads, tokens, size) of the
    whole sequence; gives (1, tokens, query heads, size)."""
    import torch

    query = query[0] * scaling
    attend, found = _attend_on_gpu if query.is_cuda else _attend_group, []
    for layout in labkit_layouts:
        found += attend(layout, *(part[:, layout.start : layout.end] for part in (query, key[0], value[0])), dropout, sliding_window)
    if filled := query.shape[1] - layout.end:
        found.append(query.new_zeros(filled, query.shape[0] * query.shape[2]))
    return torch.cat(found).view(1, -1, *query.shape[::2]), None


def _attend_group(layout: _Layout, query, key, value, dropout: float, window: int | None) -> "list[torch.Tensor]":
    """query (query heads, tokens, size), key and value (heads, tokens, size) of one group; gives (tokens, query heads * size) of
    its prefix and of its rows."""
    import torch

    (heads, _, size), start, rows, widest = key.shape, layout.prefix, layout.rows, layout.widest
    group = query.shape[0] // heads
    start_key, start_value = key[:, :start].transpose(1, 2), value[:, :start]
    mask = functools.partial(_mask, window=window, dtype=query.dtype, device=query.device)
    softmax = lambda scores: torch.nn.functional.dropout(scores.softmax(-1), dropout)  # noqa: E731
    found = []
    if start:
        scores = query[:, :start].reshape(heads, group * start, size) @ start_key
        weights = softmax(scores.view(heads, group, start, start) + mask(start, start, 0))
        on_start = weights.view(heads, group * start, start) @ start_value
        found.append(on_start.view(heads * group, start, size).transpose(0, 1).flatten(1))

    # A key head's queries stand side by side, row by row: one product against the prefix, one a row against its own tokens.
    own = [layout.pad(part[:, start:].transpose(0, 1).flatten(1)) for part in (query, key, value)]
    query = own[0].view(rows, widest, heads, group, size).permute(2, 0, 3, 1, 4).reshape(heads, rows, group * widest, size)
    own_key, own_value = (part.view(rows, widest, heads, size).permute(2, 0, 1, 3) for part in own[1:])
    scores = query @ own_key.transpose(2, 3)
    scores = scores.view(heads, rows, group, widest, widest) + mask(widest, widest, 0)
    if start:
        shared = (query.view(heads, -1, size) @ start_key).view(heads, rows, group, widest, start)
        if window and start + widest > window:
            shared = shared + mask(widest, start, start)
        scores = torch.cat([shared, scores], -1)
    weights = softmax(scores)
    out = weights[..., start:].reshape(heads, rows, group * widest, widest) @ own_value
    if start:
        out = out + (weights[..., :start].reshape(heads, -1, start) @ start_value).view(out.shape)
    out = out.view(heads, rows, group, widest, size).permute(1, 3, 0, 2, 4)
    return [*found, layout.pack(out.reshape(rows * widest, -1))]


def _attend_on_gpu(layout: _Layout, query, key, value, dropout: float, window: int | None) -> "list[torch.Tensor]":
    """The same by PyTorch's attention, which keeps no scores: by FlashAttention where that can be, for rows look at all before them and
    need no mask. The prefix's keys stand once a row, and padding is multiplied too: both cost a GPU little."""
    import torch
    from torch.nn.attention.bias import causal_lower_right

    (heads, _, size), start, rows, widest = key.shape, layout.prefix, layout.rows, layout.widest
    group = query.shape[0] // heads
    found = []

    def attended(query, key, value):
        behind = key.shape[2] - query.shape[2]
        if window:
            seen = _mask(query.shape[2], key.shape[2], behind, window, query.dtype, query.device) == 0
        else:
            seen = causal_lower_right(query.shape[2], key.shape[2])
        key, value = (part.repeat_interleave(group, 1) if group > 1 else part for part in (key, value))
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, dropout, scale=1.0)
        return out.transpose(1, 2).reshape(-1, heads * group * size)

    if start:
        found.append(attended(*(part[None, :, :start] for part in (query, key, value))))
    own = [layout.pad(part[:, start:].transpose(0, 1).flatten(1)).view(rows, widest, -1, size).transpose(1, 2)
           for part in (query, key, value)]
    if start:
        own[1:] = [torch.cat([part[None, :, :start].expand(rows, -1, -1, -1), each], 2)
                   for part, each in zip((key, value), own[1:], strict=True)]
    return [*found, layout.pack(attended(*own))]


@functools.lru_cache(maxsize=8)  # all layers of a pass ask for the same few
def _mask(queries: int, keys: int, ahead: int, window: int | None, dtype: "torch.dtype", device: "torch.device") -> "torch.Tensor":
    """0 where a query may look and the lowest number where not, (queries, keys), for queries that stand `ahead` of the keys."""
    import torch

    distance = torch.arange(ahead, ahead + queries, device=device)[:, None] - torch.arange(keys, device=device)
    hidden = (distance < 0) | (distance >= window) if window else distance < 0
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)
