"""Which number format a training runs in on this machine."""


def best_precision(wanted: str = "auto") -> str:
    """`bf16` or `fp32`: what `auto` means on this machine (bfloat16 where the processor or the GPU multiplies it natively)."""
    import torch

    if wanted != "auto":
        return wanted
    native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"
