"""How a process of the lab behaves towards the network, the machine's cores and its memory."""

import contextlib
import ctypes
import gc
import os
import sys

# glibc's numbers for `mallopt`, and what is set: free memory is kept for the next tensor of the size rather than given back and
# zeroed again by the system page by page, which took an eighth of a training step.
_KEPT_MEMORY = {-1: 1 << 30, -2: 1 << 27, -3: 1 << 30}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD


def prepare() -> None:
    """Keep the hub's client from asking the network unless `LABKIT_ONLINE=1`, let idle threads sleep, and keep freed memory at
    hand (`release_memory` gives it back). Called before torch or transformers is imported.

    What the environment says already stays.
    """
    if os.environ.get("LABKIT_ONLINE") != "1":
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A thread that waits for the others would spin, and take the core from whatever else is at work.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for number, value in _KEPT_MEMORY.items():
        _libc("mallopt", number, value)


def release_memory() -> None:
    """Give free memory back to the system: models hold themselves in cycles, and tensors of ever other sizes leave holes, so that
    a process which built four runs in turn held 5 GB where one run takes 2.4."""
    gc.collect()
    _libc("malloc_trim", 0)


def _libc(name: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            getattr(ctypes.CDLL(None), name)(*arguments)
