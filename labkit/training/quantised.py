"""A decoder as training loads it: in the recipe's number format, or with its linear maps in 4 bits (QLoRA, Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314: NormalFloat, the scales quantised once more, products in the number format).

The maps are kept by bitsandbytes, on a GPU or a processor. What is learned beside them is saved for the unchanged base.
"""

import importlib.util
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import liger, methods
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

ABLE = tuple(method for method in methods.ADDED if method != "pissa")  # these leave the base's own weights as they are


def decoder(recipe: Recipe, base: BaseModel, dtype: "torch.dtype", device: str) -> "torch.nn.Module":
    """The base as a causal language model on the device.

    Raises:
        LabError: bitsandbytes is not installed, or the method would change weights that are quantised.
    """
    from transformers import AutoModelForCausalLM

    if recipe.quantised == "none":
        model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype).to(device)
    else:
        model = _in_four_bits(recipe, base, dtype, device)
    liger.apply(model, device)
    return model


def _in_four_bits(recipe: Recipe, base: BaseModel, dtype: "torch.dtype", device: str) -> "torch.nn.Module":
    if recipe.method not in ABLE:
        raise LabError(f"recipe: method {recipe.method!r} changes the base's weights, which {recipe.quantised} keeps in 4 bits; "
                       f"choose one of {', '.join(ABLE)}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise LabError(f"recipe: quantised = {recipe.quantised!r} needs bitsandbytes: .venv/bin/pip install bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=recipe.quantised, bnb_4bit_use_double_quant=True,
                                bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype, quantization_config=config, device_map={"": device})
    _keep_gradients(model)
    return model


def _keep_gradients(model: "torch.nn.Module") -> None:
    """On a processor bitsandbytes 0.50 repacks a map's weights at the first pass without gradients, for kernels that have none: what is
    trained after a measurement would learn from wrong gradients, with a warning at most."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def form(recipe: Recipe, dtype: "torch.dtype") -> str:
    """What tells the states of one form of a base from another's: the number format, and how its maps are kept."""
    return str(dtype) if recipe.quantised == "none" else f"{dtype}, {recipe.quantised}"
