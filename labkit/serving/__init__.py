"""Engines: a base model, with or without a run's adapter, that answers a chat piece by piece and says what answered.

`open_engine` chooses one. Every engine streams, stops at once when asked, keeps the prompt's prefix in its KV cache
between turns, and carries `weights`: hashes of the bytes it really loaded. One engine answers one stream at a time;
several engines work side by side in threads. Engines know nothing about scenarios, records or pages.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from labkit import runs
from labkit.errors import LabError
from labkit.files import read_json, short
from labkit.models import BaseModel
from labkit.runs import Run

KINDS = ("auto", "llama.cpp", "transformers")

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 takes the likeliest token; `top_k` 0 and `top_p` 1 leave all tokens in.

    The same sampling and prompt give the same answer. `repeat_penalty` (1 = none) counts the answer's last 64 tokens,
    not the prompt's: the prompt lists the labels that an answer must repeat.

    Raises:
        LabError: a value is out of its range.
    """

    temperature: float = 0.0
    top_p: float = 0.95
    top_k: int = 40
    max_tokens: int = 192
    seed: int = 0
    repeat_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, fine, range_ in (("temperature", 0 <= self.temperature <= 10, "from 0 to 10"),
                                   ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
                                   ("top_k", self.top_k >= 0, "0 or more"),
                                   ("max_tokens", self.max_tokens >= 1, "1 or more"),
                                   ("seed", self.seed >= 0, "0 or more"),
                                   ("repeat_penalty", 0 < self.repeat_penalty <= 10, "above 0, at most 10")):
            if not fine:
                raise LabError(f"sampling: {name} must be {range_}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Weights:
    """What is loaded: the sha256 (hexadecimal) of the base model and of the adapter, None where there is none."""

    base_name: str
    base: str
    adapter: str | None
    engine: str


@dataclass(frozen=True)
class Speed:
    """One stream's speed. Time in which the caller did not ask for the next piece is not counted.

    `tokens` counts the tokens drawn, the one that ends the answer too; `tokens_per_second` those after the first;
    `stopped`: ended by the stop event or dropped half-way.
    """

    prompt_tokens: int
    tokens: int
    first_token_seconds: float
    tokens_per_second: float
    stopped: bool


class Engine(Protocol):
    """What can answer a chat. `speed` is of the last stream that finished or was stopped."""

    weights: Weights
    speed: Speed | None

    def stream(self, messages: Messages, sampling: Sampling, stop: threading.Event | None = None) -> Iterator[str]:
        """The answer as pieces of text; ends soon after `stop` is set. LabError where the prompt does not fit."""
        ...

    def warm(self, messages: Messages) -> None:
        """Evaluate this beginning of a chat (the system prompt) now, so that the next stream starts behind it."""
        ...

    def close(self) -> None:
        """Free what was loaded; a stream that is still open ends."""
        ...


def open_engine(base: BaseModel, run: Run | None = None, kind: str = "auto", threads: int | None = None) -> Engine:
    """Load `base`, with `run`'s adapter or alone.

    Args:
        kind: `llama.cpp`, `transformers`, or `auto`: llama.cpp where the base has a GGUF and there is no CUDA GPU.
        threads: processor threads; None shares the cores among the engines at work at the moment.

    Raises:
        LabError: the base cannot write text, the run is unfinished, damaged or of another base, its adapter cannot be
            used by this engine, or what was loaded is not what the run's manifest says.
    """
    if kind not in KINDS:
        raise LabError(f"there is no engine {kind!r}; known: {', '.join(KINDS)}")
    if threads is not None and threads < 1:
        raise LabError(f"threads must be 1 or more, not {threads}")
    if not base.is_decoder:
        raise LabError(f"base model {base.name} cannot write text (it is not a causal language model)")
    if run is not None:
        _check_run(base, run)
    if kind == "auto":
        kind = "llama.cpp" if base.gguf is not None and not _has_cuda() and _is_plain_lora(run) else "transformers"
    if kind == "llama.cpp":
        from labkit.serving import llamacpp as engine
    else:
        from labkit.serving import transformers_engine as engine
    return engine.open_engine(base, run, threads)


def _is_plain_lora(run: Run | None) -> bool:
    """Whether llama.cpp can serve it: the base alone, or with an adapter that is LoRA and nothing more."""
    if run is None:
        return True
    path = run.adapter_folder / "adapter_config.json"
    if not path.exists():
        return False
    config = read_json(path)
    return config.get("peft_type") == "LORA" and not config.get("use_dora")


def damaged(run: Run, problems: list[str]) -> LabError:
    """What is said of a run that does not match its manifest."""
    return LabError(f"run {run.key} is damaged and not served: {'; '.join(problems)}; train it anew",
                    f"模型 {run.key} 的文件已损坏，不能使用（{'; '.join(problems)}）；请重新训练")


def _check_run(base: BaseModel, run: Run) -> None:
    trained_on = run.manifest()["base"]
    if trained_on["sha256"] != base.sha256:
        raise LabError(f"run {run.key} was trained on {trained_on['name']} ({short(trained_on['sha256'])}), "
                       f"not on {base.name} ({short(base.sha256)}); open it with its own base")
    problems = runs.verify(run)
    if problems:
        raise damaged(run, problems)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
