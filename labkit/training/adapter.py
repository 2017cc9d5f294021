"""LoRA matrices on a model: added, trained through float32 master copies, saved as PEFT saves them.

The matrices in the model have the model's own number format, so that no step converts them; gradients are taken over into
the float32 masters, which the optimiser moves and which are saved.
"""

import functools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

Masters = dict[str, "torch.nn.Parameter"]


def add(model: "PreTrainedModel", recipe: Recipe, first_layer: int) -> "PeftModel":
    """The model with LoRA on every linear map of the layers from `first_layer` up; all else is frozen."""
    import torch
    from peft import LoraConfig, get_peft_model

    layers = model.get_decoder().layers
    targets = sorted({name.rsplit(".", 1)[-1] for name, module in layers[0].named_modules() if isinstance(module, torch.nn.Linear)})
    if not targets:
        raise LabError(f"{type(model).__name__} has no linear maps that LoRA could adapt")
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=targets,
                        layers_to_transform=list(range(first_layer, len(layers))), layers_pattern="layers", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    if not recipe.dropout:
        _fuse(adapted)
    return adapted


def _fuse(model: "PeftModel") -> None:
    """Let the adapted linear maps compute the sum of both products in one function: PEFT's own way scales and adds whole
    outputs, in two passes over memory more and two more in the gradient (a fifth of a step on 2 cores)."""
    from peft.tuners.lora import Linear

    function = _lora_function()

    def forward(module: Linear, states: "torch.Tensor") -> "torch.Tensor":
        base, down, up = module.get_base_layer(), module.lora_A["default"], module.lora_B["default"]
        return function.apply(states, base.weight, base.bias, down.weight, up.weight, module.scaling["default"])

    for module in model.modules():
        if isinstance(module, Linear):
            module.forward = functools.partial(forward, module)


@functools.cache
def _lora_function() -> "type[torch.autograd.Function]":
    """`x W' + b + s (x A') B'` with gradients for x, A and B (Hu et al. 2021, section 4.1); W and b are frozen."""
    import torch

    class Lora(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, weight, bias, down, up, scale):
            flat = states.reshape(-1, states.shape[-1])
            low = (flat @ down.T).mul_(scale)  # (tokens, rank)
            ctx.save_for_backward(flat, low, weight, down, up)
            ctx.scale, ctx.shape = scale, states.shape
            return torch.nn.functional.linear(flat, weight, bias).addmm_(low, up.T).view(*states.shape[:-1], -1)

        @staticmethod
        def backward(ctx, gradient):
            flat, low, weight, down, up = ctx.saved_tensors
            gradient = gradient.reshape(-1, gradient.shape[-1])
            low_gradient = (gradient @ up).mul_(ctx.scale)
            entered = None
            if ctx.needs_input_grad[0]:
                entered = (gradient @ weight).addmm_(low_gradient, down).view(*ctx.shape)
            return entered, None, None, low_gradient.T @ flat, (low.T @ gradient).T, None

    return Lora


def masters(model: "PeftModel") -> Masters:
    """A float32 parameter for each trainable one; the trainable one itself where it is float32 already."""
    import torch

    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            same = parameter.dtype == torch.float32
            found[name] = parameter if same else torch.nn.Parameter(parameter.detach().float().clone())
    return found


def pull_gradients(model: "PeftModel", masters: Masters) -> None:
    """Move the model's gradients into the masters'."""
    for name, parameter in model.named_parameters():
        if name in masters and masters[name] is not parameter:
            masters[name].grad = parameter.grad.float()
            parameter.grad = None


def push(model: "PeftModel", masters: Masters) -> None:
    """Copy the masters into the model and drop their gradients."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masters:
                if masters[name] is not parameter:
                    parameter.copy_(masters[name])
                masters[name].grad = None


def save(model: "PeftModel", masters: Masters, base: BaseModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors (float32), the folder whole or not at all."""
    from safetensors.torch import save_file

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config = model.peft_config["default"]
    config.base_model_name_or_path = base.name
    config.inference_mode = True
    config.save_pretrained(str(part))
    tensors = {name.replace(".default.", "."): value.detach().cpu().contiguous() for name, value in masters.items()}
    with files.whole(part / "adapter_model.safetensors") as path:
        save_file(tensors, path, metadata={"format": "pt"})  # one key: safetensors writes several in any order
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
