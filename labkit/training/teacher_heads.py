"""A teacher for an encoder's heads: a finished run with the same heads, whose scores the student learns from beside the targets themselves.

A head's loss is (1 - w) times its own and w times T^2 KL(teacher || student), both softened by T (Hinton et al. 2015, section 2,
https://arxiv.org/abs/1503.02531): of a text's labels, of each of several labels (there or not), of each token's tag, of where an answer
begins and ends. A number is drawn to the teacher's number by its squared error, which T does not change.

The teacher sees each training text once, whole, before the first step; its scores are kept in memory (`Example.soft`). What they do to a
loss is in `tasks.losses`.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import predictor
from labkit.training import teacher as teachers
from labkit.training.predictor import Predictor
from labkit.training.recipe import Recipe
from labkit.training.tasks.task import Example, Head

if TYPE_CHECKING:
    import numpy as np


class Teacher:
    """See the module's docstring; made by `load`.

    Attributes:
        told: as a manifest names it, see `teacher.told`.
    """

    def __init__(self, ready: Predictor, heads: Sequence[Head], told: dict[str, str]) -> None:
        self._ready, self._heads, self.told = ready, heads, told

    def taught(self, examples: list[Example]) -> list[Example]:
        """The examples with what the teacher gives for each of the student's heads; once, for it is let go of."""
        ready, self._ready = self._ready, None
        theirs, outputs = {head.name: head for head in ready.heads}, ready.outputs(examples)
        return [dataclasses.replace(example, soft={head.name: _rescaled(outputs[head.name][place], theirs[head.name], head)
                                                   for head in self._heads}) for place, example in enumerate(examples)]


def load(recipe: Recipe, base: BaseModel, heads: Sequence[Head], tokenizer: Any) -> Teacher | None:
    """The recipe's teacher, or None where it has none.

    Raises:
        LabError: it is no sound encoder's run, has other tokens, or lacks a head that learns, with the same labels.
    """
    if not recipe.teacher:
        return None
    run, its_base = teachers.found(recipe.teacher)
    if run is None or run.writes():
        raise LabError(f"recipe: teacher {recipe.teacher!r} has no heads; choose an encoder's run")
    ready = predictor.load(run)
    if its_base.sha256 != base.sha256 and ready.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise LabError(f"recipe: teacher {recipe.teacher!r} has other tokens than {base.name}; a teacher needs the student's tokenizer")
    theirs = {head.name: head for head in ready.heads}
    for head in heads:
        other = theirs.get(head.name)
        if other is None or (other.kind, other.labels) != (head.kind, head.labels):
            raise LabError(f"recipe: teacher {recipe.teacher!r} has no head {head.name!r} with the same labels")
    return Teacher(ready, heads, teachers.told(recipe.teacher, run, its_base))


def _rescaled(output: "np.ndarray", theirs: Head, ours: Head) -> "np.ndarray":
    """A number in the student's scale; anything else as it is."""
    return output if ours.kind != "number" else (output * theirs.scale + theirs.centre - ours.centre) / ours.scale
