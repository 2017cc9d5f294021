"""Which texts say the same: exactly, nearly (shared word pairs), or in other words (embeddings).

`near` follows MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3): texts that
agree in a band of their signatures are candidates, and every candidate is verified by the exact Jaccard similarity of the shingle
sets, so that only recall is left to chance. What is compared are pairs of neighbouring words (`labkit.data.shingles`).

All hashes have fixed constants and ties are settled by content, so the clusters are the same for any order of the texts, number of
processes and machine. Everything is columns in numpy. This module knows nothing about records, apart from `conversations`.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit.data import shingles
from labkit.data import slips as mistyped

if TYPE_CHECKING:
    from datasets import Dataset

_NEIGHBOURS = 16  # of a bucket's members each is compared with these and with the first: a huge bucket stays linear. On 3,000 texts of
# five templates, all alike in most bands, 16 missed 4% of the links, 8 missed 5% and 32 missed 2% in twice the time.
_OTHERS = 32  # of a bucket's members that a text from elsewhere is compared with
_ENCODER_TOKENS = 256  # what all-MiniLM-L6-v2 was trained for


def conversations(records: "Dataset") -> list[str]:
    """Each record's conversation as one text: the contents of its messages, joined by a character that no cleaned text has."""
    import pyarrow
    import pyarrow.compute

    texts: list[str] = []
    for table in records.select_columns(["messages"]).with_format("arrow").iter(10_000):
        messages = table["messages"].combine_chunks()
        contents = pyarrow.compute.struct_field(messages.flatten(), "content")
        ends = np.concatenate([[0], np.cumsum(messages.value_lengths().to_numpy(zero_copy_only=False))])
        lists = pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), contents)
        texts += pyarrow.compute.binary_join(lists, "\x1f").to_pylist()
    return texts


def exact(texts: Sequence[str]) -> np.ndarray:
    """For each text the index of the first text with the very same characters, its own where there is none before it: int64 (texts,)."""
    first: dict[str, int] = {}
    return np.fromiter((first.setdefault(text, index) for index, text in enumerate(texts)), np.int64, len(texts))


def near(texts: Sequence[str], *, threshold: float = 0.8, digits: bool = True, slips: bool = False, processes: int = 1) -> np.ndarray:
    """The first text of each one's cluster: int64 (texts,) of indices, its own where a text is the first or has no like.

    Texts are linked where the Jaccard similarity of their shingle sets is at least `threshold`; clusters are what is linked directly
    or through others. Two texts exactly at the threshold are missed with a chance of 0.1%, more similar ones with less. In a bucket of
    many texts that are alike in one band but not near, each is compared with the first and sixteen neighbours only.

    Args:
        threshold: above 0, at most 1. One word of forty replaced by another leaves about 0.90, two leave about 0.82.
        digits: whether digits count; without, two messages that differ only by an order number are the same.
        slips: whether short texts that differ by one mistyped word are linked too (see `labkit.data.slips`).
        processes: threads that may be used (numpy works outside the interpreter's lock).

    Raises:
        LabError: the threshold is out of range.
    """
    if not len(texts):
        return np.zeros(0, np.int64)
    everything = shingles.of(texts, threshold=threshold, digits=digits, processes=processes)
    # Equal sets are one from here on; `unique` orders them by content, which settles every later tie.
    _, representatives, belongs = np.unique(everything.digests, return_index=True, return_inverse=True)
    clusters = np.arange(len(representatives))
    bands = everything.bands[:, representatives]
    for band in range(len(bands)):
        for left, right in _candidates(bands[band], bands[(band + 1) % len(bands)]):
            apart = clusters[left] != clusters[right]
            left, right = left[apart], right[apart]
            close = shingles.similar(everything, representatives[left], everything, representatives[right], threshold)
            clusters = _united(clusters, left[close], right[close])
    if slips:
        left, right = mistyped.links(texts)
        clusters = _united(clusters, belongs[left], belongs[right])
    _, first, belongs = np.unique(clusters[belongs], return_index=True, return_inverse=True)
    return first[belongs]


def against(texts: Sequence[str], others: Sequence[str], *, threshold: float = 0.8, digits: bool = True, slips: bool = False,
            processes: int = 1) -> np.ndarray:
    """For each text the index of one of `others` that it equals or is near to, or -1: int64 (texts,).

    Here every link is direct: the similarity of the two is at least `threshold`. For the arguments and what can be missed see `near`.

    Raises:
        LabError: the threshold is out of range.
    """
    found = np.full(len(texts), -1, np.int64)
    if not len(texts) or not len(others):
        return found
    ours = shingles.of(texts, threshold=threshold, digits=digits, processes=processes)
    theirs = shingles.of(others, threshold=threshold, digits=digits, processes=processes)
    digests, chosen = np.unique(theirs.digests, return_index=True)
    place = np.minimum(np.searchsorted(digests, ours.digests), len(digests) - 1)
    same = digests[place] == ours.digests
    found[same] = chosen[place[same]]
    for band in range(len(ours.bands)):
        keys = theirs.bands[band][chosen]
        order = np.argsort(keys, kind="stable")
        low = np.searchsorted(keys[order], ours.bands[band], "left")
        high = np.searchsorted(keys[order], ours.bands[band], "right")
        for step in range(min(int((high - low).max()), _OTHERS)):
            open_ = np.flatnonzero((found < 0) & (low + step < high))
            candidates = chosen[order[low[open_] + step]]
            close = shingles.similar(ours, open_, theirs, candidates, threshold)
            found[open_[close]] = candidates[close]
    if slips:
        for left, right in zip(*mistyped.links([*texts, *others]), strict=True):
            left, right = min(left, right), max(left, right)
            if left < len(texts) <= right and found[left] < 0:
                found[left] = right - len(texts)
    return found


def semantic(texts: Sequence[str] | np.ndarray, *, threshold: float = 0.95, encoder: str = "minilm-l6") -> np.ndarray:
    """For each text the index of an earlier text that stays and means the same, its own where it stays: int64 (texts,).

    A text goes where the cosine of its embedding with that of an earlier text that stayed is at least `threshold`, so nothing hangs
    together through a chain. All texts are compared (no index), in blocks of a matrix product: time grows with the square of what
    stays. At the threshold itself the last bit of a product may differ from one machine to another.

    Args:
        texts: texts, or their embeddings as float32 (texts, dimensions) with rows of any length but zero.
        encoder: see `embed`.

    Raises:
        LabError: the threshold is out of range.
    """
    shingles.check_threshold(threshold)
    vectors = texts if isinstance(texts, np.ndarray) else embed(texts, encoder=encoder)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept_of = np.arange(len(vectors))
    stayed = np.empty(0, np.int64)
    for start in range(0, len(vectors), 1024):
        rows = np.arange(start, min(start + 1024, len(vectors)))
        for begin in range(0, len(stayed), 8192):
            part = stayed[begin:begin + 8192]
            close = vectors[rows] @ vectors[part].T >= threshold
            hit = close.any(axis=1)
            kept_of[rows[hit]] = part[close[hit].argmax(axis=1)]
            rows = rows[~hit]
        close = vectors[rows] @ vectors[rows].T >= threshold
        for place in range(len(rows)):
            if kept_of[rows[place]] == rows[place] and close[place, place + 1:].any():
                later = rows[place + 1:][close[place, place + 1:]]
                later = later[kept_of[later] == later]
                kept_of[later] = rows[place]
        stayed = np.concatenate([stayed, rows[kept_of[rows] == rows]])
    return kept_of


def embed(texts: Sequence[str], *, encoder: str = "minilm-l6") -> np.ndarray:
    """Sentence embeddings of length 1: float32 (texts, dimensions), the mean over the tokens of the encoder's last layer.

    The embedded encoder (all-MiniLM-L6-v2, 384 dimensions, the first 256 tokens) was trained on English; it knows hardly any Chinese
    character, so that different Chinese texts look alike to it. For Chinese name another one: a folder, or a name on the hub.

    Raises:
        LabError: there is no such encoder.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    from labkit import models

    folder = models.resolve(encoder).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    different = sorted(set(texts), key=lambda text: (len(text), text))  # equal lengths together: hardly any padding
    rows = []
    with torch.inference_mode():
        for start in range(0, len(different), 64):
            batch = tokenizer(different[start:start + 64], padding=True, truncation=True, max_length=_ENCODER_TOKENS, return_tensors="pt")
            hidden = model(**batch).last_hidden_state  # (batch, tokens, dimensions)
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    vectors = np.concatenate(rows) if rows else np.zeros((0, model.config.hidden_size), np.float32)
    place = {text: index for index, text in enumerate(different)}
    return vectors[[place[text] for text in texts]]


def _candidates(keys: np.ndarray, next_keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indices that share a key: first every member of a bucket with its first one, then with its neighbours. In a big bucket
    neighbours are those that agree in the next band too."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return
    shared = order[np.concatenate([[False], same]) | np.concatenate([same, [False]])]
    shared = shared[np.lexsort((shared, next_keys[shared], keys[shared]))]
    new = np.diff(keys[shared], prepend=~keys[shared[:1]]) != 0
    bucket = np.cumsum(new) - 1
    leaders = shared[np.flatnonzero(new)][bucket]
    yield leaders[~new], shared[~new]
    for step in range(1, _NEIGHBOURS + 1):
        both = np.flatnonzero(bucket[step:] == bucket[:-step])
        if not len(both):
            return
        yield shared[both], shared[both + step]


def _united(clusters: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The cluster numbers int64 (sets,) after these pairs of sets have been linked: each cluster has the smallest of those it is made of.
    Only the clusters that are linked are looked at."""
    if not len(left):
        return clusters
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    linked, places = np.unique(np.concatenate([clusters[left], clusters[right]]), return_inverse=True)
    links = coo_array((np.ones(len(left), np.int8), (places[:len(left)], places[len(left):])), shape=(len(linked), len(linked)))
    found = connected_components(links, directed=False)[1]
    _, first = np.unique(found, return_index=True)
    numbers = np.arange(len(clusters))
    numbers[linked] = linked[first[found]]
    return numbers[clusters]
