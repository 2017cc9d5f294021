"""Float32 master copies of the parameters that learn.

The model keeps its own number format, so that no step converts weights; gradients are taken over into the masters, which the optimiser
moves, which checkpoints hold and which are saved. Where the model is float32 the masters are its own parameters.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Masters = dict[str, "torch.nn.Parameter"]


def of(model: "torch.nn.Module") -> Masters:
    """A float32 parameter for each trainable one; the trainable one itself where it is float32 already."""
    import torch

    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            same = parameter.dtype == torch.float32
            found[name] = parameter if same else torch.nn.Parameter(parameter.detach().float().clone())
    return found


def pull_gradients(model: "torch.nn.Module", masters: Masters) -> None:
    """Move the model's gradients into the masters'."""
    for name, parameter in model.named_parameters():
        if name in masters and masters[name] is not parameter and parameter.grad is not None:
            masters[name].grad = parameter.grad.float()
            parameter.grad = None


def drop_gradients(model: "torch.nn.Module", masters: Masters) -> None:
    """Forget what an interrupted step left, in the model and in the masters."""
    model.zero_grad(set_to_none=True)
    for value in masters.values():
        value.grad = None


def push(model: "torch.nn.Module", masters: Masters) -> None:
    """Copy the masters into the model and drop their gradients."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masters:
                if masters[name] is not parameter:
                    parameter.copy_(masters[name])
                else:  # fused optimisers do not say that they changed it, and `fused.Adapted` must know
                    torch.autograd.graph.increment_version(parameter)
                masters[name].grad = None
