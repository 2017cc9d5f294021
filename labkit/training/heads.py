"""An encoder with heads: a shared trunk, and a linear map for each thing to predict, from the text's embedding or from each token's state.

A folder holds it whole: the trunk as transformers saves it (or a PEFT adapter beside it), `heads.safetensors`, and `heads.json`, which says
what each output means.
"""

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training import methods, packed_encoder
from labkit.training.tasks.task import Head

if TYPE_CHECKING:
    import torch

_SPEC, _WEIGHTS = "heads.json", "heads.safetensors"


def load_trunk(folder: Path, dtype: "torch.dtype") -> "torch.nn.Module":
    """An encoder without heads. On the processor its attention is the plain one: PyTorch's fused one goes back so slowly over short texts
    with padding that it takes half of a step."""
    import torch
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=dtype, **({} if torch.cuda.is_available() else {"attn_implementation": "eager"}))


def make(trunk: "torch.nn.Module", heads: tuple[Head, ...], pooling: str, dropout: float = 0.0, normalise: bool = False,
         weighting: str = "fixed") -> "torch.nn.Module":
    """A module over `trunk`: `embed(batch)` gives (texts, hidden), `forward(batch)` the outputs of each head by its name, (texts, outputs)
    or (texts, tokens, outputs), with the embeddings under "".

    A batch is what `passes.collate` makes: `input_ids`, `attention_mask`, `token_type_ids`, int64 (texts, tokens); or `attention_mask` and
    `entering`, what enters layer `cut` for all tokens one after the other (`encoder_store`).

    Args:
        normalise: whether embeddings are scaled to length 1 before the heads see them.
        weighting: `uncertainty` gives each head a log variance that learns with it, `gradient_norm` a weight that is moved beside the
            optimiser.
    """
    import torch

    plain = methods.inner(trunk)
    prepared = packed_encoder.prepared(plain)
    accepted = set(inspect.signature(plain.forward).parameters)  # not every encoder has segments

    class Heads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.specs, self.pooling, self.normalise = trunk, heads, pooling, normalise
            self.cut = 0  # the layer that `entering` of a batch enters
            size = trunk.config.hidden_size
            self.heads = torch.nn.ModuleDict({head.name: torch.nn.Linear(size, head.outputs) for head in heads if head.outputs})
            for head in self.heads.values():
                torch.nn.init.normal_(head.weight, std=0.02)
                torch.nn.init.zeros_(head.bias)
            self.heads.to(next(trunk.parameters()).dtype)
            self.drop = torch.nn.Dropout(dropout)
            count = sum(bool(head.outputs) for head in heads)
            if weighting == "uncertainty":
                self.log_variances = torch.nn.Parameter(torch.zeros(count))
            if weighting == "gradient_norm":  # moved by the objective itself; as parameters they are kept in checkpoints
                self.task_balance = torch.nn.Parameter(torch.ones(count))
                self.first_losses = torch.nn.Parameter(torch.zeros(count))

        @property
        def packs(self) -> bool:
            """Whether padding costs nothing in the layers (`packed_encoder`)."""
            return prepared and next(trunk.parameters()).device.type == "cpu"

        def states(self, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
            """The last hidden states, (texts, tokens, hidden)."""
            if "entering" in batch:
                return packed_encoder.upper(plain, batch["entering"], batch["attention_mask"], self.cut)
            seen = {name: value for name, value in batch.items() if name in accepted}
            return packed_encoder.states(plain, seen) if self.packs else self.trunk(**seen).last_hidden_state

        def pooled(self, states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
            """One embedding a text: the mean over its tokens (Reimers and Gurevych 2019, section 3, https://arxiv.org/abs/1908.10084) or
            the first token's state."""
            if self.pooling == "first":
                return states[:, 0]
            weight = mask[..., None].to(states.dtype)
            return (states * weight).sum(1) / weight.sum(1)

        def embed(self, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
            return self.pooled(self.states(batch), batch["attention_mask"])

        def from_embeddings(self, embeddings: "torch.Tensor") -> "dict[str, torch.Tensor]":
            """The outputs of the heads that look at a whole text."""
            seen = torch.nn.functional.normalize(embeddings, dim=-1) if self.normalise else embeddings
            return {head.name: self.heads[head.name](self.drop(seen)) for head in heads if head.outputs and not head.by_token}

        def forward(self, batch: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
            states = self.states(batch)
            embeddings = self.pooled(states, batch["attention_mask"])
            by_token = {head.name: self.heads[head.name](self.drop(states)) for head in heads if head.by_token}
            return {"": embeddings, **self.from_embeddings(embeddings), **by_token}

    return Heads()


def save(model: "torch.nn.Module", folder: Path, exact: "dict[str, torch.Tensor]") -> list[str]:
    """Write heads and their meaning beside the trunk; `exact` are float32 values by parameter name. Gives the files' names."""
    from safetensors.torch import save_file

    tensors = {name: exact.get(f"heads.{name}", value).detach().cpu().float().contiguous()
               for name, value in model.heads.state_dict().items()}
    with files.whole(folder / _WEIGHTS) as part:
        save_file(tensors, part, metadata={"format": "pt"})
    files.write_json(folder / _SPEC, {"format": 1, "pooling": model.pooling, "normalise": model.normalise,
                                      "heads": [asdict(head) for head in model.specs]})
    return [_SPEC, _WEIGHTS]


def read(folder: Path) -> tuple[tuple[Head, ...], dict[str, Any]]:
    """What the heads in a folder mean, and how texts become embeddings there (`pooling`, `normalise`)."""
    told = files.read_json(folder / _SPEC)
    try:
        return tuple(Head(**{**head, "labels": tuple(head["labels"])}) for head in told["heads"]), {
            "pooling": told["pooling"], "normalise": told["normalise"]}
    except (KeyError, TypeError) as error:
        raise LabError(f"{folder / _SPEC} does not say what the heads are: {error}") from error


def load_weights(model: "torch.nn.Module", folder: Path) -> None:
    """Put the saved heads into a model made by `make`."""
    from safetensors.torch import load_file

    model.heads.load_state_dict(load_file(folder / _WEIGHTS))
