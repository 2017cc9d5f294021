"""Labels from the nearest of a few labelled texts, compared token by token.

One embedding a text blurs what a single word decides ("my card was declined", "my card was swallowed"). Here every token of a text
looks for the token of an example that is most like it, and the mean of these cosines is how like the example the text is (late
interaction: Khattab and Zaharia 2020, section 3.3, https://arxiv.org/abs/2004.12832, with a mean in place of the sum, so that long
texts are as sure as short ones). Where it is told which tokens they are, rare ones count more: by the log of how many examples there are
to one that has it (Spärck Jones 1972, https://doi.org/10.1108/eb026526). A label's score is the log of the summed exponentials over its
examples. Time grows with the examples' tokens times the texts': 3,000 texts against 10,000 examples of 15 tokens are 5e12 operations.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    import numpy as np

TEMPERATURE = 0.05
_COMMON = 0.1  # what a token counts that is in all examples
_MOST = 1 << 26  # similarities of tokens that are held at once


@dataclass(frozen=True)
class Examples:
    """Labelled texts by their tokens, made by `of`.

    Attributes:
        vectors: all their tokens one after the other, scaled to length 1, float32 (tokens, hidden).
        starts: where each example begins there.
        labels: of each example, as a place in `names`.
        names: the labels, sorted.
        counts: in how many examples each token (by number) is; None: all tokens count alike.
    """

    vectors: "np.ndarray"
    starts: "np.ndarray"
    labels: "np.ndarray"
    names: tuple[str, ...]
    counts: Counter[int] | None = None


def of(tokens: "Sequence[np.ndarray]", labels: Sequence[str], numbers: Sequence[Sequence[int]] | None = None) -> Examples:
    """Examples from their token states (`predictor.Predictor.tokens`), float32 (tokens, hidden) each, and their labels.

    Args:
        numbers: which tokens each has (of `Predictor.tokens` too), for rare ones to count more.
    """
    import numpy as np

    if not tokens or len(tokens) != len(labels):
        raise LabError(f"{len(tokens)} examples with {len(labels)} labels: there must be one for each, and at least one example")
    names = tuple(sorted(set(labels)))
    starts = np.cumsum([0, *(len(each) for each in tokens[:-1])])
    counts = None if numbers is None else Counter(number for own in numbers for number in set(own))
    return Examples(_unit(np.concatenate(tokens)), starts, np.array([names.index(label) for label in labels]), names, counts)


def similarities(examples: Examples, tokens: "Sequence[np.ndarray]", numbers: Sequence[Sequence[int]] | None = None) -> "np.ndarray":
    """How like each example each text is, -1 to 1, float32 (texts, examples).

    Args:
        numbers: which tokens each text has; to be given where the examples' were, and there alone.
    """
    import numpy as np

    if (numbers is None) != (examples.counts is None):
        raise LabError("token numbers are given for the examples and the texts, or for neither")
    weights = [np.ones(len(own), dtype=np.float32) for own in tokens] if numbers is None else [_rarity(examples, own) for own in numbers]

    most = max(1, _MOST // len(examples.vectors))  # tokens that are compared at once
    found, part, size = [], [], 0
    for place, own in enumerate(tokens):
        part.append(own)
        size += len(own)
        if size >= most or place == len(tokens) - 1:
            nearest = np.maximum.reduceat(_unit(np.concatenate(part)) @ examples.vectors.T, examples.starts, axis=1)
            lengths = np.array([len(each) for each in part])
            begins, counting = np.cumsum(lengths) - lengths, np.concatenate(weights[place + 1 - len(part) : place + 1])
            found.append(np.add.reduceat(nearest * counting[:, None], begins, axis=0) / np.add.reduceat(counting, begins)[:, None])
            part, size = [], 0
    return np.concatenate(found) if found else np.zeros((0, len(examples.labels)), dtype=np.float32)


def log_probabilities(examples: Examples, tokens: "Sequence[np.ndarray]", numbers: Sequence[Sequence[int]] | None = None,
                      temperature: float = TEMPERATURE) -> "np.ndarray":
    """The log probability of each of the examples' `names` for each text, float64 (texts, names).

    Args:
        numbers: see `similarities`.
        temperature: what similarities are divided by: small, and the nearest example decides alone. (Banking77, ten examples an intent,
            held-out training texts, beside logistic regression, mean of three draws: with rare tokens counting more 0.876 at 0.05
            and 0.874 at 0.03, with all alike 0.874 at both.)
    """
    import numpy as np
    from scipy.special import logsumexp

    scaled = similarities(examples, tokens, numbers).astype(np.float64) / temperature
    scores = np.stack([logsumexp(scaled[:, examples.labels == label], axis=1) for label in range(len(examples.names))], axis=1)
    return scores - logsumexp(scores, axis=1, keepdims=True)


def _rarity(examples: Examples, numbers: Sequence[int]) -> "np.ndarray":
    """What each token of a text counts, float32 (tokens,)."""
    import numpy as np

    having = np.array([examples.counts[number] for number in numbers])
    return (np.log((len(examples.labels) + 1) / (having + 1)) + _COMMON).astype(np.float32)


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
