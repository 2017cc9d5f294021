"""How a process of the lab behaves towards the network, the machine's cores and its memory."""

import contextlib
import ctypes
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator


def prepare() -> None:
    """Keep the hub's client from asking the network unless `LABKIT_ONLINE=1`, let idle threads sleep, and bound what oneDNN keeps.
    Called before torch or transformers is imported.

    What the environment says already stays.
    """
    if os.environ.get("LABKIT_ONLINE") != "1":
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft asks transformers by the old name; nobody here can change that.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    # bitsandbytes, which PEFT imports, misses kernels for inference that it would load from the network.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # A thread that waits for the others would spin, and take the core from whatever else is at work.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # oneDNN (and PyTorch above it) keeps 1024 compiled products of other shapes, with memory of their own. Training has few shapes
    # (`training.shared_prefix` fills batches up); what has many would hold twice the memory: 3.0 GB after 80 steps in place of 1.6.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "256")


def multiplies_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: its GPU, where there is one, else its processor."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Meanwhile this process, and what it starts, has this environment variable; afterwards it is as before."""
    had = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if had is None:
            del os.environ[name]
        else:
            os.environ[name] = had


def release_memory() -> None:
    """Give free memory back to the system: models hold themselves in cycles, and tensors of ever other sizes leave holes, so that
    a process which built four runs in turn held 5 GB where one run takes 2.4."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
