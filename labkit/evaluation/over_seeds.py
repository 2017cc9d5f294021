"""The difference between two ways of training, each run with several seeds and tested on the same records.

Two things vary by chance: which situations the test records happen to tell, and which seeds were drawn. Both are drawn anew in every
resample, the situations for all seeds at once (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8), so that
the interval is about another test set and other seeds. This module knows nothing about models.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.labeling.quality.intervals import SHARE, Estimate

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000


def difference(before: "np.ndarray", after: "np.ndarray", situations: Sequence[str], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of `after` less that of `before`, with its 95% percentile interval.

    Seeds are drawn in pairs: row i of both sides is of seed i. With one seed, situations alone are drawn.

    Args:
        before, after: how right each test record is, (seeds, records): 1 or 0, or a loss.
        situations: of each record; those of one situation are drawn together (`meta["core"]`).

    Raises:
        LabError: the two sides have not the same seeds and records, or there is nothing to compare.
    """
    import numpy as np

    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != len(situations) or not first.size:
        raise LabError(f"a comparison needs the same seeds and records on both sides, not {first.shape} and {second.shape} "
                       f"for {len(situations)} records")
    gaps = second - first  # (seeds, records)
    order = {name: place for place, name in enumerate(dict.fromkeys(situations))}
    member = np.array([order[name] for name in situations])
    sums = np.stack([np.bincount(member, row, len(order)) for row in gaps])  # (seeds, situations)
    sizes = np.bincount(member, minlength=len(order)).astype(np.float64)
    draw = np.random.default_rng(seed)
    times = draw.multinomial(len(order), np.full(len(order), 1 / len(order)), size=resamples)  # (draws, situations)
    runs = draw.multinomial(len(gaps), np.full(len(gaps), 1 / len(gaps)), size=resamples) / len(gaps)  # (draws, seeds)
    values = (runs * (times @ sums.T)).sum(1) / (times @ sizes)
    low, high = np.quantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Estimate(float(gaps.mean()), float(low), float(high), len(situations))
