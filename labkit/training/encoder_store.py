"""What enters an encoder's lowest layer that learns, kept (`kept`): its embedding and the frozen layers see each text once, without
dropout, in place of once an epoch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.training import kept, packed_encoder
from labkit.training.recipe import Recipe
from labkit.training.tasks import passes

if TYPE_CHECKING:
    import torch

_PASS_TOKENS = 8192
Text = tuple[tuple[int, ...], tuple[int, ...]]  # tokens, segments


def cut_of(recipe: Recipe, model: "torch.nn.Module") -> int:
    """How many layers of a model that is prepared for `packed_encoder` are run once a text; 0 where nothing is kept: something below
    learns, or what enters differs from step to step (noise, tokens that are left out)."""
    if recipe.neftune or recipe.token_drop:
        return 0
    learns = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in model.encoder.layer]
    inside = {id(parameter) for parameter in model.encoder.parameters()}
    pooler = {id(parameter) for parameter in model.pooler.parameters()} if getattr(model, "pooler", None) is not None else set()
    below = any(parameter.requires_grad for parameter in model.parameters() if id(parameter) not in inside | pooler)
    return 0 if below else learns.index(True) if True in learns else len(learns)


def open_or_build(owner: str, model: "torch.nn.Module", cut: int, texts: Sequence[Text], base_sha256: str, dtype: "torch.dtype",
                  progress: Callable[[int, int], None] | None = None) -> kept.Kept:
    """The store for these texts, built where it is not there yet; see `kept.open_or_write`. The model must be in evaluation mode."""
    key = kept.key_of(base_sha256, cut, str(dtype), "encoder", (f"{tokens}{segments}" for tokens, segments in texts))
    return kept.open_or_write(owner, key, len(texts), lambda: _batches(model, cut, texts), progress=progress)


def _batches(model: "torch.nn.Module", cut: int, texts: Sequence[Text]) -> kept.Batches:
    import torch

    device = str(next(model.parameters()).device)
    for rows in passes.parts([len(tokens) for tokens, _ in texts], _PASS_TOKENS, packs=True):
        with torch.inference_mode():
            entering = packed_encoder.entering(model, passes.collate([texts[row] for row in rows], device), cut)
        yield rows, [len(texts[row][0]) for row in rows], entering
