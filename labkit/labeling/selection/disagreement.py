"""What checkpoints disagree on: vote entropy (Dagan and Engelson 1995, section 4) and the mean divergence of each checkpoint's
probabilities from their mean (McCallum and Nigam 1998, section 3.2)."""

from collections.abc import Sequence

import numpy as np

from labkit.errors import LabError
from labkit.labeling.selection.choices import Choice, check_probabilities, unlabelled

MEASURES = ("vote_entropy", "divergence")
_BLOCK = 4096  # records at once: 5 checkpoints and 100 labels take 16 MB


def vote_entropy(committee: np.ndarray) -> np.ndarray:
    """The entropy of the checkpoints' votes, each for its best label, as a share of the most there can be: float64 (records,), 0 where
    all agree. `committee` is float (checkpoints, records, labels)."""
    from scipy.special import entr

    members, records, labels = np.shape(committee)
    votes = np.argmax(committee, axis=2)  # (checkpoints, records)
    made = np.zeros(records)
    for label in range(labels):
        made += entr((votes == label).mean(axis=0))
    return made / np.log(min(members, labels))


def divergence(committee: np.ndarray) -> np.ndarray:
    """The mean over the checkpoints of the Kullback-Leibler divergence from their mean, in nats: float64 (records,). It is the entropy of
    the mean less the mean of the entropies."""
    from scipy.special import entr

    committee = np.asarray(committee)
    made = np.zeros(committee.shape[1])
    for start in range(0, len(made), _BLOCK):
        part = committee[:, start:start + _BLOCK].astype(np.float64)
        made[start:start + _BLOCK] = entr(part.mean(axis=0)).sum(axis=1) - entr(part).sum(axis=2).mean(axis=0)
    return np.maximum(made, 0)  # rounding leaves -1e-17 where all agree


def disputed(committee: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = (), measure: str = "divergence") -> list[Choice]:
    """The records that the checkpoints disagree on most, the most disputed first; among equal ones (votes are often equal) the one with
    the higher divergence.

    Args:
        committee: float (checkpoints, records, labels), at least two checkpoints.
        measure: "vote_entropy" or "divergence"; a choice's `value`.

    Raises:
        LabError: an unknown measure, one checkpoint alone, or probabilities, rows or count that cannot be.
    """
    if measure not in MEASURES:
        raise LabError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}")
    found = check_probabilities(committee, 3)
    if len(found) < 2:
        raise LabError("one checkpoint cannot disagree with itself: give at least two, or choose by margin")
    rows = unlabelled(found.shape[1], labelled, count)
    apart = divergence(found)[rows]
    values = apart if measure == "divergence" else vote_entropy(found)[rows]
    order = np.lexsort((-apart, -values))[:count]
    return [Choice(int(rows[place]), measure, float(values[place])) for place in order]
