"""A student that learns from a teacher's probabilities, which say more than the label alone."""

from typing import TYPE_CHECKING

from labkit.training.objectives import IGNORED, Losses
from labkit.training.objectives.cross_entropy import cross_entropy

if TYPE_CHECKING:
    import torch


def distillation(student: "torch.Tensor", teacher: "torch.Tensor", labels: "torch.Tensor | None" = None, *, temperature: float = 2.0,
                 share: float = 0.5) -> Losses:
    """share T^2 KL(teacher || student), both softened by the temperature T, and (1 - share) cross-entropy of the labels at T = 1 (Hinton
    et al. 2015, section 2, https://arxiv.org/abs/1503.02531; T^2 keeps the first part's gradient as large as the second's).

    Args:
        student, teacher: (..., labels), before the softmax; the teacher gets no gradient.
        labels: int64 (...); where it is -100, value and weight are 0. None: there are no labels, and the first part stands alone.

    Returns:
        Losses (...).
    """
    import torch

    wanted = torch.log_softmax(teacher.detach().float() / temperature, -1)
    given = torch.log_softmax(student.float() / temperature, -1)
    # Where the teacher's probability is 0 the term is 0, though the logarithms may be infinite.
    there = wanted.exp() > 0
    terms = wanted.exp() * (wanted.masked_fill(~there, 0.0) - given.masked_fill(~there, 0.0))
    soft = temperature**2 * terms.sum(-1)
    if labels is None:
        return Losses(soft, torch.ones_like(soft))
    hard = cross_entropy(student, labels)
    return Losses((share * soft).masked_fill(labels == IGNORED, 0.0) + (1 - share) * hard.values, hard.weights)


def token_distillation(student: "torch.Tensor", teacher: "torch.Tensor", labels: "torch.Tensor", *, temperature: float = 1.0,
                       share: float = 0.5) -> Losses:
    """`distillation` of each token that a language model writes: the scores at a place are for the token behind it.

    Args:
        student, teacher: (texts, tokens, vocabulary), of one vocabulary.
        labels: int64 (texts, tokens), in the places of the tokens themselves; -100 where a token does not count (prompt, padding).

    Returns:
        Losses (texts, tokens - 1).
    """
    return distillation(student[:, :-1], teacher[:, :-1], labels[:, 1:], temperature=temperature, share=share)
