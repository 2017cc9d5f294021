"""A record chosen to be labelled next, and the reason in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError
from labkit.scenarios import Text

# `value` and `others` are put in; what they are stands in the docstring of the function that chooses.
REASONS: dict[str, Text] = {
    "random": {"en": "drawn by chance", "zh": "随机抽取"},
    "least_confidence": {"en": "the model gives its best label only {value:.0%}", "zh": "模型对首选标签的把握只有 {value:.0%}"},
    "margin": {"en": "the two best labels are only {value:.0%} apart", "zh": "前两个标签的概率只差 {value:.0%}"},
    "entropy": {"en": "the model wavers between its labels (entropy {value:.2f} of 1)",
                "zh": "模型在多个标签之间犹豫（熵 {value:.2f}，最大为 1）"},
    "vote_entropy": {"en": "the checkpoints vote for different labels (entropy {value:.2f} of 1)",
                     "zh": "各检查点投票不一致（熵 {value:.2f}，最大为 1）"},
    "divergence": {"en": "the checkpoints' probabilities differ (divergence {value:.2f})", "zh": "各检查点的概率不同（散度 {value:.2f}）"},
    "diverse": {"en": "the middle of a group of {others} unlabelled records", "zh": "位于一组 {others} 条未标注记录的中心"},
    "core_set": {"en": "far from everything labelled so far (distance {value:.2f})", "zh": "远离所有已标注的记录（距离 {value:.2f}）"},
    "typical": {"en": "typical of a group of {others} records with few labels", "zh": "代表一组 {others} 条标注较少的记录"},
    "clustered_margin": {"en": "stands for {others} similar records that the model is unsure of; its two best labels are {value:.0%} apart",
                         "zh": "代表 {others} 条模型没有把握的相似记录；前两个标签的概率只差 {value:.0%}"},
}


@dataclass(frozen=True)
class Choice:
    """One record to label: `row` in the arrays given, by which `strategy` (a key of `REASONS`), the measure's `value`, and for how many
    records it stands (`others`, itself included)."""

    row: int
    strategy: str
    value: float = 0.0
    others: int = 1

    def reason(self, language: str) -> str:
        """Why it was chosen, in `en` or `zh`."""
        return REASONS[self.strategy][language].format(value=self.value, others=self.others)


def unlabelled(records: int, labelled: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """The rows that may be chosen, int64 in ascending order.

    Raises:
        LabError: `count` is below 1, or `labelled` names a row that is not there.
    """
    if count < 1:
        raise LabError(f"at least one record must be chosen, not {count}")
    known = np.asarray(labelled, np.int64)
    if len(known) and (known.min() < 0 or known.max() >= records):
        raise LabError(f"labelled rows must be from 0 to {records - 1}; found {known.min()} to {known.max()}")
    free = np.ones(records, bool)
    free[known] = False
    return np.flatnonzero(free)


def check_probabilities(probabilities: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """The probabilities as they are, where the shape has so many dimensions, at least two labels, and no value is missing or negative.

    Raises:
        LabError: they are not probabilities of labels.
    """
    found = np.asarray(probabilities)
    if found.ndim != dimensions or found.shape[-1] < 2:
        wanted = "(records, labels)" if dimensions == 2 else "(checkpoints, records, labels)"
        raise LabError(f"probabilities must have the shape {wanted} with at least two labels, not {found.shape}")
    # `min` is NaN where one of the values is, and comparisons with NaN are false.
    if found.size and not (found.min() >= 0 and found.max() <= 1 + 1e-3):
        raise LabError("probabilities must be numbers from 0 to 1")
    return found


def check_vectors(vectors: np.ndarray) -> np.ndarray:
    """The embeddings as rows of length 1, float32 (records, dimensions); a row of zeros stays as it is.

    Raises:
        LabError: they are not a table of finite numbers.
    """
    found = np.asarray(vectors, np.float32)
    if found.ndim != 2 or not found.shape[1]:
        raise LabError(f"embeddings must have the shape (records, dimensions), not {found.shape}")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise LabError(f"embedding {int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0])} has a value that is no finite number")
    return found / np.where(lengths > 0, lengths, 1)
