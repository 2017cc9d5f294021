"""A base model's GGUF in the form that llama.cpp multiplies fastest here, made once and kept in the cache.

llama.cpp has no blocked kernels for Q4_1: on one core of an AMD EPYC a prompt takes 5.7 ms a token and an answer 13.4 ms. The
same weights as Q8_0 take 2.8 and 11.2 ms, for 145 MB in place of 98. The second rounding is as fine as bfloat16's, in which
training sees these weights: at most 1/254 of the largest of 32 weights, where Q4_1 itself has steps of 1/15 of their range.
With Q8_0 llama.cpp rounds the states too, 32 at a time. That is coarsest before the down projection, whose inputs have the widest
range, and in attention: those weights are kept as F16, so that nothing is rounded there. (Label
fields of medical's default run that agree with float32, of 101: 97 with the first, 100 with both, at 2% fewer tokens a second; the file
has 195 MB.)

    CACHE/gguf/SOURCE8.Q8_0.gguf, and beside it a manifest with the sha256 of both, written last
"""

import ctypes
from pathlib import Path

from labkit import files, models, places
from labkit.errors import LabError
from labkit.models import BaseModel

SLOW = ("Q4_1",)
_LAYOUT = 3
_EXACT = rb"ffn_down|attn_"  # names of the tensors that stay F16, a regular expression
_F16 = 1  # ggml's number of the format


def for_llamacpp(base: BaseModel) -> Path:
    """The file to load for `base`: its own GGUF, or that in Q8_0 where its own is in a format of `SLOW`.

    Raises:
        LabError: the base's file is not what its hash says, or the cache cannot be written.
    """
    from filelock import FileLock

    source = models.hash_file(base.gguf)
    if source != base.sha256:
        raise LabError(f"{base.gguf} ({files.short(source)}) is not the base model {base.name} "
                       f"({files.short(base.sha256)}); reinstall it")
    if not _is_slow(base.gguf):
        return base.gguf
    kept = places.cache_folder() / "gguf" / f"{files.short(source)}.Q8_0.gguf"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):  # two panes that open at once make it once
            if not _is_whole(kept, source):
                _convert(base.gguf, source, kept)
    except OSError as error:
        raise LabError(f"cannot write {kept}: {error.strerror or error}; set LABKIT_CACHE to another folder") from error
    return kept


def source_of(path: Path, base: BaseModel) -> str:
    """The sha256 that stands for the weights in `path`, from the bytes that are there now: of the base's own GGUF.

    Raises:
        LabError: the file is neither the base's GGUF nor one made from it.
    """
    digest = models.hash_file(path)
    if digest == base.sha256:
        return digest
    if path != base.gguf and _is_whole(path, base.sha256):
        return base.sha256
    raise LabError(f"{path} ({files.short(digest)}) does not hold the base model {base.name} ({files.short(base.sha256)}); "
                   "delete it and try again")


def _is_slow(path: Path) -> bool:
    """Whether most of its matrices are in a slow format."""
    from gguf import GGUFReader

    kinds = [tensor.tensor_type.name for tensor in GGUFReader(path).tensors if len(tensor.shape) > 1]
    return 2 * sum(kind in SLOW for kind in kinds) > len(kinds)


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_whole(path: Path, source: str) -> bool:
    if not path.exists() or not _manifest(path).exists():
        return False
    return files.read_json(_manifest(path)) == {"layout": _LAYOUT, "source": source, "sha256": models.hash_file(path)}


def _convert(source_path: Path, source: str, path: Path) -> None:
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    settings.allow_requantize = True
    overrides = (llama_cpp.llama_cpp.llama_model_tensor_override * 2)()  # the second, empty, ends the list
    overrides[0].pattern, overrides[0].type = _EXACT, _F16
    settings.tt_overrides = overrides
    _manifest(path).unlink(missing_ok=True)
    with files.whole(path) as part:
        code = llama_cpp.llama_model_quantize(str(source_path).encode(), str(part).encode(), ctypes.byref(settings))
        if code:
            raise LabError(f"cannot write {path} (llama.cpp: {code}); free 220 MB there, or set LABKIT_CACHE to another folder")
    files.write_json(_manifest(path), {"layout": _LAYOUT, "source": source, "sha256": models.hash_file(path)})
