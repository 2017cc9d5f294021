"""A teacher for an encoder's heads: a finished run with the same heads, whose scores the student learns from beside the targets themselves.

A head's loss is (1 - w) times its own and w times T^2 KL(teacher || student), both softened by T (Hinton et al. 2015, section 2,
https://arxiv.org/abs/1503.02531): of a text's labels, of each of several labels (there or not), of each token's tag, of where an answer
begins and ends. A number is drawn to the teacher's number by its squared error, which T does not change.

The teacher sees each training text once, whole, before the first step; its scores are kept in memory (`Example.soft`).
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import predictor
from labkit.training import teacher as teachers
from labkit.training.objectives import Losses
from labkit.training.objectives.cross_entropy import squared_error
from labkit.training.objectives.distillation import distillation
from labkit.training.recipe import Recipe
from labkit.training.tasks.task import Example, Head

if TYPE_CHECKING:
    import numpy as np
    import torch


def taught(recipe: Recipe, base: BaseModel, heads: Sequence[Head], examples: list[Example], tokenizer: Any) -> list[Example]:
    """The examples with what the recipe's teacher gives for each head; the examples as they are where it has no teacher.

    Raises:
        LabError: the teacher is no sound encoder's run, has other tokens, or lacks a head that learns, with the same labels.
    """
    if not recipe.teacher:
        return examples
    run, told = teachers.found(recipe.teacher)
    if run is None or run.writes():
        raise LabError(f"recipe: teacher {recipe.teacher!r} has no heads; choose an encoder's run")
    teacher = predictor.load(run)
    if told.sha256 != base.sha256 and teacher.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise LabError(f"recipe: teacher {recipe.teacher!r} has other tokens than {base.name}; a teacher needs the student's tokenizer")
    theirs = {head.name: head for head in teacher.heads}
    for head in heads:
        other = theirs.get(head.name)
        if other is None or (other.kind, other.labels) != (head.kind, head.labels):
            raise LabError(f"recipe: teacher {recipe.teacher!r} has no head {head.name!r} with the same labels")
    outputs = teacher.outputs(examples)
    return [dataclasses.replace(example, soft={head.name: _rescaled(outputs[head.name][place], theirs[head.name], head) for head in heads})
            for place, example in enumerate(examples)]


def _rescaled(output: "np.ndarray", theirs: Head, ours: Head) -> "np.ndarray":
    """A number in the student's scale; anything else as it is."""
    return output if ours.kind != "number" else (output * theirs.scale + theirs.centre - ours.centre) / ours.scale


def mixed(recipe: Recipe, head: Head, plain: Losses, scores: "torch.Tensor", examples: Sequence[Example]) -> Losses:
    """A head's losses with the teacher's part in them.

    Args:
        plain: the head's own losses.
        scores: its outputs, (texts, outputs) or (texts, tokens, outputs); what does not count is the lowest number (a span's padding).
        examples: each with `soft`.
    """
    import torch

    theirs = torch.zeros_like(scores, dtype=torch.float32)
    for own, example in zip(theirs, examples, strict=True):
        soft = torch.from_numpy(example.soft[head.name]).to(own)
        own[: len(soft)] = soft  # of a text, or of its tokens
    temperature = recipe.teacher_temperature
    if head.kind == "number":
        drawn = squared_error(scores[..., 0], theirs[..., 0]).values
    elif head.kind == "labels":  # there or not: two scores, of which one is 0
        either = lambda value: torch.stack([torch.zeros_like(value), value], -1)  # noqa: E731
        drawn = distillation(either(scores), either(theirs), temperature=temperature).values
    elif head.kind == "span":
        outside = scores == torch.finfo(torch.float32).min
        theirs = theirs.masked_fill(outside, torch.finfo(torch.float32).min)
        drawn = distillation(scores.transpose(1, 2), theirs.transpose(1, 2), temperature=temperature).values
    else:
        drawn = distillation(scores, theirs, temperature=temperature).values
    drawn = drawn.masked_fill(plain.weights == 0, 0.0)
    return Losses((1 - recipe.teacher_weight) * plain.values + recipe.teacher_weight * drawn, plain.weights)
