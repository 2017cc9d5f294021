"""What one training step sees of an example: tokens that the adapted layers are not shown, and answer tokens that are not predicted.

Leaving out makes a step cheaper and, drawn anew each time, keeps the model from leaning on single words. This module knows nothing
about models.
"""

import random
from dataclasses import dataclass

from labkit.training.examples import Example
from labkit.training.recipe import Recipe


@dataclass(frozen=True)
class View:
    """Places are those in `Example.tokens`, ascending.

    Attributes:
        kept: the tokens that the adapted layers see.
        predicted: the answer's tokens whose loss is taken; the token before each is kept.
        weights: how much each of them counts in the objective.
        plain: how much each counts in the loss that is reported: 1, or more where it stands for others that are not predicted.
        weight: what the weights of all the answer's tokens add up to; on average over many steps those of the predicted do too.
    """

    kept: list[int]
    predicted: list[int]
    weights: list[float]
    plain: list[float]
    weight: float


def whole(example: Example) -> View:
    """Every token, each answer token counted once."""
    predicted = list(range(example.answer_start, len(example.tokens)))
    ones = [1.0] * len(predicted)
    return View(list(range(len(example.tokens))), predicted, ones, ones, float(len(predicted)))


def drawn(example: Example, recipe: Recipe, step: int, row: int) -> View:
    """What step `step` sees of the example in row `row`; the same for the same seed.

    What comes behind the answer's last label or number is run with probability `text_share` and then counts 1 / `text_share` times; an
    answer without any is always run whole.
    """
    draw = random.Random(f"{recipe.seed}:{step}:{row}")
    start, end = example.answer_start, len(example.tokens)
    labels = {start + place for place in example.decisive}
    last = max(labels, default=end)
    if draw.random() >= recipe.text_share:
        end = min(end, last + 1)
    kept = [place for place in range(end) if place not in example.spoken or draw.random() >= recipe.token_drop]
    predicted = list(range(start, end))
    plain = [1.0 if place <= last else 1 / recipe.text_share for place in predicted]
    weights = [recipe.label_weight if place in labels else count for place, count in zip(predicted, plain, strict=True)]
    return View(kept, predicted, weights, plain, recipe.label_weight * len(labels) + example.answer_tokens - len(labels))
