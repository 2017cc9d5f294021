"""What enters the layers that learn, kept on disk: computed once, memory-mapped after.

A store is a folder `CACHE/frozen/KEY/` with one safetensors file a shard of texts and a manifest written last. The key is the hash of
everything the numbers depend on: base model, token ids, cut, number format, library version. A change of any of them gives another key,
and what the run kept before under its old key is deleted. `prefix_store` keeps a decoder's, `encoder_store` an encoder's.
"""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files, places

if TYPE_CHECKING:
    import torch

_LAYOUT = 2
_SHARD_BATCHES = 2

# Numbers of texts, how many tokens each has, and what enters for them one after the other, (tokens, hidden).
Batches = Iterator[tuple[list[int], list[int], "torch.Tensor"]]


class Kept:
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
        """What enters for these texts, without a prefix that they share, one after the other: (tokens, hidden)."""
        import torch

        found = []
        for number in numbers:
            shard, start, stop = self.places[number]
            found.append(self._hidden[shard][start:stop])
        return torch.cat(found)

    def prefix(self, group: int) -> "torch.Tensor":
        """What enters for a group's shared prefix: (tokens, hidden)."""
        return self.prefixes[group]


def key_of(base_sha256: str, cut: int, dtype: str, shared: Any, texts: Iterable[str]) -> str:
    """The store's name: 32 hexadecimal digits of a sha256 over all that its content depends on.

    Args:
        cut: how many layers are run.
        shared: what all texts share, as JSON can hold it.
        texts: a line for each text.
    """
    import transformers

    digest = hashlib.sha256()
    digest.update(files.canonical_json([_LAYOUT, base_sha256, cut, dtype, transformers.__version__, shared]).encode())
    for text in texts:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:32]


def open_or_write(owner: str, key: str, count: int, batches: Callable[[], Batches],
                  prefixes: "Callable[[], Sequence[torch.Tensor]]" = tuple, progress: Callable[[int, int], None] | None = None) -> Kept:
    """The store of this key, written where it is not there yet.

    Args:
        owner: the run's key; stores that this owner had under other keys are deleted.
        count: how many texts there are; `batches` gives each once.
        prefixes: what enters for the prefix of each group, (tokens, hidden) each.
        progress: called with (texts done, texts in all).

    Raises:
        LabError: the disk is full.
    """
    root = places.cache_folder() / "frozen"
    folder = root / key
    _drop_older(root, owner, folder)
    if not (folder / "manifest.json").exists():
        _write(folder, owner, count, batches(), prefixes(), progress)
    return Kept(folder)


def _write(folder: Path, owner: str, count: int, batches: Batches, prefixes: "Sequence[torch.Tensor]", progress) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with files.whole(folder / "prefixes.safetensors") as part:
        save_file({f"{group}": states for group, states in enumerate(prefixes)}, part)
    found: list[list[int] | None] = [None] * count
    done = 0
    for shard in itertools.count():
        pieces, at = [], 0
        for rows, lengths, states in itertools.islice(batches, _SHARD_BATCHES):
            pieces.append(states.cpu())
            for row, length in zip(rows, lengths, strict=True):
                found[row] = [shard, at, at + length]
                at += length
            done += len(rows)
            if progress:
                progress(done, count)
        if not pieces:
            break
        with files.whole(folder / f"shard-{shard:05d}.safetensors") as part:
            save_file({"hidden": torch.cat(pieces)}, part)
    files.write_json(folder / "manifest.json", {"owner": owner, "places": found})


def _drop_older(root: Path, owner: str, keep: Path) -> None:
    for manifest in root.glob("*/manifest.json"):
        if manifest.parent != keep and files.read_json(manifest).get("owner") == owner:
            shutil.rmtree(manifest.parent, ignore_errors=True)
