"""What stands between a decoder layer's matrix products, on a processor, each in one pass over memory (`kernels.cpp`, `attention.cpp`).

    norm     x / sqrt(mean(x^2) + eps) w                           (rows, size)
    gated    silu(g) u, g and u side by side                       (rows, 2 size) to (rows, size)
    gelu     x Phi(x), Phi the normal distribution (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)
    attend   attention of packed rows, causal with a shared prefix and positions turned (rotary position embedding, Su et al. 2021,
             https://arxiv.org/abs/2104.09864) or both ways, from the maps' outputs to the heads' results; see `packed_attention`
    dropout  with numbers that follow from a seed and the place, so that no mask is kept

PyTorch takes five to fifteen passes for each of these. The files are compiled with the machine's C++ compiler for its processor, once (five
seconds), into the virtual environment. Where that cannot be, or the tensors are on a GPU, `usable` says so, and callers compute with
PyTorch.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files, places
from labkit.errors import LabError

if TYPE_CHECKING:
    import torch

_FOLDER = Path(__file__).parent
_SOURCES, _HEADER = [_FOLDER / "kernels.cpp", _FOLDER / "attention.cpp"], _FOLDER / "numbers.h"
# Sums may be taken in any order, so that they become vectors; what is not a number stays that.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math",
          "-fno-signed-zeros", "-fassociative-math")
_LEAST_ROWS, _COLUMNS, _MOST_PARTS = 192, (256, 1024), 4  # where dividing gains, measured at two threads
_NUMBER, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_ARGUMENTS = {
    "norm_forward": [_POINTER, _POINTER, _FLOAT, _POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER],
    "norm_backward": [_POINTER] * 5 + [_NUMBER] * 2,
    "gated_forward": [_POINTER] * 2 + [_NUMBER] * 3,
    "gated_backward": [_POINTER] * 3 + [_NUMBER] * 2,
    "gelu_forward": [_POINTER] * 2 + [_NUMBER],
    "gelu_backward": [_POINTER] * 3 + [_NUMBER],
    "dropout": [_POINTER] * 2 + [_NUMBER] * 3 + [_FLOAT],
    "attend_forward": [_POINTER] * 5 + [_NUMBER] * 2 + [_POINTER] * 3 + [_FLOAT] * 2,
    "attend_backward": [_POINTER] * 7 + [_NUMBER] * 2 + [_POINTER, _NUMBER] + [_POINTER] * 3 + [_FLOAT] * 2,
}


def usable(tensor: "torch.Tensor") -> bool:
    """Whether the kernels can compute with tensors like this one on this machine."""
    return tensor.device.type == "cpu" and str(tensor.dtype) in ("torch.float32", "torch.bfloat16") and _library() is not None


def call(name: str, *arguments: "torch.Tensor | int | float") -> None:
    """Run a kernel; the type of the first tensor says which form of it. Tensors must be contiguous and of the shapes that the files
    name: nothing is checked there."""
    assert all(isinstance(each, int | float) or each.is_contiguous() for each in arguments)
    form = str(arguments[0].dtype).removeprefix("torch.")
    getattr(_library(), f"{name}_{form}")(*(each if isinstance(each, int | float) else each.data_ptr() for each in arguments))


def product(left: "torch.Tensor", right: "torch.Tensor", add: "torch.Tensor | None" = None) -> "torch.Tensor":
    """left (m, k) times right (k, n), plus `add` (m, n), whose columns must lie side by side.

    On processors with AMX oneDNN gives a product of some 400 to 1,300 rows and up to 1,000 columns to one thread alone; there the rows are
    divided among the threads here (at two threads 650 in place of 370 GF/s for (1152, 3072) by (3072, 608); PyTorch 2.13).
    """
    import torch

    threads = torch.get_num_threads()
    if not (_dividing() and 2 <= threads <= _MOST_PARTS and str(left.dtype) == "torch.bfloat16" and left.device.type == "cpu"
            and len(left) >= _LEAST_ROWS * threads and _COLUMNS[0] <= right.shape[1] <= _COLUMNS[1]):
        return left @ right if add is None else torch.addmm(add, left, right)
    out = left.new_empty(len(left), right.shape[1])
    failed = _library().product(left.data_ptr(), right.data_ptr(), 0 if add is None else add.data_ptr(), out.data_ptr(), len(left),
                                left.shape[1], right.shape[1], *left.stride(), *right.stride(), 0 if add is None else add.stride(0),
                                out.stride(0), threads)
    if failed:
        raise RuntimeError(f"a product of {tuple(left.shape)} and {tuple(right.shape)} failed in PyTorch")
    return out


@functools.cache
def _dividing() -> bool:
    """Whether products are divided here: the processor has AMX, and PyTorch the functions that it takes."""
    import torch

    library = _library()
    if library is None or not torch.cpu._is_amx_tile_supported():
        return False
    try:
        own = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        functions = [getattr(own, f"aoti_torch_{name}") for name in
                     ("create_tensor_from_blob", "delete_tensor_object", "cpu_mm_out", "cpu_addmm_out")]
    except (OSError, AttributeError):
        return False
    library.connect.argtypes, library.connect.restype = [_POINTER] * 4, None
    library.product.argtypes, library.product.restype = [_POINTER] * 4 + [_NUMBER] * 10, ctypes.c_int32
    library.connect(*(ctypes.cast(function, _POINTER).value for function in functions))
    return True


@functools.cache
def _library() -> ctypes.CDLL | None:
    path = compiled()
    if path is None:
        return None
    import torch  # noqa: F401  its threads are used: OpenMP's library is looked for by name, and PyTorch has loaded its own

    found = ctypes.CDLL(str(path))
    for form in ("float32", "bfloat16"):
        for name, arguments in _ARGUMENTS.items():
            function = getattr(found, f"{name}_{form}")
            function.argtypes, function.restype = arguments, None
    return found


def compiled() -> Path | None:
    """The library for this processor, compiled where it is missing; None where no compiler can, or `LABKIT_KERNELS`
    is `off`."""
    if os.environ.get("LABKIT_KERNELS") == "off":
        return None
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    text = "".join(each.read_text() for each in [*_SOURCES, _HEADER])
    name = f"labkit-kernels-{hashlib.sha256((text + repr(_FLAGS) + _processor()).encode()).hexdigest()[:12]}.so"
    folders = [Path(sys.prefix) / "lib", places.cache_folder()]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / name
        if subprocess.run([compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(made)], capture_output=True).returncode:
            return None
        for folder in folders:
            try:
                with files.whole(folder / name) as part:
                    shutil.copyfile(made, part)
                return folder / name
            except LabError:  # not to be written
                continue
    return None


def _processor() -> str:
    """What decides which instructions may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))

