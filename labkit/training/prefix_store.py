"""What enters a decoder's adapted layers, kept (`kept`): of each record behind the prefix that its group shares, and of each prefix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.training import kept
from labkit.training.examples import Encoded, by_length, micro_batches
from labkit.training.split import SplitModel

if TYPE_CHECKING:
    import torch

_BATCH = 64
_PASS_TOKENS = 8192


def open_or_build(owner: str, parts: SplitModel, encoded: Encoded, base_sha256: str, dtype: str,
                  progress: Callable[[int, int], None] | None = None) -> kept.Kept:
    """The store for these examples, built where it is not there yet; see `kept.open_or_write`."""
    texts = (f"{example.group}:{','.join(map(str, example.tokens))}" for example in encoded.examples)
    key = kept.key_of(base_sha256, parts.cut, dtype, encoded.prefixes, texts)
    return kept.open_or_write(owner, key, len(encoded.examples), lambda: _batches(parts, encoded), lambda: _prefixes(parts, encoded),
                              progress)


def _batches(parts: SplitModel, encoded: Encoded) -> kept.Batches:
    import torch

    device = parts.embed.weight.device
    parted = (part for batch in by_length(encoded.examples, _BATCH) for part in micro_batches(encoded, batch, _PASS_TOKENS))
    for rows in parted:
        prefix = torch.tensor(encoded.prefixes[encoded.examples[rows[0]].group], dtype=torch.int64, device=device)
        lengths = [len(encoded.own(row)) for row in rows]
        tokens = torch.tensor([token for row in rows for token in encoded.own(row)], device=device)
        yield rows, lengths, parts.enter(tokens, lengths, prefix if len(prefix) else None)


def _prefixes(parts: SplitModel, encoded: Encoded) -> "list[torch.Tensor]":
    import torch

    found = []
    for tokens in encoded.prefixes:
        prefix = torch.tensor(tokens, dtype=torch.int64, device=parts.embed.weight.device)
        found.append((parts.enter(prefix, [len(prefix)]) if len(prefix) else parts.embed(prefix).detach()).cpu().clone())
    return found
