"""What one checkpoint is unsure of: least confidence, margin and entropy of its probabilities (Settles 2009, Active Learning Literature
Survey, section 3.1)."""

from collections.abc import Sequence

import numpy as np

from labkit.errors import LabError
from labkit.labeling.selection.choices import Choice, check_probabilities, unlabelled

MEASURES = ("least_confidence", "margin", "entropy")


def confidence(probabilities: np.ndarray) -> np.ndarray:
    """The probability of the best label: float64 (records,)."""
    return np.asarray(probabilities, np.float64).max(axis=1)


def margin(probabilities: np.ndarray) -> np.ndarray:
    """How far the best label is from the second: float64 (records,), 0 where the two are equal."""
    best = np.partition(np.asarray(probabilities, np.float64), -2, axis=1)[:, -2:]  # (records, 2), the best one last
    return best[:, 1] - best[:, 0]


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon's entropy as a share of the most there can be, that of equal probabilities: float64 (records,), 0 to 1."""
    from scipy.special import entr

    found = np.asarray(probabilities)
    return entr(found).sum(axis=1, dtype=np.float64) / np.log(found.shape[1])


def uncertain(probabilities: np.ndarray, count: int, *, labelled: Sequence[int] | np.ndarray = (), measure: str = "margin") -> list[Choice]:
    """The records that the checkpoint is least sure of, the least sure first, equal ones in their order; fewer where fewer are left.

    Args:
        probabilities: float (records, labels).
        labelled: rows that are not to be chosen.
        measure: "least_confidence", "margin" or "entropy"; a choice's `value` is the best label's probability, the margin, the entropy.

    Raises:
        LabError: an unknown measure, or probabilities, rows or count that cannot be.
    """
    if measure not in MEASURES:
        raise LabError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}")
    found = check_probabilities(probabilities)
    rows = unlabelled(len(found), labelled, count)
    values = {"least_confidence": confidence, "margin": margin, "entropy": entropy}[measure](found[rows])
    order = np.argsort(-values if measure == "entropy" else values, kind="stable")[:count]
    return [Choice(int(rows[place]), measure, float(values[place])) for place in order]
