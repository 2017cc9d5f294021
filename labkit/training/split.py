"""A decoder cut in two: the frozen layers below the lowest adapted one, and the layers above, which learn.

What enters the upper layers does not change while they learn, so it is computed once (`lower`) and kept. The upper layers
then see it through `inputs_embeds` of the model's own forward, with the tokens that all examples begin with once a batch
(`shared_prefix`).

This module knows nothing about records, files or optimisers.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training.shared_prefix import Rows, run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class NotSplit(LabError):
    """The decoder cannot be cut so that what enters the upper part stays the same; it can still be trained whole."""


@dataclass
class SplitModel:
    """The two parts of one model; they share its modules.

    `lower` and `upper` are decoders of the model's own class with `layers[:cut]` and `layers[cut:]`; `head` maps hidden
    states to logits.
    """

    lower: "torch.nn.Module | None"
    upper: "torch.nn.Module"
    embed: "torch.nn.Module"
    head: "torch.nn.Module"
    cut: int

    def enter(self, tokens: "torch.Tensor", lengths: list[int], prefix: "torch.Tensor | None" = None) -> "torch.Tensor":
        """What enters layer `cut`, without gradients: float (tokens, hidden) for `tokens` int64 (tokens,), which are rows of
        `lengths` one after the other, each behind `prefix` int64 (prefix tokens,)."""
        import torch

        with torch.no_grad():
            embedded = self.embed(tokens)
            if self.lower is None:
                return embedded
            return run(self.lower, [Rows(embedded, lengths, None if prefix is None else self.embed(prefix))])[0]

    def finish(self, groups: list[Rows]) -> "list[torch.Tensor]":
        """The last hidden states (wanted tokens, hidden) of the whole model for the rows of each group, from what `enter` gave for
        them and for their prefix, with gradients for the upper layers."""
        return run(self.upper, groups)


def split(model: "PreTrainedModel", cut: int) -> SplitModel:
    """Cut a causal language model below layer `cut` (0: nothing is frozen, `enter` gives the embeddings).

    Raises:
        NotSplit: the model's layers are not a plain list, or dropout in the frozen layers would make a kept state inexact.
            See also `check_exact`.
    """
    import torch

    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    layers = getattr(decoder, "layers", None)
    head = model.get_output_embeddings()
    if not isinstance(layers, torch.nn.ModuleList) or not hasattr(decoder, "norm") or head is None:
        raise NotSplit(f"{type(model).__name__}: its layers are not a plain list, so frozen layers cannot be cached")
    if not 0 <= cut < len(layers):
        raise LabError(f"cannot cut {len(layers)} layers at {cut}")
    droppers = [name for layer in layers[:cut] for name, module in layer.named_modules()
                if isinstance(module, torch.nn.Dropout) and module.p > 0]
    if cut and (droppers or getattr(model.config, "attention_dropout", 0.0)):
        raise NotSplit(f"{type(model).__name__} has dropout in its frozen layers, so caching them would not be exact; "
                       "set attention_dropout to 0 in the base model's config, or layers = 0 in the recipe")
    lower = None
    if cut:
        lower = _part(decoder, 0, cut)
        lower._modules["norm"] = torch.nn.Identity()
    return SplitModel(lower, _part(decoder, cut, len(layers)), model.get_input_embeddings(), head, cut)


def scores(model: "PreTrainedModel", tokens: "torch.Tensor", prefix_length: int = 0) -> "torch.Tensor":
    """The whole model's logits for `tokens` int64 (tokens,) behind the first `prefix_length`, float32."""
    import torch

    with torch.no_grad():
        return model(input_ids=tokens[None], use_cache=False).logits[0, prefix_length:].float()


def check_exact(model: "PreTrainedModel", parts: SplitModel, want: "torch.Tensor", tokens: "torch.Tensor", prefix_length: int = 0,
                refuses: type[LabError] = LabError) -> None:
    """Compare the split model's logits with `want`, the whole model's (`scores`) on the same tokens, of which `prefix_length` are run
    as a shared prefix.

    Raises:
        LabError: they differ by more than rounding (for instance because the model scales its embeddings or logits), as `refuses`; or the
            base's scores are no numbers.
    """
    import torch

    with torch.no_grad():
        own, prefix = tokens[prefix_length:], tokens[:prefix_length] if prefix_length else None
        before = parts.enter(prefix, [prefix_length]) if prefix_length else None
        got = parts.head(parts.finish([Rows(parts.enter(own, [len(own)], prefix), [len(own)], before)])[0]).float()
    if not torch.isfinite(want).all():
        broken = next((name for name, value in model.named_parameters() if not torch.isfinite(value).all()), None)
        what = f"weight {broken} of the base is damaged; get the base again" if broken else "use precision = \"fp32\""
        raise LabError(f"{type(model).__name__}: its scores are no numbers: {what}")
    # bfloat16 differs by 1.5 to 2.2% over a record's tokens, and now and then by more than 5% at one of them
    tolerance = 1e-4 if next(model.parameters()).dtype == torch.float32 else 0.05
    gap = (want - got).norm() / want.norm()
    if not gap <= tolerance:
        raise refuses(f"{type(model).__name__}: caching its frozen layers would not be exact (logits differ by {gap:.1%})")


def _part(decoder: "torch.nn.Module", start: int, stop: int) -> "torch.nn.Module":
    """A decoder of the same class over `layers[start:stop]`, sharing every module with the original."""
    import torch

    part = copy.copy(decoder)
    part._modules = dict(decoder._modules)
    part._modules["layers"] = torch.nn.ModuleList(list(decoder.layers)[start:stop])
    part.config = copy.copy(decoder.config)
    part.config.num_hidden_layers = stop - start
    if getattr(decoder.config, "layer_types", None):
        part.config.layer_types = list(decoder.config.layer_types)[start:stop]
    return part
