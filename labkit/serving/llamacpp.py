"""llama.cpp under an engine: the base's weights (see `weights`) with an adapter of its own in a context of its own.

Every engine loads its own model, so that an adapter cannot reach another engine's context. Uses llama.cpp's C interface as
`llama_cpp` gives it.
"""

import collections
import ctypes
import functools
import sys

import llama_cpp
import numpy as np

from labkit import models
from labkit.errors import LabError
from labkit.files import short
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.serving import Engine, Weights, adapters, weights
from labkit.serving.chat import ChatTokens
from labkit.serving.engine import CONTEXT, ChatEngine, chunk_for

NAME = "llama.cpp"


def open_engine(base: BaseModel, run: Run | None, threads: int | None) -> Engine:
    """See `labkit.serving.open_engine`, which has checked the arguments."""
    if base.gguf is None:
        raise LabError(f"base model {base.name} has no GGUF file for llama.cpp; open it with the transformers engine")
    chat = ChatTokens(base.folder)
    backend = LlamaCpp(base, run)
    try:
        backend.check_vocabulary(chat)
        if run is not None and backend.adapter_sha256 != run.weights_sha256():
            raise LabError(f"run {run.key}: the loaded adapter ({short(backend.adapter_sha256)}) is not the manifest's; "
                           "train it anew")
        loaded = Weights(base.name, backend.base_sha256, backend.adapter_sha256, NAME)
        return ChatEngine(backend, chat, loaded, threads)
    except BaseException:
        backend.close()
        raise


class LlamaCpp:
    """A `Backend` (see labkit.serving.engine). `base_sha256` and `adapter_sha256` are those of what is loaded."""

    def __init__(self, base: BaseModel, run: Run | None) -> None:
        _start()
        self._model = self._adapter = self._context = self._batch = None
        try:
            self._load_base(base)
            self.adapter_sha256 = self._load_adapter(run, base) if run is not None else None
            self._open_context()
        except BaseException:
            self.close()
            raise

    def _load_base(self, base: BaseModel) -> None:
        path = weights.for_llamacpp(base)
        before = models.hash_file(path)
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 999 if llama_cpp.llama_supports_gpu_offload() else 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if self._model is None:
            raise LabError(f"llama.cpp cannot read {path}: {_last_error()}")
        if models.hash_file(path) != before:
            raise LabError(f"{path} changed while it was loaded; try again")
        self.base_sha256 = weights.source_of(path, base)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._tokens = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self.context = min(CONTEXT, llama_cpp.llama_model_n_ctx_train(self._model))
        self.chunk = min(chunk_for(llama_cpp.llama_model_n_params(self._model)), self.context)

    def _load_adapter(self, run: Run, base: BaseModel) -> str:
        path = adapters.for_llamacpp(run, base)
        self._adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
        if not self._adapter:
            self._adapter = None
            raise LabError(f"run {run.key}: llama.cpp does not take its adapter: {_last_error()}; "
                           "open it with the transformers engine")
        if self._adapter_says(adapters.BASE_KEY) != self.base_sha256:
            raise LabError(f"run {run.key}: its adapter belongs to another base model than {base.name}")
        return self._adapter_says(adapters.ADAPTER_KEY)

    def _adapter_says(self, key: str) -> str:
        text = ctypes.create_string_buffer(128)
        length = llama_cpp.llama_adapter_meta_val_str(self._adapter, key.encode(), text, len(text))
        return text.value.decode() if length > 0 else ""

    def _open_context(self) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = self.context
        parameters.n_batch = parameters.n_ubatch = self.chunk
        # 165 to 170 tokens/s in two contexts, 150 without
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if self._context is None:
            raise LabError(f"llama.cpp cannot open a context of {self.context} tokens: {_last_error()}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(self.chunk, 0, 1)
        if self._adapter is not None:
            one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(self._adapter)
            if llama_cpp.llama_set_adapters_lora(self._context, one, 1, (ctypes.c_float * 1)(1.0)):
                raise LabError(f"llama.cpp cannot use the adapter: {_last_error()}")

    def check_vocabulary(self, chat: ChatTokens) -> None:
        """LabError unless the GGUF's tokens are the tokenizer's: it gets ids, so they must mean the same."""
        for token in (*chat.ends, *range(0, len(chat), 997), len(chat) - 1):
            here = llama_cpp.llama_vocab_get_text(self._vocabulary, token) if token < self._tokens else b""
            if here.decode(errors="replace") != chat.text_of(token):
                raise LabError(f"the GGUF file's vocabulary is not the tokenizer's: token {token} is {here!r}, "
                               f"not {chat.text_of(token)!r}; use a GGUF and a tokenizer of the same model")

    def evaluate(self, tokens: list[int], start: int, threads: int, wanted: bool = True) -> np.ndarray | None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for row, token in enumerate(tokens):
            batch.token[row] = token
            batch.pos[row] = start + row
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = 0
            batch.logits[row] = wanted and row == len(tokens) - 1
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}: {_last_error()}")
        if not wanted:
            return None
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, shape=(self._tokens,)).copy()  # the buffer may be freed in another thread

    def forget(self, start: int) -> int:
        if llama_cpp.llama_memory_seq_rm(self._memory, 0, start, -1):
            return start
        llama_cpp.llama_memory_clear(self._memory, True)  # recurrent layers keep no past
        return 0

    def close(self) -> None:
        if self._batch is not None:
            llama_cpp.llama_batch_free(self._batch)
        if self._context is not None:
            llama_cpp.llama_free(self._context)
        if self._adapter is not None:
            llama_cpp.llama_adapter_lora_free(self._adapter)
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
        self._model = self._adapter = self._context = self._batch = None

    def __del__(self, exiting=sys.is_finalizing) -> None:  # bound here: at the end of the process the module has no names left
        if not exiting():
            self.close()


_errors: collections.deque[str] = collections.deque(maxlen=3)


@llama_cpp.llama_log_callback
def _keep_errors(level: int, text: bytes, _data) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR; all else is chatter
        _errors.append(text.decode(errors="replace").strip())


@functools.cache
def _start() -> None:
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_keep_errors, ctypes.c_void_p(0))


def _last_error() -> str:
    return " ".join("; ".join(_errors).split()) or "it does not say why"
