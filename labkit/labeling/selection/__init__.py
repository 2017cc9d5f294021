"""What to label next: rows of a pool in the order in which they should be labelled, each with its reason.

Every strategy is a plain function on arrays (embeddings, probabilities, rows labelled so far) in a module here; `choose` finds them by
name. `vectors` makes embeddings of records, `stopping` says when to stop. This room knows nothing about servers and models.
"""

from collections.abc import Sequence

import numpy as np

from labkit.errors import LabError
from labkit.labeling.selection import coverage, disagreement, mixtures, uncertainty
from labkit.labeling.selection.choices import Choice, unlabelled
from labkit.scenarios import Text

__all__ = ["BATCH", "STRATEGIES", "Choice", "choose", "drawn"]

BATCH = 50  # half an hour for one person, at half a minute a label; the model learns between batches

STRATEGIES: dict[str, Text] = {  # the best one first, chance last
    "staged": {"en": "typical records first, then unsure ones of all kinds", "zh": "先选典型记录，再选各类没有把握的记录"},
    "clustered_margin": {"en": "unsure ones of all kinds", "zh": "各类没有把握的记录"},
    "margin": {"en": "the two best labels are close", "zh": "前两个标签接近"},
    "entropy": {"en": "many labels are possible", "zh": "多个标签都有可能"},
    "least_confidence": {"en": "the best label is not likely", "zh": "首选标签把握不大"},
    "divergence": {"en": "checkpoints differ in their probabilities", "zh": "各检查点概率不同"},
    "vote_entropy": {"en": "checkpoints vote for different labels", "zh": "各检查点投票不一致"},
    "typical": {"en": "typical records", "zh": "典型记录"},
    "diverse": {"en": "the middles of groups", "zh": "各组中心"},
    "core_set": {"en": "far from everything labelled", "zh": "远离已标注的记录"},
    "random": {"en": "by chance", "zh": "随机"},
}


def choose(strategy: str, count: int = BATCH, *, vectors: np.ndarray | None = None, probabilities: np.ndarray | None = None,
           committee: np.ndarray | None = None, labelled: Sequence[int] | np.ndarray = (),
           label_counts: Sequence[int] | np.ndarray | None = None, seed: int = 0) -> list[Choice]:
    """The next records by one of `STRATEGIES`, the most wanted first; the same input and seed give the same choices.

    Args:
        count: how many; fewer come back where fewer are unlabelled.
        vectors: embeddings float32 (records, dimensions).
        probabilities: the current checkpoint's, float (records, labels).
        committee: those of several checkpoints, float (checkpoints, records, labels).
        labelled: rows not to be chosen.
        label_counts: how many records have each label so far, int (labels,); rare labels are preferred by `staged` and `clustered_margin`.

    Raises:
        LabError: an unknown strategy, one that needs what was not given, or arrays that do not fit.
    """
    if strategy not in STRATEGIES:
        raise LabError(f"there is no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    given = {"vectors": vectors, "probabilities": probabilities, "committee": committee}
    needed = _needed(strategy)
    lacking = [name for name in needed if given[name] is None]
    if lacking:
        raise LabError(f"strategy {strategy} needs {' and '.join(lacking)}; without a checkpoint begin with typical, from vectors alone")
    sizes = {len(value) if name != "committee" else np.shape(value)[1] for name, value in given.items() if value is not None}
    if len(sizes) > 1:
        raise LabError(f"vectors, probabilities and committee must be of the same records, not of {sorted(sizes)}")
    match strategy:
        case "random":
            if not sizes:
                raise LabError("random needs vectors or probabilities, to know how many records there are; or call selection.drawn")
            return drawn(sizes.pop(), count, labelled=labelled, seed=seed)
        case "staged":
            return mixtures.staged(vectors, count, probabilities=probabilities, labelled=labelled, label_counts=label_counts, seed=seed)
        case "clustered_margin":
            return mixtures.clustered_margin(vectors, probabilities, count, labelled=labelled, label_counts=label_counts, seed=seed)
        case "typical":
            return coverage.typical(vectors, count, labelled=labelled, seed=seed)
        case "diverse":
            return coverage.diverse(vectors, count, labelled=labelled, seed=seed)
        case "core_set":
            return coverage.core_set(vectors, count, labelled=labelled)
        case "vote_entropy" | "divergence":
            return disagreement.disputed(committee, count, labelled=labelled, measure=strategy)
        case _:
            return uncertainty.uncertain(probabilities, count, labelled=labelled, measure=strategy)


def drawn(records: int, count: int, *, labelled: Sequence[int] | np.ndarray = (), seed: int = 0) -> list[Choice]:
    """Records by chance, what every strategy must beat.

    Raises:
        LabError: rows or count that cannot be.
    """
    rows = unlabelled(records, labelled, count)
    # The draw depends on how many are labelled: the next batch is not drawn with the numbers of the last one.
    generator = np.random.default_rng([seed, len(rows)])
    return [Choice(int(row), "random") for row in generator.permutation(rows)[:count]]


def _needed(strategy: str) -> tuple[str, ...]:
    if strategy in disagreement.MEASURES:
        return ("committee",)
    if strategy in uncertainty.MEASURES:
        return ("probabilities",)
    return {"random": (), "clustered_margin": ("vectors", "probabilities")}.get(strategy, ("vectors",))
