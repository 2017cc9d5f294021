"""What enters the adapted layers, kept on disk: computed once, memory-mapped after.

A store is a folder `CACHE/frozen/KEY/` with one safetensors file a shard of examples and a manifest written last. The key is
the hash of everything the numbers depend on: base model, token ids, prefixes, cut, number format, library version. A change of any of
them gives another key, and what the run kept before under its old key is deleted.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files, places
from labkit.training.examples import Encoded, by_length, micro_batches
from labkit.training.split import SplitModel

if TYPE_CHECKING:
    import torch

_LAYOUT = 2
_SHARD_BATCHES = 2
_BATCH = 64
_PASS_TOKENS = 8192


class PrefixStore:
    """Reads one finished store; every call returns copies of slices of the mapped files."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        self.places: list[tuple[int, int, int]] = files.read_json(folder / "manifest.json")["places"]
        shards = sorted(folder.glob("shard-*.safetensors"))
        self._shards = [safe_open(path, framework="pt").__enter__() for path in shards]
        self._hidden = [shard.get_slice("hidden") for shard in self._shards]
        prefixes = safe_open(folder / "prefixes.safetensors", framework="pt").__enter__()
        self.prefixes = [prefixes.get_tensor(f"{group}") for group in range(len(prefixes.keys()))]

    def rows(self, numbers: list[int]) -> "torch.Tensor":
        """What enters for these examples, without their prefix, one after the other: (tokens, hidden)."""
        import torch

        found = []
        for number in numbers:
            shard, start, stop = self.places[number]
            found.append(self._hidden[shard][start:stop])
        return torch.cat(found)

    def prefix(self, group: int) -> "torch.Tensor":
        """What enters for a group's shared prefix: (tokens, hidden)."""
        return self.prefixes[group]


def key_of(base_sha256: str, encoded: Encoded, cut: int, dtype: str) -> str:
    """The store's name: 32 hexadecimal digits of a sha256 over all that its content depends on."""
    import transformers

    digest = hashlib.sha256()
    digest.update(files.canonical_json([_LAYOUT, base_sha256, cut, dtype, transformers.__version__, encoded.prefixes]).encode())
    for example in encoded.examples:
        digest.update(f"{example.group}:{','.join(map(str, example.tokens))}\n".encode())
    return digest.hexdigest()[:32]


def open_or_build(owner: str, parts: SplitModel, encoded: Encoded, base_sha256: str, dtype: str,
                  progress: Callable[[int, int], None] | None = None) -> PrefixStore:
    """The store for these examples, built where it is not there yet.

    Args:
        owner: the run's key; stores that this owner had under other keys are deleted.
        progress: called with (examples done, examples in all).

    Raises:
        LabError: the disk is full.
    """
    root = places.cache_folder() / "frozen"
    folder = root / key_of(base_sha256, encoded, parts.cut, dtype)
    _drop_older(root, owner, folder)
    if not (folder / "manifest.json").exists():
        _build(folder, owner, parts, encoded, progress)
    return PrefixStore(folder)


def _build(folder: Path, owner: str, parts: SplitModel, encoded: Encoded, progress) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    device = parts.embed.weight.device
    prefixes = [torch.tensor(tokens, dtype=torch.int64, device=device) for tokens in encoded.prefixes]
    entered = {f"{group}": _entered(parts, prefix) for group, prefix in enumerate(prefixes)}
    with files.whole(folder / "prefixes.safetensors") as part:
        save_file(entered, part)

    found: list[list[int] | None] = [None] * len(encoded.examples)
    passes = [part for rows in by_length(encoded.examples, _BATCH) for part in micro_batches(encoded, rows, _PASS_TOKENS)]
    done = 0
    for shard, start in enumerate(range(0, len(passes), _SHARD_BATCHES)):
        pieces, at = [], 0
        for rows in passes[start : start + _SHARD_BATCHES]:
            prefix = prefixes[encoded.examples[rows[0]].group]
            lengths = [len(encoded.own(row)) for row in rows]
            tokens = torch.tensor([token for row in rows for token in encoded.own(row)], device=device)
            pieces.append(parts.enter(tokens, lengths, prefix if len(prefix) else None).cpu())
            for row, length in zip(rows, lengths, strict=True):
                found[row] = [shard, at, at + length]
                at += length
            done += len(rows)
            if progress:
                progress(done, len(encoded.examples))
        with files.whole(folder / f"shard-{shard:05d}.safetensors") as part:
            save_file({"hidden": torch.cat(pieces)}, part)
    files.write_json(folder / "manifest.json", {"owner": owner, "places": found})


def _entered(parts: SplitModel, prefix: "torch.Tensor") -> "torch.Tensor":
    return (parts.enter(prefix, [len(prefix)]) if len(prefix) else parts.embed(prefix).detach()).cpu().clone()


def _drop_older(root: Path, owner: str, keep: Path) -> None:
    for manifest in root.glob("*/manifest.json"):
        if manifest.parent != keep and files.read_json(manifest).get("owner") == owner:
            shutil.rmtree(manifest.parent, ignore_errors=True)
