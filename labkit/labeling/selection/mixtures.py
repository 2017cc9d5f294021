"""Uncertainty and coverage together: a batch of records that the model is unsure of and that differ from each other.

Plain uncertainty asks for the same thing many times over: fifty records of one batch can be fifty wordings of one question, since the
model only learns from the batch when it is whole. On Banking77 (`benchmarks/label_cost.py`) margin alone needs about half as many labels
again as the mixture.
"""

from collections.abc import Sequence

import numpy as np

from labkit.errors import LabError
from labkit.labeling.selection import coverage
from labkit.labeling.selection.choices import Choice, check_probabilities, check_vectors, unlabelled
from labkit.labeling.selection.uncertainty import margin

# Candidates for each record of the batch. Labels to reach 84.6% on a held-out part of Banking77's training texts, begun with 100 by chance
# and without label counts, means of four seeds: 498 with 5 candidates, 448 with 20; with label counts and 20 candidates 438.
_CANDIDATES = 20
_SHARE = 0.25  # of the unlabelled records at most: in a small pool twenty for each would be all of them, whatever the model thinks


def clustered_margin(vectors: np.ndarray, probabilities: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = (),
                     label_counts: Sequence[int] | np.ndarray | None = None, candidates: int = _CANDIDATES, seed: int = 0) -> list[Choice]:
    """The middles of `count` groups of uncertain records (weighted k-means; Zhdanov 2019, "Diverse mini-batch Active Learning").

    The `candidates * count` records with the highest weight (at most a quarter of the unlabelled ones) are put into `count` groups by
    k-means that counts each with its weight, and of each group the record nearest to the centre is chosen, the highest weights first. A
    record's weight is 1 less its margin, where `label_counts` are given over the square root of 1 + how often its likeliest label was
    given so far, so that rare labels catch up.

    Args:
        vectors: embeddings float32 (records, dimensions).
        probabilities: float (records, labels).
        label_counts: int (labels,): how many records have each label so far.

    Returns:
        Choices with the margin as `value` and the size of the group of candidates as `others`.

    Raises:
        LabError: arrays that do not fit together, or rows or count that cannot be.
    """
    scaled, found = check_vectors(vectors), check_probabilities(probabilities)
    if len(scaled) != len(found):
        raise LabError(f"{len(scaled)} embeddings do not fit probabilities of {len(found)} records")
    if label_counts is not None and len(label_counts) != found.shape[1]:
        raise LabError(f"{len(label_counts)} label counts do not fit probabilities of {found.shape[1]} labels")
    rows = unlabelled(len(scaled), labelled, count)
    if not len(rows):
        return []
    margins = margin(found[rows])
    weights = 1 - margins
    if label_counts is not None:
        weights = weights / np.sqrt(1 + np.asarray(label_counts)[found[rows].argmax(axis=1)])
    weights = np.maximum(weights, 1e-9)  # k-means wants some weight, also where a model is sure of everything
    order = np.argsort(-weights, kind="stable")[:max(count, min(candidates * count, round(_SHARE * len(rows))))]
    belongs, apart = coverage.groups(scaled[rows[order]], count, weights=weights[order], seed=seed)
    middles = dict(coverage.middles(belongs, apart))  # place among the candidates -> size
    places = sorted(middles)  # candidates are in the order of their weights
    for place in range(len(order)):  # equal records leave groups empty
        if len(places) >= count:
            break
        if place not in middles:
            places.append(place)
    return [Choice(int(rows[order[place]]), "clustered_margin", float(margins[order[place]]), middles.get(place, 1)) for place in places]


def staged(vectors: np.ndarray, count: int, *, probabilities: np.ndarray | None = None, labelled: Sequence[int] | np.ndarray = (),
           label_counts: Sequence[int] | np.ndarray | None = None, seed: int = 0) -> list[Choice]:
    """Typical records while there are fewer than two labels for each kind (or no model at all), then `clustered_margin`.

    Arguments, result and errors as in `clustered_margin` and `coverage.typical`.
    """
    if probabilities is None or len(labelled) < 2 * check_probabilities(probabilities).shape[1]:
        return coverage.typical(vectors, count, labelled=labelled, seed=seed)
    return clustered_margin(vectors, probabilities, count, labelled=labelled, label_counts=label_counts, seed=seed)
