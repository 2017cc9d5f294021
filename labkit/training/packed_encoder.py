"""A padded batch through an encoder of BERT's kind as one sequence without padding: only its embedding sees the padding.

The layers are transformers' own. Their maps see one matrix in which each token stands once (products over padding, and many small ones,
cost a small encoder half of a step), and their attention is `packed_attention` over each text.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labkit.training import fused, kernels, packed_attention
from labkit.training.packed_attention import Group, Heads, Plan
from labkit.training.packing import STEP, Chosen

if TYPE_CHECKING:
    import torch

_NAME = "labkit_packed"
_MODELS = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "ElectraModel")


def prepared(model: "torch.nn.Module") -> bool:
    """Whether this model can run so, here; if so, its attention can take packed tokens from now on (and padded ones, as before)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if type(model).__name__ not in _MODELS or model.config.is_decoder or not kernels.usable(next(model.parameters())):
        return False
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.config._attn_implementation = _NAME
    for module in model.encoder.modules():
        if type(module).__name__ == "GELUActivation":
            module.forward = fused.gelu
    return True


def states(model: "torch.nn.Module", batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """The last hidden states (texts, tokens, hidden) of a model that is `prepared`; what they are on padding is no use to anybody.

    Args:
        batch: `input_ids` and `attention_mask`, 1 where a token is no padding, which stands behind; `token_type_ids` or none.
    """
    mask = batch["attention_mask"]
    chosen = _tokens(mask)
    return chosen.put_back(_run(model.encoder.layer, chosen.take(_embedded(model, batch)), mask)).unflatten(0, mask.shape)


def entering(model: "torch.nn.Module", batch: "dict[str, torch.Tensor]", cut: int) -> "torch.Tensor":
    """What enters layer `cut` for the tokens of all texts, one after the other, (tokens, hidden)."""
    mask = batch["attention_mask"]
    return _run(model.encoder.layer[:cut], _tokens(mask).take(_embedded(model, batch)), mask)[: int(mask.sum())]


def upper(model: "torch.nn.Module", entering: "torch.Tensor", mask: "torch.Tensor", cut: int) -> "torch.Tensor":
    """`states` from what enters layer `cut`."""
    import torch

    chosen = _tokens(mask)
    filling = entering[:1].expand(len(chosen.places) - len(entering), -1)
    found = _run(model.encoder.layer[cut:], torch.cat([entering, filling]), mask)
    return chosen.put_back(found).unflatten(0, mask.shape)


def _embedded(model: "torch.nn.Module", batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """(texts x tokens, hidden)"""
    padded = model.embeddings(input_ids=batch["input_ids"], token_type_ids=batch.get("token_type_ids"))
    if hasattr(model, "embeddings_project"):  # ELECTRA's, where the embedding is narrower than the layers
        padded = model.embeddings_project(padded)
    return padded.flatten(0, 1)


def _tokens(mask: "torch.Tensor") -> Chosen:
    return Chosen(mask.flatten().nonzero()[:, 0], mask.numel(), STEP)


def _run(layers: "Iterable[torch.nn.Module]", packed: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    plan, found = Plan([Group(0, 0, mask.sum(1).tolist())]), packed[None]
    for layer in layers:
        found = layer(found, None, labkit_plan=plan)
    return found[0]


def _attend(module, query, key, value, attention_mask, *, labkit_plan: Plan | None = None, dropout: float = 0.0,
            scaling: float | None = None, **others) -> "tuple[torch.Tensor, None]":
    """Transformers' attention interface: query, key and value (1, heads, tokens, size) of the whole sequence; gives (1, tokens, heads,
    size)."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if labkit_plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others)
    _, count, tokens, size = query.shape
    qkv = torch.cat([part[0].transpose(0, 1).reshape(tokens, count * size) for part in (query, key, value)], -1)
    found = packed_attention.attend(qkv, labkit_plan, Heads(count, 1, size, scaling), both_ways=True, dropout=dropout)
    return found.view(1, tokens, count, size), None
