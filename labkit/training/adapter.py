"""LoRA matrices on a model: added, trained through float32 master copies, saved as PEFT saves them.

The matrices in the model have the model's own number format, so that no step converts them; gradients are taken over into
the float32 masters, which the optimiser moves and which are saved.
"""

import functools
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import fused
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

Masters = dict[str, "torch.nn.Parameter"]

_PLAIN_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")


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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks by the old name
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    if not recipe.dropout:
        _fuse(adapted)
    return adapted


def _fuse(model: "PeftModel") -> None:
    """Let the adapted maps and the norms compute by the functions of `fused`: PEFT's own way scales and adds whole outputs, in two
    passes over memory more and two more in the gradient (a fifth of a step on 2 cores), and a norm's takes a dozen passes (4%)."""
    from peft.tuners.lora import Linear

    def forward(module: Linear, states: "torch.Tensor") -> "torch.Tensor":
        base, down, up = module.get_base_layer(), module.lora_A["default"], module.lora_B["default"]
        return fused.lora(states, base.weight, base.bias, down.weight, up.weight, module.scaling["default"])

    for module in model.modules():
        if isinstance(module, Linear):
            module.forward = functools.partial(forward, module)
        elif type(module).__name__ in _PLAIN_NORMS:
            module.forward = functools.partial(fused.rms_norm, weight=module.weight, eps=module.variance_epsilon)


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
