"""Which number format a training runs in on this machine, and where."""

from typing import TYPE_CHECKING

from labkit import process

if TYPE_CHECKING:
    import torch


def best_precision(wanted: str = "auto") -> str:
    """`bf16` or `fp32`: what `auto` means on this machine (bfloat16 where the processor or the GPU multiplies it natively)."""
    if wanted != "auto":
        return wanted
    return "bf16" if process.multiplies_bf16() else "fp32"


def dtype_of(wanted: str = "auto") -> "torch.dtype":
    """The same as PyTorch's type."""
    import torch

    return torch.bfloat16 if best_precision(wanted) == "bf16" else torch.float32


def device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
