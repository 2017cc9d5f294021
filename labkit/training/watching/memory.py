"""How much memory this process takes, and how much it may.

A GB is 2**30 bytes, as everywhere in the lab.
"""

import sys
from pathlib import Path

from labkit import process

_GB = 2**30
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # a container's, version 2 and 1


def resident_gb() -> float:
    """What this process holds in main memory now, in GB. About 40 µs."""
    import psutil

    return psutil.Process().memory_info().rss / _GB


def peak_gb() -> float:
    """The most this process has ever held in main memory, in GB."""
    import psutil

    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / _GB
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / _GB if sys.platform == "darwin" else most * 1024 / _GB  # bytes there, KiB elsewhere


def limit_gb() -> float:
    """What this process may hold: the machine's main memory, or its container's limit where that is lower, in GB."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for path in _GROUP_LIMITS:
        if path.is_file() and (said := path.read_text().strip()).isdigit():  # "max" where there is none
            limits.append(int(said))
    return min(limits) / _GB


def device_gb() -> tuple[float, float, float] | None:
    """Of the GPU at work, in GB: what PyTorch holds now, the most it has held, and what there is in all. None without a GPU, or while
    torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return torch.cuda.memory_reserved() / _GB, torch.cuda.max_memory_reserved() / _GB, total / _GB


def make_room() -> None:
    """Give back what is free, of main memory and of a GPU's, where memory did not suffice."""
    import torch

    process.release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or PyTorch on a processor or a GPU, says by this that it finds no memory."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return "DefaultCPUAllocator" in said or "can't allocate memory" in said or "out of memory" in said.lower()
