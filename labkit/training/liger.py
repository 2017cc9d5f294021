"""Liger's kernels (https://github.com/linkedin/Liger-Kernel) for a decoder on a GPU, where the package `liger-kernel` is installed: norms
and gated activations in one pass over memory each.

Its losses are left out, since scores are made for answer tokens only here (`objective`); and its rotary embedding, which is a function of
the architecture and would be another one for all models of the process. What else it replaces there, beside the model's own modules, is
put back.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def usable(device: str) -> bool:
    """Whether models on this device can have them."""
    from transformers.utils import is_liger_kernel_available

    return device.startswith("cuda") and is_liger_kernel_available()


def apply(model: "torch.nn.Module", device: str) -> None:
    """Put them into a transformers model in place; nothing happens without a GPU, without the package, or for a kind of model that it does
    not know."""
    if not usable(device):
        return
    from transformers.integrations.liger import apply_liger_kernel

    architecture = vars(sys.modules[type(model).__module__])
    before = dict(architecture)
    apply_liger_kernel(model, {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False})
    architecture.update(before)
