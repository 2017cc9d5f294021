"""A run's LoRA adapter as llama.cpp reads it: from PEFT's folder to one GGUF file, kept beside the run.

    RUN/adapter/adapter_model.safetensors  ──▶  RUN/serving/adapter-SHA8.gguf

The file carries the sha256 of the safetensors file it was made from (`labkit.adapter.sha256`) and of the base model
(`labkit.base.sha256`), so that an engine can say what it loaded. What a GGUF adapter cannot express is refused.
"""

import filecmp
import hashlib
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labkit import files
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.runs import Run

ADAPTER_KEY = "labkit.adapter.sha256"
BASE_KEY = "labkit.base.sha256"


@dataclass(frozen=True)
class Architecture:
    """llama.cpp's name for an architecture, and whether its files hold the rows of q and k in llama.cpp's own order.

    There, rotary pairs lie side by side; transformers keeps them half a head apart (convert_hf_to_gguf.py, `permute`).
    """

    name: str
    permutes: bool


ARCHITECTURES = {"llama": Architecture("llama", True), "mistral": Architecture("llama", True),
                 "qwen2": Architecture("qwen2", False), "qwen3": Architecture("qwen3", False)}

_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
_REFUSED = {"use_dora": "DoRA", "lora_bias": "a LoRA bias", "modules_to_save": "modules_to_save",
            "fan_in_fan_out": "fan_in_fan_out", "layer_replication": "layer replication",
            "trainable_token_indices": "trainable tokens", "target_parameters": "target_parameters",
            "alora_invocation_tokens": "activated LoRA", "use_qalora": "QA-LoRA", "use_bdlora": "BD-LoRA",
            "arrow_config": "Arrow", "kasa_config": "KaSA", "velora_config": "VeLoRA", "monteclora_config": "MonteCLoRA"}
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # they leave the base as it is


def for_llamacpp(run: Run, base: BaseModel) -> Path:
    """The run's adapter as a GGUF file, which is written where it is missing, stale or damaged.

    It is converted anew each time (24 ms for 6.5 MB, 0.24 s the first time in a process) and compared, so that a file
    that was altered is never used.

    Raises:
        LabError: a GGUF adapter cannot express this one; the message says what, and that the transformers engine can.
    """
    if run.learned_folder != run.adapter_folder:
        raise LabError(f"run {run.key} is a whole model and not an adapter, and has no GGUF; open it with the transformers engine")
    try:
        weights = (run.adapter_folder / "adapter_model.safetensors").read_bytes()
    except OSError as error:
        raise LabError(f"run {run.key}: its adapter cannot be read: {error}") from error
    digest = hashlib.sha256(weights).hexdigest()
    kept = run.folder / "serving" / f"adapter-{files.short(digest)}.gguf"
    config = files.read_json(run.adapter_folder / "adapter_config.json")
    with tempfile.TemporaryDirectory(prefix="labkit-") as folder:
        fresh = Path(folder) / kept.name
        try:
            convert(weights, config, files.read_json(base.folder / "config.json"), fresh,
                    {ADAPTER_KEY: digest, BASE_KEY: base.sha256})
        except LabError as error:
            raise LabError(f"run {run.key}: {error}; open it with the transformers engine") from None
        if not kept.exists() or not filecmp.cmp(fresh, kept, shallow=False):
            with files.whole(kept) as part:
                shutil.copyfile(fresh, part)
    for stale in kept.parent.glob("adapter-*.gguf"):
        if stale != kept:
            stale.unlink(missing_ok=True)
    return kept


def convert(weights: bytes, config: dict[str, Any], base_config: dict[str, Any], path: Path,
            metadata: dict[str, str]) -> None:
    """Write the adapter in `weights` (a safetensors file's bytes) with PEFT's `config` as a GGUF adapter.

    Raises:
        LabError: the base's architecture or something in the adapter has no form in a GGUF adapter.
    """
    import gguf
    from safetensors import SafetensorError
    from safetensors.torch import load

    _check_config(config)
    architecture = _architecture(base_config)
    try:
        pairs = _pairs(load(weights))
    except SafetensorError as error:
        raise LabError(f"adapter_model.safetensors is damaged: {error}") from error
    names = gguf.get_tensor_name_map(_gguf_architecture(architecture), base_config["num_hidden_layers"])
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    for key, value in metadata.items():
        writer.add_string(key, value)
    alpha = None  # one for the whole file: what differs from it goes into B
    for module, (a, b) in sorted(pairs.items()):  # A (rank, in), B (out, rank)
        wanted = scale(config, module, len(a)) * len(a)  # llama.cpp scales by alpha / rank
        if alpha is None:
            alpha = wanted
            writer.add_float32("adapter.lora.alpha", alpha)
        name = names.get_name(module)
        if name is None:
            raise LabError(f"llama.cpp has no place for an adapter on {module}")
        if architecture.permutes and module.endswith((".q_proj", ".k_proj")):
            heads = base_config["num_attention_heads"]
            b = permuted(b, heads if module.endswith(".q_proj") else base_config.get("num_key_value_heads") or heads)
        writer.add_tensor(f"{name}.weight.lora_a", a)
        writer.add_tensor(f"{name}.weight.lora_b", b if wanted == alpha else b * np.float32(wanted / alpha))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def scale(config: dict[str, Any], module: str, rank: int) -> float:
    """What PEFT multiplies a module's B·A with: alpha / rank, or alpha / √rank (rsLoRA, Kalajdzievski 2023)."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # as PEFT's get_pattern_key reads it: the first that fits
            alpha = value
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads · width, …) with the two halves of each head interleaved."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _check_config(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise LabError(f"llama.cpp takes LoRA adapters, not {config.get('peft_type')}")
    for key, title in _REFUSED.items():
        if config.get(key):
            raise LabError(f"llama.cpp cannot express {title}")
    if config.get("bias", "none") != "none":
        raise LabError(f"llama.cpp cannot express an adapter with biases (bias = {config['bias']!r})")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        start = config["init_lora_weights"]
        raise LabError(f"llama.cpp cannot express an adapter that changes the base ({start!r} initialisation)")


def _architecture(base_config: dict[str, Any]) -> Architecture:
    kind = base_config.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise LabError(f"adapters for {kind!r} models cannot be converted for llama.cpp (only {known})")
    return ARCHITECTURES[kind]


def _gguf_architecture(architecture: Architecture):
    import gguf

    return next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)


def _pairs(tensors: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The two float32 matrices of each module."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if not match:
            raise LabError(f"llama.cpp cannot express the adapter's tensor {name}")
        found.setdefault(match[1], {})[match[2]] = tensor.float().numpy()
    if not found or any(len(pair) != 2 for pair in found.values()):
        raise LabError("adapter_model.safetensors lacks matrices: every module needs lora_A and lora_B")
    return {module: (pair["A"], pair["B"]) for module, pair in found.items()}
