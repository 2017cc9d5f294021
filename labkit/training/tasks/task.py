"""What an encoder learns from, whatever the task: texts as tokens, with a target for each of its heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Head:
    """One thing to predict.

    Attributes:
        kind: `label` (one of `labels`), `labels` (any number of them), `number`, `tags` (a label for each token), `span` (two places in the
            text) or `none` (nothing: embeddings).
        labels: the outputs' names; a number has none; of a span `start` and `end`, and `none` where a question may have no answer.
        centre, scale: a number is learned as (value - centre) / scale.
    """

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        return {"number": 1, "span": 2, "none": 0}.get(self.kind, len(self.labels))

    @property
    def by_token(self) -> bool:
        """Whether each token has outputs of its own, and not the text as a whole."""
        return self.kind in ("tags", "span")


@dataclass(frozen=True)
class Example:
    """A text, or a window of one, as an encoder sees it.

    Attributes:
        tokens: token ids with the special ones.
        segments: token type ids, 0 for the first text of a pair and 1 for the second.
        targets: by head: int (label), tuple of 0.0 and 1.0 (labels), float (number), tuple of int for each token, -100 where none (tags),
            (first, last) token (span). A head without one here does not learn from this example.
        row: the row of the data that it comes from; several windows have the same.
        others: further texts that belong to it (embeddings): the positive, then negatives.
        extra: what the task needs to find its way back (offsets, words).
        group: always 0; batches are formed within a group.
        soft: by head what a teacher gives for it (`Outputs` of this example), where there is one.
    """

    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    targets: dict[str, Any]
    row: int
    others: tuple[tuple[int, ...], ...] = ()
    extra: Any = None
    group: int = 0
    soft: "dict[str, np.ndarray] | None" = None


# head -> for each example float32 (outputs,), by token (tokens, outputs); "" -> the embeddings (hidden,)
Outputs = dict[str, "list[np.ndarray]"]


@dataclass(frozen=True)
class Judged:
    """What a model says about the rows of a split beside what is right, row by row, as `labkit.evaluation.task_metrics.score` takes it.

    Attributes:
        measure: how it is measured: a task's name there, or `ranks` (`predicted`: at which place the right text came, from 1).
        clusters: rows of the same name are not independent (questions about one text) and are drawn together for intervals.
        languages: of each row, where that matters.
    """

    measure: str
    ids: list[str]
    truth: list[Any]
    predicted: list[Any]
    clusters: list[str]
    languages: list[str] | None = None


@dataclass(frozen=True)
class Part:
    """A split of a task's data, ready for an encoder.

    Attributes:
        rows: how many rows it has; the examples may be more (windows) or fewer.
        score: metrics from the outputs for all examples.
        judge: the rows one by one, from the same.
        show: prompt, answer and wanted of an example, from its outputs, for a person to read.
        cut, warnings: as in `Prepared`.
    """

    rows: int
    examples: list[Example]
    ids: list[str]
    score: "Callable[[Outputs], dict[str, float]]"
    judge: "Callable[[Outputs], Judged]"
    show: "Callable[[Example, dict[str, np.ndarray]], dict[str, str]] | None" = None
    cut: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """Data of a task, ready for an encoder.

    Attributes:
        name: what the data is called.
        heads: what is predicted.
        train, held_out: examples to learn from and to measure on.
        ids: the ids of the train examples' rows, to tell a person which.
        score: metrics of held-out examples from what the model gives for them; higher is better.
        cut: ids of rows whose text was cut off by the length limit.
        warnings: a line each for a person to read before training starts: how many rows were cut off or left out, which, and what helps.
        show: prompt, answer and wanted of a held-out example, from the outputs, for a person to read.
    """

    name: str
    heads: tuple[Head, ...]
    train: list[Example]
    held_out: list[Example]
    ids: list[str]
    score: Callable[[list[Example], Outputs], dict[str, float]]
    cut: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    show: "Callable[[Example, dict[str, np.ndarray]], dict[str, str]] | None" = None


def listed(ids: Sequence[str], shown: int = 4) -> str:
    """The first few ids, and how many more there are."""
    return ", ".join(ids[:shown]) + (f" and {len(ids) - shown:,} more" if len(ids) > shown else "")
