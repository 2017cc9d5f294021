"""What of a base model learns: all of it, its top layers, or what one of PEFT's methods adds.

    full      every weight
    freeze    the top `layers` layers and the norm above them
    head      nothing (an encoder's heads learn alone)
    lora      W + s B A beside every linear map, s = alpha / rank (Hu et al. 2021, https://arxiv.org/abs/2106.09685)
    rslora    the same with s = alpha / sqrt(rank) (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)
    dora      magnitude and direction apart (Liu et al. 2024, https://arxiv.org/abs/2402.09353)
    pissa     LoRA that begins as the principal part of W (Meng et al. 2024, https://arxiv.org/abs/2404.02948); saved as plain LoRA of
              twice the rank, so that it stands beside the unchanged base
    ia3       learned scales on keys, values and the inner states of the MLP (Liu et al. 2022, https://arxiv.org/abs/2205.05638)
    prefix    learned keys and values before every layer's (Li and Liang 2021, https://arxiv.org/abs/2101.00190)
    prompt    learned embeddings before the text's (Lester et al. 2021, https://arxiv.org/abs/2104.08691)

LoRA+ (Hayou et al. 2024, https://arxiv.org/abs/2402.12354) is the setting `lora_plus`; QLoRA (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314) is any LoRA method on a base that is quantised: the setting `quantised`.
"""

import functools
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import fused, packed_attention, shared_prefix
from labkit.training.masters import Masters
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

LORA = ("lora", "rslora", "dora", "pissa")
ADDED = (*LORA, "ia3", "prefix", "prompt")  # what PEFT adds beside the base; the others change the base's own weights
_VIRTUAL = ("prefix", "prompt")
_PLAIN_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
_ATTENTION, _GATED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
_TOGETHER = (_ATTENTION, _GATED, ("query", "key", "value"))  # maps of the same states
_READ_BY = {"input_layernorm": "self_attn", "post_attention_layernorm": "mlp"}  # in a layer of Llama's kind, norms and who reads them
_SILU = ("SiLU", "SiLUActivation")
_PATTERNS = ("layers", "layer", "h", "block")


def apply(model: "torch.nn.Module", recipe: Recipe, first_layer: int) -> "torch.nn.Module":
    """The model with exactly what the recipe's method teaches requiring gradients, in the layers from `first_layer` up.

    Raises:
        LabError: the model has nothing that the method could adapt.
    """
    model.requires_grad_(False)
    if recipe.method == "full":
        return model.requires_grad_(True)
    if recipe.method == "head":
        return model
    if recipe.method == "freeze":
        found = layers(model)
        for layer in list(found)[first_layer:]:
            layer.requires_grad_(True)
        for name, module in trunk(model).named_children():
            if name in ("norm", "final_layer_norm", "ln_f", "pooler"):
                module.requires_grad_(True)
        return model
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks by the old name
        adapted = get_peft_model(model, _config(model, recipe, first_layer), autocast_adapter_dtype=False)
    if recipe.method == "pissa":
        adapted.labkit_first = {key: value.detach().cpu().float().clone() for key, value in _peft_state(adapted).items()}
    if recipe.method in ("lora", "rslora", "pissa") and not recipe.dropout and not recipe.shard:
        _fuse(adapted)
    return adapted


def _peft_state(model: "torch.nn.Module", exact: "Mapping[str, torch.Tensor] | None" = None) -> "dict[str, torch.Tensor]":
    """What PEFT would save, under its names, with the float32 values of `exact` where it has them."""
    from peft import get_peft_model_state_dict

    state = {key: (exact or {}).get(key, value) for key, value in model.state_dict(keep_vars=True).items()}
    return get_peft_model_state_dict(model, state_dict=state)


def first_layer(recipe: Recipe, count: int) -> int:
    """The lowest of `count` layers that learns: the recipe's `layers` are counted from the top, and 0 means all."""
    return max(0, count - recipe.layers) if recipe.layers else 0


def inner(model: "torch.nn.Module") -> "torch.nn.Module":
    """The model as transformers knows it, without PEFT around it."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def trunk(model: "torch.nn.Module") -> "torch.nn.Module":
    """The part that holds the layers: a decoder's stack, an encoder's `encoder`, or the model itself."""
    plain = inner(model)
    if hasattr(plain, "get_decoder") and plain.get_decoder() is not None and hasattr(plain.get_decoder(), "layers"):
        return plain.get_decoder()
    return getattr(plain, "encoder", plain)


def layers(model: "torch.nn.Module") -> "torch.nn.ModuleList":
    """The model's layers from the lowest up; LabError where they are no plain list."""
    import torch

    for name in _PATTERNS:
        found = getattr(trunk(model), name, None)
        if isinstance(found, torch.nn.ModuleList):
            return found
    raise LabError(f"{type(inner(model)).__name__}: its layers are not a plain list; choose method = \"full\"")


def _config(model: "torch.nn.Module", recipe: Recipe, first_layer: int):
    import torch
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    writes = "CAUSAL_LM" if model.get_output_embeddings() is not None and hasattr(model, "get_decoder") else None
    if recipe.method in _VIRTUAL:
        if writes is None:
            raise LabError(f"method {recipe.method!r} is for decoders; choose lora for an encoder")
        kind = PrefixTuningConfig if recipe.method == "prefix" else PromptTuningConfig
        return kind(num_virtual_tokens=recipe.virtual_tokens, task_type=writes)
    stack = layers(model)
    targets = sorted({name.rsplit(".", 1)[-1] for name, module in stack[0].named_modules() if isinstance(module, torch.nn.Linear)})
    if not targets:
        raise LabError(f"{type(model).__name__} has no linear maps that {recipe.method} could adapt")
    pattern = next(name for name in _PATTERNS if getattr(trunk(model), name, None) is stack)
    if recipe.method == "ia3":
        inside = [name for name, _ in stack[0].named_modules() if name]
        scaled = [name for name in inside if name.endswith(("k_proj", "v_proj", ".key", ".value"))]
        fed = [name for name in inside if name.endswith("down_proj") or name == "output.dense"]
        if not scaled or not fed:
            raise LabError(f"{type(model).__name__}: ia3 does not know its keys, values and MLP; choose lora")
        chosen = "|".join(str(number) for number in range(first_layer, len(stack)))
        place = lambda names: rf".*\.{pattern}\.({chosen})\.({'|'.join(name.replace('.', chr(92) + '.') for name in names)})"  # noqa: E731
        return IA3Config(target_modules=place(scaled + fed), feedforward_modules=place(fed), task_type=writes)
    start: Any = "pissa_niter_16" if recipe.method == "pissa" else True
    return LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=targets, init_lora_weights=start,
                      use_rslora=recipe.method == "rslora", use_dora=recipe.method == "dora",
                      layers_to_transform=list(range(first_layer, len(stack))), layers_pattern=pattern, task_type=writes)


def _fuse(model: "torch.nn.Module") -> None:
    """Let the adapted maps and the norms compute by `fused`: PEFT's own way scales and adds whole outputs, in two passes over memory more
    and two more in the gradient, and a norm's takes a dozen passes. Where a module has a forward of its own already (`liger`), that
    stays."""
    from peft.tuners.lora import Linear

    own_way = {module for module in model.modules() if "forward" in vars(module)}
    first_of: dict[torch.nn.Module, fused.Adapted] = {}  # the maps that see what enters a module
    for module in model.modules():
        own = {name: child for name, child in module.named_children() if isinstance(child, Linear)}
        together = {names: [own[name] for name in names] for names in _TOGETHER if own.keys() >= set(names)}
        fused_maps = {names: _fuse_maps(maps) for names, maps in together.items()}
        by_map = {name: _fuse_maps([child]) for name, child in own.items() if not any(child in maps for maps in together.values())}
        for names, adapted in fused_maps.items():
            if names == _ATTENTION and type(module).__name__ in packed_attention.KINDS:
                module.forward = functools.partial(shared_prefix.attention, module, module.forward, adapted)
            silu = type(getattr(module, "act_fn", None)).__name__ in _SILU
            if names == _GATED and silu and hasattr(module, "down_proj") and module not in own_way:
                module.forward = functools.partial(_gated, module, adapted, by_map.get("down_proj"))
            first_of[module] = adapted
        if type(module).__name__ in _PLAIN_NORMS and module not in own_way:
            module.forward = functools.partial(fused.rms_norm, weight=module.weight, eps=module.variance_epsilon)
    for layer in layers(model):
        for norm, reader in _READ_BY.items():
            norm, reader = (getattr(layer, name, None) for name in (norm, reader))
            if type(norm).__name__ in _PLAIN_NORMS and norm not in own_way and reader in first_of:
                norm.forward = functools.partial(norm.forward, then=first_of[reader])


def _gated(mlp: "torch.nn.Module", adapted: fused.Adapted, then: fused.Adapted | None, states: "torch.Tensor") -> "torch.Tensor":
    return mlp.down_proj(fused.gated(adapted.together(states), then))


def _fuse_maps(maps: list) -> fused.Adapted:
    """One `fused.Adapted` behind the forward of each of these maps, which are all called with the same states."""
    bases = [each.get_base_layer() for each in maps]
    downs, ups = ([getattr(each, name)["default"].weight for each in maps] for name in ("lora_A", "lora_B"))
    adapted = fused.Adapted([base.weight for base in bases], [base.bias for base in bases], downs, ups, maps[0].scaling["default"])
    shared = _Shared(adapted)
    for place, (each, base) in enumerate(zip(maps, bases, strict=True)):
        base.weight.data = adapted.weight(place)  # no second copy
        each.forward = functools.partial(shared, place)
    return adapted


class _Shared:
    """Calls maps together when the first of them is called, and gives the others theirs when they are called with the same states."""

    def __init__(self, adapted: fused.Adapted) -> None:
        self.adapted, self.states, self.left = adapted, None, {}

    def __call__(self, place: int, states: "torch.Tensor") -> "torch.Tensor":
        if self.states is not states or place not in self.left:
            self.states, self.left = states, dict(enumerate(self.adapted(states)))
        found = self.left.pop(place)
        if not self.left:
            self.states = None
        return found


def groups(masters: Masters, recipe: Recipe) -> list[dict[str, Any]]:
    """The optimiser's groups: LoRA's second matrices at `lora_plus` times the rate, heads at `head_rate` times; in the order of names."""
    found: dict[float, list] = {}
    for name, parameter in masters.items():
        faster = recipe.lora_plus if "lora_B" in name else recipe.head_rate if name.startswith("heads.") else 1.0
        found.setdefault(faster, []).append((name, parameter))
    return [{"params": params, "faster": faster} for faster, params in found.items()]


def save(model: "torch.nn.Module", masters: "Mapping[str, torch.Tensor]", base: BaseModel, folder: Path, tokenizer: Any = None,
         weights: "dict[str, torch.Tensor] | None" = None) -> list[str]:
    """Write what was learned into a run's folder, whole or not at all: `adapter/` as PEFT reads it (float32), or `model/` as transformers
    does (the whole model in its own number format, with its tokenizer; `weights` in place of its own where these are divided). Gives the
    files' names relative to the folder."""
    from safetensors import SafetensorError

    name = "adapter" if hasattr(model, "peft_config") else "model"
    part = folder / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if name == "adapter":
            _save_adapter(model, masters, base, part)
        else:
            model.save_pretrained(part, state_dict=weights)
            if tokenizer is not None:
                tokenizer.save_pretrained(part)
    except (OSError, SafetensorError) as error:  # a full disk comes as either
        shutil.rmtree(part, ignore_errors=True)
        raise LabError(f"cannot write {folder / name}: {getattr(error, 'strerror', None) or error}; free some space, then go on with the "
                       "same command") from error
    shutil.rmtree(folder / name, ignore_errors=True)
    os.replace(part, folder / name)
    return sorted(f"{name}/{path.name}" for path in (folder / name).iterdir())


def _save_adapter(model: "torch.nn.Module", masters: "Mapping[str, torch.Tensor]", base: BaseModel, part: Path) -> None:
    import torch
    from safetensors.torch import save_file

    config = model.peft_config["default"]
    before = (config.init_lora_weights, config.r, config.lora_alpha) if hasattr(config, "init_lora_weights") else None
    tensors = {key: value.detach().cpu().float().contiguous() for key, value in _peft_state(model, masters).items()}
    try:
        config.base_model_name_or_path, config.inference_mode = base.name, True
        if before and str(before[0]).startswith("pissa"):
            first = model.labkit_first
            for key in list(tensors):
                # The base was W - s B0 A0 while learning: W + s (B A - B0 A0) is LoRA of twice the rank on W itself.
                down = "lora_A" in key
                tensors[key] = torch.cat([tensors[key], first[key] if down else -first[key]], 0 if down else 1).contiguous()
            config.init_lora_weights, config.r, config.lora_alpha = True, 2 * config.r, 2 * config.lora_alpha
        config.save_pretrained(str(part))
    finally:
        config.inference_mode = False
        if before:
            config.init_lora_weights, config.r, config.lora_alpha = before
    with files.whole(part / "adapter_model.safetensors") as path:
        save_file(tensors, path, metadata={"format": "pt"})  # one key: safetensors writes several in any order
