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
from labkit.training import fused
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from peft.tuners.lora import Linear
    from transformers import PreTrainedModel

Masters = dict[str, "torch.nn.Parameter"]

_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # maps of one input, in most decoders
_PLAIN_MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
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
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    if not recipe.dropout:
        _fuse(adapted)
    return adapted


def _fuse(model: "PeftModel") -> None:
    """Let the adapted layers compute by the functions of `fused`. PEFT's own way scales and adds whole outputs, in two passes over
    memory more and two more in the gradient (a fifth of a step on 2 cores)."""
    from peft.tuners.lora import Linear

    for module in model.modules():
        kind = type(module).__name__
        own = {name: child for name, child in module.named_children() if isinstance(child, Linear)}
        together = [names for names in _TOGETHER if all(name in own for name in names)]
        for names in [*together, *((name,) for name in own if not any(name in names for names in together))]:
            maps = _Maps([own[name] for name in names])
            if kind in _PLAIN_MLPS and names == ("gate_proj", "up_proj") and module.config.hidden_act == "silu":
                module.forward = functools.partial(_mlp, module, maps)
        if kind in _PLAIN_NORMS:
            module.forward = functools.partial(fused.rms_norm, weight=module.weight, eps=module.variance_epsilon)


def _mlp(module: "torch.nn.Module", maps: "_Maps", states: "torch.Tensor") -> "torch.Tensor":
    return module.down_proj(fused.swiglu(maps.all(states)))


class _Maps:
    """Adapted linear maps that are called in turn with one input: the first call computes all."""

    def __init__(self, modules: "list[Linear]") -> None:
        import torch

        self.modules = modules
        self.scale = modules[0].scaling["default"]
        layers = [module.get_base_layer() for module in modules]
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        biases = [layer.bias for layer in layers]
        self.bias = None if None in biases else torch.cat([bias.detach() for bias in biases])
        self.sizes = [len(layer.weight) for layer in layers]
        for layer, own in zip(layers, self.weight.split(self.sizes), strict=True):
            layer.weight.data = own  # so that they stand in memory once
        self.found: dict[int, torch.Tensor] = {}
        self.states: torch.Tensor | None = None
        for place, module in enumerate(modules):
            module.forward = functools.partial(self.one, place)

    def all(self, states: "torch.Tensor") -> "torch.Tensor":
        """What all maps give, side by side."""
        pairs = [(module.lora_A["default"].weight, module.lora_B["default"].weight) for module in self.modules]
        return fused.lora(states, self.weight, self.bias, self.scale, pairs)

    def one(self, place: int, states: "torch.Tensor") -> "torch.Tensor":
        """What the map at `place` gives."""
        if self.states is not states or place not in self.found:
            self.states, self.found = states, dict(enumerate(self.all(states).split(self.sizes, -1)))
        own = self.found.pop(place)
        if not self.found:
            self.states = None
        return own


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
