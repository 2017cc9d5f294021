"""transformers and PEFT under an engine: any base model with a folder, on a CUDA GPU or the processor."""

import functools
import hashlib
from typing import Any

import numpy as np

from labkit import files, models, process
from labkit.errors import LabError
from labkit.files import short
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.serving import Engine, Weights
from labkit.serving.chat import ChatTokens
from labkit.serving.engine import CONTEXT, ChatEngine, chunk_for

NAME = "transformers"

_GPU_CHUNK = 512


def open_engine(base: BaseModel, run: Run | None, threads: int | None) -> Engine:
    """See `labkit.serving.open_engine`, which has checked the arguments."""
    chat = ChatTokens(base.folder)
    backend = Transformers(base, run)
    if run is not None and backend.adapter_sha256 != run.weights_sha256():
        raise LabError(f"run {run.key}: the loaded adapter ({short(backend.adapter_sha256)}) is not the manifest's; "
                       "train it anew")
    return ChatEngine(backend, chat, Weights(base.name, backend.base_sha256, backend.adapter_sha256, NAME), threads)


class Transformers:
    """A `Backend` (see labkit.serving.engine). `base_sha256` and `adapter_sha256` are those of what is loaded."""

    def __init__(self, base: BaseModel, run: Run | None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        before = _loaded_hash(base)
        try:
            own = run is not None and run.learned_folder != run.adapter_folder  # the run is a whole model
            learned = _learned_hash(run) if run is not None else None
            folder = run.learned_folder if own else base.folder
            model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=best_dtype(), local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise LabError(f"base model {base.name} cannot be loaded from {base.folder}: {reason}") from error
        self.base_sha256 = _loaded_hash(base)
        if self.base_sha256 != before:
            raise LabError(f"{base.folder} changed while it was loaded; try again")
        adapted = _with_adapter(model, run) if run is not None and not own else model
        self.adapter_sha256 = _learned_hash(run) if run is not None else None
        if self.adapter_sha256 != learned:
            raise LabError(f"{run.learned_folder} changed while it was loaded; try again")
        adapted.to(self._device).eval()
        self._model, self._learned = model, _what_comes_first(adapted)  # PEFT puts its maps into the model itself
        self._before = 0 if self._learned is None else self._learned.active_peft_config.num_virtual_tokens
        self.context = min(CONTEXT, getattr(model.config, "max_position_embeddings", None) or CONTEXT) - self._before
        self.chunk = min(_GPU_CHUNK if self._device.type == "cuda" else chunk_for(model.num_parameters()), self.context)
        self._held = 0
        self._cache: Any = None

    def evaluate(self, tokens: list[int], start: int, threads: int, wanted: bool = True) -> np.ndarray | None:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                if self._cache is None:
                    self._cache = self._begun()
                rows = torch.tensor([tokens], device=self._device)  # (1, tokens)
                output = self._model(input_ids=rows, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
                self._held = start + len(tokens)
                return output.logits[0, -1].float().cpu().numpy() if wanted else None
        finally:
            torch.set_num_threads(before)

    def forget(self, start: int) -> int:
        if self._cache is not None and self._held != start:
            window = any(getattr(layer, "is_sliding", False) for layer in self._cache.layers)
            if start == 0 or window or self._cache.get_seq_length() != self._before + self._held:
                self._cache, start = None, 0
            else:
                self._cache.crop(start - self._held)  # a negative number: so many are dropped
        self._held = start
        return start

    def close(self) -> None:
        self._model = self._learned = self._cache = None

    def _begun(self):
        """The KV cache that a chat begins with: empty, a learned prefix, or what a learned prompt's embeddings make."""
        from transformers import DynamicCache

        if self._learned is None:
            return DynamicCache(config=self._model.config)
        first = self._learned.get_prompt(1)
        if self._learned.active_peft_config.peft_type.value == "PREFIX_TUNING":
            return first
        cache = DynamicCache(config=self._model.config)
        self._model.get_decoder()(inputs_embeds=first.to(self._model.dtype), past_key_values=cache, use_cache=True)
        return cache


@functools.cache
def best_dtype():
    """bfloat16 where the GPU or processor multiplies it in hardware, else float16 on a GPU and float32 on a processor."""
    import torch

    if process.multiplies_bf16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.is_available() else torch.float32


def _loaded_hash(base: BaseModel) -> str:
    """The base's hash from the folder's own files: over its safetensors, or of the GGUF from which they were made."""
    weights = models.folder_hash(base.folder)
    if weights == base.sha256:
        return weights
    path = base.folder / "manifest.json"
    made = files.read_json(path) if path.exists() else {}
    if made.get("weights") == weights and made.get("gguf") == base.sha256:
        return base.sha256
    raise LabError(f"{base.folder} does not hold the base model {base.name} ({short(base.sha256)})")


def _learned_hash(run: Run) -> str:
    """The sha256 of what a run learned, from the bytes that are there now: of its one file, or over the hashes of several."""
    found = sorted(files.sha256_of(path) for path in run.learned_folder.glob("*.safetensors"))
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def _with_adapter(model, run: Run):
    """The model with the run's adapter, as PEFT wraps it."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(run.weights_path)
        config = PeftConfig.from_pretrained(str(run.adapter_folder))
        config.inference_mode = True
        adapted = get_peft_model(model, config)
        loaded = set_peft_model_state_dict(adapted, tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"run {run.key}: its adapter does not fit the base model: {reason}") from error
    missing = [name for name in loaded.missing_keys if "lora_" in name or "ia3_" in name]
    # A prefix or prompt is one tensor, which PEFT puts in its place after it found none of this name.
    unknown = [name for name in loaded.unexpected_keys if not (config.is_prompt_learning and name == "prompt_embeddings")]
    if unknown or missing:
        raise LabError(f"run {run.key}: its adapter does not fit the base model ({len(missing)} tensors missing, {len(unknown)} too many)")
    return adapted


def _what_comes_first(model):
    """PEFT's model where a prefix or a prompt was learned, which comes before every chat; None where maps were."""
    config = getattr(model, "active_peft_config", None)
    return model if config is not None and config.is_prompt_learning else None
