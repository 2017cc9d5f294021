"""Objectives: what training makes small, as pure functions on tensors.

    cross_entropy    labels, several labels at once, numbers, the likelihood of a text
    contrastive      texts near and far: InfoNCE, supervised contrastive, triplets, pairs; gradients of batches that do not fit
    multitask        several objectives at once: how much each counts, and how often each task comes
    preference       what people prefer: DPO, ORPO, KTO
    distillation     a teacher's probabilities

Each gives the losses one by one and what they are divided by (`Losses`), never a mean: only who holds the whole batch knows what
to divide by. Sums of losses over sums of weights are then the same however a batch is padded, masked or cut into parts. All
arithmetic is float32, whatever the number format of what comes in.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label of a place that has none, as in torch.nn.functional.cross_entropy


class Losses(NamedTuple):
    """Losses one by one, in nats where they are logarithms.

    `values` are float32 and carry the gradient; `weights`, float32 of the same shape, are what the sum of the values is divided by:
    1 for each loss, a class weight where classes have one, 0 (with a value of 0) where there is nothing to learn.
    """

    values: "torch.Tensor"
    weights: "torch.Tensor"

    def mean(self) -> "torch.Tensor":
        """The sum of the values over the sum of the weights, a scalar; 0 where all weights are 0."""
        total = self.weights.sum()
        return self.values.sum() / total if total > 0 else self.values.sum()
