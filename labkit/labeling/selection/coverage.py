"""What stands for the many: k-means, core-set and typical records, from embeddings alone, so that they work before there is any label.

All of it is linear in the records: centres are found on at most 20,000 records drawn by the seed, and everything that compares all
with all does so in blocks. Distances are between rows scaled to length 1. The arithmetic runs on one thread, because the order in which
threads add up would change the last bit, and with it a choice, from run to run.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from labkit.labeling.selection.choices import Choice, check_vectors, unlabelled

_SAMPLE = 20_000  # records that k-means sees
_BLOCK = 2048  # records compared at once; with 20,000 others 160 MB
_ITERATIONS = 30
_NEIGHBOURS = 20  # for how typical a record is; Hacohen, Dekel and Weinshall 2022, section 3.2
_MOST_GROUPS = 500  # the same, appendix: with more, groups are too small to be told from noise


def groups(vectors: np.ndarray, count: int, *, weights: np.ndarray | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """k-means: the group of each record, int64 (records,), and its squared distance to the group's centre, float32 (records,).

    Args:
        vectors: float32 (records, dimensions).
        count: groups, at most one a record; equal records may leave some empty.
        weights: how much each record counts, float (records,).
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seen = np.arange(len(vectors))
    if len(vectors) > max(_SAMPLE, 4 * count):
        seen = np.sort(np.random.default_rng(seed).choice(len(vectors), max(_SAMPLE, 4 * count), replace=False))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different records than groups: some stay empty, which is well
        means = KMeans(min(count, len(seen)), n_init=1, max_iter=_ITERATIONS, random_state=seed)
        centres = means.fit(vectors[seen], sample_weight=None if weights is None else weights[seen]).cluster_centers_
        return _nearest(vectors, centres)


def diverse(vectors: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = (), seed: int = 0) -> list[Choice]:
    """The middle record of each of `count` groups of the unlabelled ones, big groups first; `others` is the group's size.

    Where equal records leave groups empty, fewer are returned than asked for: there is nothing else to see.

    Raises:
        LabError: embeddings, rows or count that cannot be.
    """
    scaled = check_vectors(vectors)
    rows = unlabelled(len(scaled), labelled, count)
    if not len(rows):
        return []
    belongs, apart = groups(scaled[rows], count, seed=seed)
    return [Choice(int(rows[place]), "diverse", float(apart[place]), size) for place, size in middles(belongs, apart)]


def middles(belongs: np.ndarray, apart: np.ndarray) -> list[tuple[int, int]]:
    """(place, size) of the record nearest to its group's centre, for each group that has any, big groups first."""
    order = np.lexsort((np.arange(len(belongs)), apart, belongs))
    _, first, sizes = np.unique(belongs[order], return_index=True, return_counts=True)
    found = order[first]
    return [(int(found[group]), int(sizes[group])) for group in np.lexsort((found, -sizes))]


def core_set(vectors: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = ()) -> list[Choice]:
    """Each time the record that is furthest from all labelled and chosen ones (k-center greedy; Sener and Savarese 2018, algorithm 1);
    `value` is that distance, 0 to 2. Without any label the first one is the record nearest to the mean.

    It covers the outskirts first: of real data these are often odd records.

    Raises:
        LabError: embeddings, rows or count that cannot be.
    """
    from threadpoolctl import threadpool_limits

    scaled = check_vectors(vectors)
    rows = unlabelled(len(scaled), labelled, count)
    if not len(rows):
        return []
    known = np.unique(np.asarray(labelled, np.int64))
    chosen: list[Choice] = []
    with threadpool_limits(1):
        if not len(known):
            middle = scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
            known = np.array([np.argmin(_squared(scaled, middle[None])[:, 0])])
            chosen.append(Choice(int(known[0]), "core_set", float(np.linalg.norm(scaled[known[0]] - middle))))
        nearest = _nearest(scaled, scaled[known])[1]
        nearest[known] = -1  # a copy of a labelled record is at 0, and comes last
        while len(chosen) < min(count, len(rows)):
            row = int(nearest.argmax())
            chosen.append(Choice(row, "core_set", float(np.sqrt(max(nearest[row], 0)))))
            taken = nearest < 0
            nearest = np.minimum(nearest, _squared(scaled, scaled[row][None])[:, 0])
            nearest[taken] = -1
            nearest[row] = -1
    return chosen


def typical(vectors: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = (), seed: int = 0) -> list[Choice]:
    """Typical records of groups that have few labels: TypiClust (Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget").

    As many groups as labelled and wanted records together (500 at the most); groups with the fewest labels come first, of these the
    biggest; of a group the record whose 20 nearest neighbours in the group are the nearest. `others` is the group's size. The right
    beginning where there is no model yet: records that a model would be unsure of are of no use to one that knows nothing.

    Raises:
        LabError: embeddings, rows or count that cannot be.
    """
    from threadpoolctl import threadpool_limits

    scaled = check_vectors(vectors)
    rows = unlabelled(len(scaled), labelled, count)
    if not len(rows):
        return []
    known = np.unique(np.asarray(labelled, np.int64))
    free = np.zeros(len(scaled), bool)
    free[rows] = True
    belongs, _ = groups(scaled, min(len(known) + count, _MOST_GROUPS), seed=seed)
    number = int(belongs.max()) + 1
    labels, sizes = np.bincount(belongs[known], minlength=number), np.bincount(belongs, minlength=number)
    members = np.split(np.argsort(belongs, kind="stable"), np.cumsum(sizes)[:-1])
    ranked: dict[int, list[int]] = {}  # a group's unlabelled records, the most typical last
    chosen: list[Choice] = []
    left = np.bincount(belongs[rows], minlength=number)
    with threadpool_limits(1):
        while len(chosen) < min(count, len(rows)):
            for group in np.lexsort((-sizes, labels)):
                if not left[group]:
                    continue
                if group not in ranked:
                    inside = members[group]
                    order = np.argsort(_closeness(scaled[inside]), kind="stable")
                    ranked[group] = [int(row) for row in inside[order] if free[row]]
                chosen.append(Choice(ranked[group].pop(), "typical", 0.0, int(sizes[group])))
                labels[group] += 1
                left[group] -= 1
                if len(chosen) == min(count, len(rows)):
                    break
    return chosen


def _closeness(vectors: np.ndarray) -> np.ndarray:
    """Less the mean squared distance to the nearest neighbours, float32 (records,): higher where a record is more typical."""
    if len(vectors) == 1:
        return np.zeros(1, np.float32)
    count = min(_NEIGHBOURS, len(vectors) - 1)
    made = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        apart = _squared(vectors[start:start + _BLOCK], vectors)
        apart[np.arange(len(apart)), start + np.arange(len(apart))] = np.inf  # nobody is a neighbour of its own
        made[start:start + _BLOCK] = -np.partition(apart, count - 1, axis=1)[:, :count].mean(axis=1)
    return made


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each record and the squared distance to it."""
    belongs, apart = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        part = _squared(vectors[start:start + _BLOCK], centres)
        belongs[start:start + _BLOCK] = part.argmin(axis=1)
        apart[start:start + _BLOCK] = part.min(axis=1)
    return belongs, apart


def _squared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances float32 (left, right)."""
    products = left @ right.T
    products *= -2
    products += (left * left).sum(axis=1)[:, None]
    products += (right * right).sum(axis=1)
    return np.maximum(products, 0, out=products)
